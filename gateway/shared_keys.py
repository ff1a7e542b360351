"""Reads the files of keys that are shared beforehand, and refuses those that would not keep anybody out."""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from core.errors import OstiaryError
from core.settings import GatewaySettings, PpkSettings, SitePeerSettings
from gateway.ike.config import SitePeer
from gateway.ike.constants import IdType
from gateway.ike.payloads.identification import Identification

LEAST_SECRET_BYTES = 20
LEAST_PPK_BYTES = 32
"""RFC 8784 section 6: 256 bits, for 128 against a quantum computer."""
MOST_SECRET_BYTES = 1024
_LEAST_BITS = {LEAST_SECRET_BYTES: 64.0, LEAST_PPK_BYTES: 96.0}
"""By how its bytes are distributed. Random text has more; what a person makes up, or repeats, often less."""
_OTHERS = 0o077
_MAKE_ONE = "make one: (umask 077; head -c 32 /dev/urandom | base64 > {file})"


class SharedKeyError(OstiaryError):
    """A key that can't be read, can be read by everybody, or can be guessed."""


def load_site_peers(settings: GatewaySettings) -> tuple[SitePeer, ...]:
    """The site peers with their secrets.

    Raises:
        SharedKeyError: a secret can't be used, or is that of two sites.
    """
    peers = [
        SitePeer(site.name, identity_of(site.identity), _read(site.secret_file, LEAST_SECRET_BYTES))
        for site in settings.site_peers
    ]
    _refuse_twice([(site, peer.secret) for site, peer in zip(settings.site_peers, peers, strict=True)])
    return tuple(peers)


def load_ppks(settings: GatewaySettings) -> dict[bytes, bytes]:
    """The post-quantum pre-shared keys by their names.

    Raises:
        SharedKeyError: one can't be used, or is there twice.
    """
    keys = [(ppk, _read(ppk.secret_file, LEAST_PPK_BYTES)) for ppk in settings.ppks]
    _refuse_twice(keys)
    return {ppk.name.encode(): key for ppk, key in keys}


def identity_of(text: str) -> Identification:
    """What a peer that calls itself so sends as IDi: an address, a mail address or a host name."""
    try:
        address = ip_address(text)
    except ValueError:
        return Identification(IdType.RFC822_ADDR if "@" in text else IdType.FQDN, text.encode())
    return Identification(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)


def _refuse_twice(keys: Sequence[tuple[SitePeerSettings | PpkSettings, bytes]]) -> None:
    owner_of: dict[bytes, str] = {}
    for owner, key in keys:
        other = owner_of.setdefault(key, owner.name)
        if other != owner.name:
            raise SharedKeyError(
                f"{other} and {owner.name} have the same key",
                fix="give each a key of its own: who has one must not be able to pass for the other",
            )


def _read(file: Path, least_bytes: int) -> bytes:
    """One key: text, `0x` and hexadecimal, or `0s` and base64, as strongSwan writes them; one line end is no part."""
    try:
        mode = file.stat().st_mode
        content = file.read_bytes()
    except OSError as error:
        raise SharedKeyError(
            f"the key file {file} can't be read: {error.strerror}", fix=_MAKE_ONE.format(file=file)
        ) from None
    if mode & _OTHERS:
        raise SharedKeyError(f"the key file {file} can be read by others than its owner", fix=f"chmod 600 {file}")
    key = _decode(content.removesuffix(b"\n").removesuffix(b"\r"), file)
    if not least_bytes <= len(key) <= MOST_SECRET_BYTES:
        raise SharedKeyError(
            f"the key in {file} has {len(key)} bytes, and not {least_bytes} to {MOST_SECRET_BYTES}",
            fix=_MAKE_ONE.format(file=file),
        )
    if _estimated_bits(key) < _LEAST_BITS[least_bytes]:
        raise SharedKeyError(f"the key in {file} can be guessed", fix=_MAKE_ONE.format(file=file))
    return key


def _decode(content: bytes, file: Path) -> bytes:
    try:
        if content.startswith(b"0x"):
            return binascii.unhexlify(content[2:])
        if content.startswith(b"0s"):
            return base64.b64decode(content[2:], validate=True)
    except binascii.Error:
        raise SharedKeyError(
            f"the key in {file} is neither text nor what its first two characters say", fix="0x: hex, 0s: base64"
        ) from None
    return content


def _estimated_bits(key: bytes) -> float:
    """Shannon's entropy of the bytes among themselves: an upper bound that words and repetitions stay below."""
    counts = Counter(key)
    return -sum(count * math.log2(count / len(key)) for count in counts.values())
