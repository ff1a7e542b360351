"""The MODP groups of RFC 3526, computed from the formula that the RFC gives for each prime.

p = 2^n - 2^(n-64) - 1 + 2^64 * ( floor(2^(n-130) * pi) + c )

`cryptography` means to give up Diffie-Hellman over finite fields one day and warns of it. The stock clients that
offer nothing else (Windows with its registry setting, Apple's manual setup, Android 11) will be there longer; the
lock file holds a version that has it, and only this file touches it.
"""

from __future__ import annotations

import warnings
from functools import cache

from cryptography.utils import CryptographyDeprecationWarning

from gateway.ike.constants import Group

with warnings.catch_warnings():
    # The module warns when these names are looked up, not when they are used.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.asymmetric.dh import (
        DHParameterNumbers,
        DHParameters,
        DHPrivateKey,
        DHPublicNumbers,
    )

GENERATOR = 2
_BITS_AND_CONSTANT: dict[Group, tuple[int, int]] = {
    Group.MODP_2048: (2048, 124476),
    Group.MODP_3072: (3072, 1690314),
    Group.MODP_4096: (4096, 240904),
}


def _arctan_inverse(x: int, scale: int) -> int:
    """floor-ish of scale * arctan(1/x), by Taylor series."""
    term = scale // x
    total, square, divisor, sign = term, x * x, 3, -1
    while term:
        term //= square
        total += sign * (term // divisor)
        divisor, sign = divisor + 2, -sign
    return total


def _pi_times_power_of_two(bits: int) -> int:
    """floor(pi * 2^bits), by Machin's formula with guard bits."""
    guard = 64
    scale = 1 << (bits + guard)
    pi = 4 * (4 * _arctan_inverse(5, scale) - _arctan_inverse(239, scale))
    return pi >> guard


@cache
def prime(group: Group) -> int:
    """The prime of a MODP group."""
    bits, constant = _BITS_AND_CONSTANT[group]
    pi = _pi_times_power_of_two(bits - 130)
    return (1 << bits) - (1 << (bits - 64)) - 1 + ((pi + constant) << 64)


@cache
def _parameters(group: Group) -> DHParameters:
    return _numbers(group).parameters()


@cache
def _numbers(group: Group) -> DHParameterNumbers:
    return DHParameterNumbers(prime(group), GENERATOR)


def public_bytes(group: Group) -> int:
    """Length of a public value."""
    return _BITS_AND_CONSTANT[group][0] // 8


def generate(group: Group) -> DHPrivateKey:
    """A fresh private key; raises KeyError for a group that is not implemented."""
    return _parameters(group).generate_private_key()


def exchange(group: Group, private_key: DHPrivateKey, peer_value: int) -> bytes:
    """g^ir at the group's length.

    Raises:
        ValueError: the peer's value is not acceptable to OpenSSL.
    """
    peer = DHPublicNumbers(peer_value, _numbers(group)).public_key()
    return private_key.exchange(peer).rjust(public_bytes(group), b"\0")
