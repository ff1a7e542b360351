"""Keys and certificates for negotiations, made once: one of each kind that a gateway or a client may have."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.ike.authentication import PrivateKey
from gateway.ike.config import Credential
from tests.unit.aaa.eap.authority import CLIENT, SERVER, house, issue

KeyKind = Literal["rsa", "p256", "p384", "p521", "ed25519"]
KEY_KINDS: tuple[KeyKind, ...] = ("rsa", "p256", "p384", "p521", "ed25519")

HOUSE_CA = b"\xca" * 20
"""Stands for the hash of the key of the CA above the gateway's certificates."""

_CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}


@dataclass(frozen=True)
class ClientCredential:
    """A client's certificate chain with its key."""

    chain_der: tuple[bytes, ...]
    private_key: PrivateKey


@functools.cache
def private_key(kind: KeyKind, owner: str) -> PrivateKey:
    """A key of one kind; another for each owner."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return Ed25519PrivateKey.generate()
    return ec.generate_private_key(_CURVES[kind])


@functools.cache
def gateway_credential(kind: KeyKind = "p256") -> Credential:
    """How the gateway proves itself, with an intermediate certificate in its chain."""
    key = private_key(kind, "gateway")
    issued = issue("gateway.example", house().issuing, usage=SERVER, key=key)
    return Credential(tuple(issued.chain), key, issuers=(HOUSE_CA,))


@functools.cache
def client_credential(kind: KeyKind = "p256") -> ClientCredential:
    """A device with a certificate of the house."""
    key = private_key(kind, "client")
    issued = issue("laptop-1", house().issuing, usage=CLIENT, key=key)
    return ClientCredential(tuple(issued.chain), key)
