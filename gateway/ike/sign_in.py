"""What AAA and the shell answer while a peer signs in; an answer that comes too late is ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.ike import driver
from gateway.ike.child import Assignment
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.errors import IkeError
from gateway.ike.events import CloseCause
from gateway.ike.exchanges import first_child, ike_auth
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.states import UNFINISHED, Input, State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

MIN_MSK_BYTES = 64


def eap_continue(sa: IkeSa, packet: bytes, now: float) -> None:
    """Send the next EAP-Request."""
    if sa.auth is not None and sa.state is State.EAP and sa.peer.in_progress:
        _step(sa, lambda: ike_auth.send_eap_request(sa, packet), now)


def eap_succeeded(sa: IkeSa, packet: bytes, msk: bytes, now: float, *, mutual: bool = False) -> None:
    """AAA says yes; the peer must now prove with AUTH that it holds the MSK.

    An MSK shorter than RFC 3748 section 7.10 has it is a fault of the backend: nobody enters with it. Neither does
    anybody by EAP alone and a method that leaves the gateway unproved (RFC 5998 section 4).

    Args:
        sa: whose conversation it is.
        packet: the EAP-Success.
        msk: what the method agreed on.
        now: monotonic seconds.
        mutual: the method has proved the gateway to the peer as well.
    """
    if sa.auth is not None and sa.state is State.EAP and sa.peer.in_progress:
        if len(msk) < MIN_MSK_BYTES:
            sa.report_failure("no-msk", f"AAA accepted, but with an MSK of {len(msk)} bytes")
            refuse(sa, now)
            return
        if sa.auth.eap_only and not mutual:
            sa.report_failure("gateway-unproved", "AAA accepted, but by a method that does not prove the gateway")
            refuse(sa, now)
            return
        sa.move(Input.EAP_SUCCESS)
        sa.auth.msk = msk
        sa.respond(ExchangeType.IKE_AUTH, [(PayloadType.EAP, packet)])


def eap_failed(sa: IkeSa, packet: bytes, now: float) -> None:
    """AAA says no, and has recorded why."""
    if sa.auth is not None and sa.state is State.EAP and sa.peer.in_progress:
        payloads = [(PayloadType.EAP, packet), notify_payload(NotifyType.AUTHENTICATION_FAILED)]
        sa.respond(ExchangeType.IKE_AUTH, payloads)
        sa.end(Input.REFUSED, CloseCause.REFUSED, now)


def authorised(sa: IkeSa, now: float) -> None:
    """AAA lets the peer in, which has proved itself."""
    if sa.auth is not None and sa.state is State.AUTHORISING:
        _step(sa, lambda: ike_auth.authorised(sa), now)


def refuse(sa: IkeSa, now: float) -> None:
    """AAA says no to the certificate, and has recorded why."""
    if sa.state in UNFINISHED and sa.peer.in_progress:
        sa.respond(ExchangeType.IKE_AUTH, [notify_payload(NotifyType.AUTHENTICATION_FAILED)])
        sa.end(Input.REFUSED, CloseCause.REFUSED, now)


def assign(sa: IkeSa, assignment: Assignment, now: float) -> None:
    """Addresses are found: negotiate the child SA."""
    if sa.auth is not None and sa.state is State.ASSIGNING and sa.assignment is None:
        sa.assignment = assignment
        try:
            first_child.negotiate(sa, sa.auth, assignment, now)
        except IkeError as error:
            first_child.refuse(sa, error, now)


def _step(sa: IkeSa, step: Callable[[], None], now: float) -> None:
    """Go on with IKE_AUTH after AAA's answer: errors as if it had come with the request."""
    try:
        step()
    except IkeError as error:
        driver.answer_error(sa, ExchangeType.IKE_AUTH, error, now)
