"""NAT detection (RFC 7296 section 2.23, RFC 4555 section 3.8): both sides hash the addresses that they see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.ike.constants import NotifyType, PayloadType
from gateway.ike.path import Path, nat_detection_hash
from gateway.ike.payloads.notify import Notify, notify_payload

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def detect(sa: IkeSa, notifies: Iterable[Notify], path: Path, spi_r: bytes) -> None:
    """Compare the hashes that the peer made of its view with ours.

    A peer may send several source hashes, one for each of its addresses. Of a side for which it sends none, nothing
    new is known.

    Args:
        sa: takes the result.
        notifies: of the peer's request.
        path: where that came from.
        spi_r: the responder's SPI in that request's header, zero in the first one.
    """
    sources, destinations = [], []
    for notify in notifies:
        if notify.type == NotifyType.NAT_DETECTION_SOURCE_IP:
            sources.append(notify.data)
        elif notify.type == NotifyType.NAT_DETECTION_DESTINATION_IP:
            destinations.append(notify.data)
    if sources:
        sa.nat_remote = nat_detection_hash(sa.spi_i, spi_r, path.remote, path.remote_port) not in sources
    if destinations:
        sa.nat_local = nat_detection_hash(sa.spi_i, spi_r, path.local, path.local_port) not in destinations


def is_asked(notifies: Iterable[Notify]) -> bool:
    """Whether the peer wants to know our view."""
    return any(
        notify.type in (NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP)
        for notify in notifies
    )


def announcement(sa: IkeSa, path: Path) -> list[tuple[PayloadType, bytes]]:
    """Our view of a path, for the answer to a request that came along it."""
    return [
        notify_payload(kind, nat_detection_hash(sa.spi_i, sa.spi_r, address, port))
        for kind, address, port in (
            (NotifyType.NAT_DETECTION_SOURCE_IP, path.local, path.local_port),
            (NotifyType.NAT_DETECTION_DESTINATION_IP, path.remote, path.remote_port),
        )
    ]
