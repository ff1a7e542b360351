"""What tells one native client from another, and the parts of its messages that differ from run to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.peers.native.encoding import ALL_IPV4, ALL_IPV6, Payload


@dataclass(frozen=True)
class Init:
    """Of an IKE_SA_INIT request."""

    key_exchange: bytes
    """Body of the KE payload."""
    nonce: bytes
    nat_source: bytes
    nat_destination: bytes


@dataclass(frozen=True)
class FirstAuth:
    """Of the first IKE_AUTH request."""

    idi: bytes
    """Body of the IDi payload."""
    idr: bytes
    """Likewise; for those clients that send one."""
    chain_der: tuple[bytes, ...]
    auth: bytes
    """Body of the AUTH payload, empty for a client that wants EAP."""
    spi: bytes
    """Of the first child SA, inbound."""


@dataclass(frozen=True)
class NativeClient:
    """One client as it is configured in one way."""

    name: str
    looks_like: str
    """What `gateway.ike.fingerprint` should make of it."""
    groups: tuple[int, ...]
    """Of its KE payloads: the first one's, and whatever it can send where it is asked for another one."""
    nonce_bytes: int
    init: Callable[[Init], list[Payload]]
    first_auth: Callable[[FirstAuth], list[Payload]]
    child_offer: Callable[[bytes], bytes]
    """SA payload of a child SA, by its SPI; rekeying without KE sends the same."""
    message_bytes: int | None = 1248
    """Largest IKE message that it sends whole; None for one that knows no fragmentation."""
    hashes: bytes = b""
    """Its SIGNATURE_HASH_ALGORITHMS, empty where it sends none (RFC 7427)."""
    ranges: tuple[tuple[bytes, bytes], ...] = (ALL_IPV4, ALL_IPV6)
    """First and last addresses of its selectors, the same on both sides."""
    sends_idr: bool = True
    ecdsa: bool = True
    """Takes a gateway's certificate with an ECDSA key."""
    compares_idr: bool = False
    """Ends the handshake where our IDr is not the very one that it sent."""
