"""IKE_SESSION_RESUME (RFC 5723 section 4.3): instead of IKE_SA_INIT, for a client that has a ticket.

request:  [N(COOKIE)], Ni, N(TICKET_OPAQUE), [N(NAT_DETECTION_*)], [N(IKEV2_FRAGMENTATION_SUPPORTED)],
          [N(REDIRECT_SUPPORTED)]
response: Nr, and each of the bracketed ones in the middle that the peer sent; or N(TICKET_NACK)

The keys come from the old SK_d and both nonces, so IKE_AUTH shows who has the old SA, not who has seen the ticket.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.config import ResponderConfig
from gateway.ike.constants import ExchangeType, Flag, Integ, NotifyType, PayloadType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.exchanges import nat
from gateway.ike.exchanges.child_sa import NONCE_BYTES, checked_nonce
from gateway.ike.message import Payloads, clear_message
from gateway.ike.path import Path
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.policy import ProposalPolicy
from gateway.ike.proposals import IkeSuite
from gateway.ike.sa import IkeSa
from gateway.ike.ticket import Ticket, TicketRefused
from gateway.ike.timers import Timer
from gateway.ike.trace import Trace


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A parsed request; nothing in it is authenticated yet."""

    nonce: bytes
    ticket: bytes
    notifies: tuple[Notify, ...]


def parse_request(payloads: Payloads) -> ResumeRequest:
    """Decode the admitted payloads.

    Raises:
        InvalidSyntax: malformed, or without a ticket.
    """
    notifies = tuple(map(Notify.parse, payloads.all(PayloadType.NOTIFY)))
    tickets = [notify.data for notify in notifies if notify.type == NotifyType.TICKET_OPAQUE]
    if len(tickets) != 1:
        raise InvalidSyntax("IKE_SESSION_RESUME without a ticket")
    return ResumeRequest(checked_nonce(payloads.require(PayloadType.NONCE)), tickets[0], notifies)


def redeem(request: ResumeRequest, config: ResponderConfig) -> Ticket:
    """The ticket, if it still fits this gateway.

    Raises:
        TicketRefused: it is not ours or too old, or configuration has changed what it stands on.
    """
    if config.tickets is None:
        raise TicketRefused("no tickets are given out here")
    ticket = config.tickets.redeem(request.ticket)
    if not _is_allowed(ticket.suite, config.policy):
        raise TicketRefused(f"suite {ticket.suite} is not allowed any more")
    if Identification.parse(ticket.idr_body) not in config.identities:
        raise TicketRefused("the gateway has another name now")
    return ticket


def _is_allowed(suite: IkeSuite, policy: ProposalPolicy) -> bool:
    return (
        (suite.encr, suite.key_bits) in policy.encr
        and suite.prf in policy.prf
        and (suite.integ is Integ.NONE or suite.integ in policy.integ)
        and suite.group in policy.groups
        and set(suite.additional) <= set(policy.additional)
        and (bool(suite.additional) or not policy.hybrid_only)
    )


def accept(sa: IkeSa, request: ResumeRequest, ticket: Ticket, data: bytes, path: Path, now: float) -> bytes:
    """Fill the new SA and return the response."""
    sa.nonce_i, sa.nonce_r = request.nonce, sa.random(NONCE_BYTES)
    sa.resumption.redeemed = ticket
    sa.timers.set(Timer.HALF_OPEN, now + sa.config.half_open_timeout_s)
    sa.trace = Trace(now, path.local_port, ExchangeType.IKE_SESSION_RESUME)
    nat.detect(sa, request.notifies, path, bytes(8))
    payloads = [(PayloadType.NONCE, sa.nonce_r)]
    if nat.is_asked(request.notifies):
        payloads += nat.announcement(sa, path)
    if any(notify.type == NotifyType.IKEV2_FRAGMENTATION_SUPPORTED for notify in request.notifies):
        sa.peer_fragments = True
        payloads.append(notify_payload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    response = clear_message(sa.spi_i, sa.spi_r, ExchangeType.IKE_SESSION_RESUME, Flag.RESPONSE, 0, payloads)
    sa.init_request, sa.init_response = data, response
    sa.peer.begin(0, data)
    sa.peer.answer(0, (response,))
    return response
