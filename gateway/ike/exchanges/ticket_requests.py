"""Asking for a ticket (RFC 5723 section 4.1): in IKE_AUTH, when the IKE SA is rekeyed, or at any time.

N(TICKET_REQUEST)  ->  N(TICKET_LT_OPAQUE) with lifetime 4 and ticket, or N(TICKET_NACK)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.ike.constants import NotifyType, PayloadType
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.ticket import ID_BYTES, Ticket

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def is_asked(notifies: Iterable[Notify]) -> bool:
    """Whether a request asks for a ticket."""
    return any(notify.type == NotifyType.TICKET_REQUEST for notify in notifies)


def answer(sa: IkeSa) -> tuple[PayloadType, bytes]:
    """A ticket for an SA that is up, or the word that there is none."""
    keeper, keys, own = sa.config.tickets, sa.keys, sa.resumption
    if keeper is not None and keys is not None and own.grant is not None:
        ticket = Ticket(sa.random(ID_BYTES), own.idi_body, own.idr_body, sa.suite, keys.d, own.grant)
        issued = keeper.issue(ticket)
        if issued is not None:
            lifetime_s, data = issued
            return notify_payload(NotifyType.TICKET_LT_OPAQUE, lifetime_s.to_bytes(4, "big") + data)
    return notify_payload(NotifyType.TICKET_NACK)
