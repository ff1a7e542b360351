"""The keys that are shared beforehand, with other sites and against quantum computers."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from core.key_files import SharedKeyError, read_key_file
from core.settings import GatewaySettings, PpkSettings, SitePeerSettings
from gateway.ike.config import SitePeer
from gateway.ike.constants import IdType
from gateway.ike.payloads.identification import Identification

__all__ = ["SharedKeyError", "identity_of", "load_ppks", "load_site_peers"]

LEAST_SECRET_BYTES = 20
LEAST_PPK_BYTES = 32
"""RFC 8784 section 6: 256 bits, for 128 against a quantum computer."""
_LEAST_BITS = {LEAST_SECRET_BYTES: 64.0, LEAST_PPK_BYTES: 96.0}


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
    return read_key_file(file, least_bytes=least_bytes, least_bits=_LEAST_BITS[least_bytes])
