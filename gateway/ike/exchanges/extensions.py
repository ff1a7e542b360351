"""What a peer and we tell each other in IKE_AUTH beside the authentication itself.

It is read from the request that brings the SA payload, and answered in the response that brings ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ike.constants import NotifyType, PayloadType
from gateway.ike.exchanges import mobike, ticket_requests
from gateway.ike.message import Payloads
from gateway.ike.payloads.notify import Notify, notify_payload

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def begin(sa: IkeSa, payloads: Payloads) -> None:
    """Read the first request.

    Raises:
        InvalidSyntax: a notify is malformed.
        UnexpectedNatDetected: the peer wants no NAT, and there is one.
    """
    notifies = [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]
    mobike.begin(sa, notifies)
    sa.resumption.wanted = ticket_requests.is_asked(notifies)


def announcement(sa: IkeSa) -> list[tuple[PayloadType, bytes]]:
    """For the last response of a peer that is in."""
    payloads = mobike.announcement(sa)
    if sa.resumption.wanted:
        payloads.append(ticket_requests.answer(sa))
    window = sa.config.window_size
    if window > 1:
        widen_window(sa, window)
        payloads.append(notify_payload(NotifyType.SET_WINDOW_SIZE, window.to_bytes(4, "big")))
    return payloads


def widen_window(sa: IkeSa, window: int) -> None:
    """The peer may have so many requests outstanding (RFC 7296 section 2.3)."""
    sa.peer.widen(window)
    if sa.channel is not None:
        sa.channel.window = sa.peer.window
