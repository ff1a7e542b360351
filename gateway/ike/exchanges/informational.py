"""INFORMATIONAL (RFC 7296 sections 1.4 and 2.4): deletes, liveness checks, and errors that the peer reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ike.admission import admit
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from gateway.ike.events import ChildDeleted
from gateway.ike.message import Payloads
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.notify import Notify
from gateway.ike.states import UNFINISHED

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def handle_request(sa: IkeSa, payloads: Payloads, now: float) -> None:
    """Answer a verified request; an empty one is a liveness check. Raises InvalidSyntax."""
    payloads = admit(ExchangeType.INFORMATIONAL, payloads, response=False, encrypted=True)
    deletes = [Delete.parse(body) for body in payloads.all(PayloadType.DELETE)]
    notifies = [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]
    errors = [notify for notify in notifies if notify.is_known_error]
    if any(delete.protocol == ProtocolId.IKE for delete in deletes):
        sa.respond(ExchangeType.INFORMATIONAL, [])
        if sa.state in UNFINISHED:
            sa.report_failure("client-gave-up", "the client deleted the SA")
        sa.peer_deleted(now)
        return
    # A client that does not accept our proof in the last response says so here (section 2.21.2).
    rejected = any(notify.type == NotifyType.AUTHENTICATION_FAILED for notify in errors)
    if errors and (rejected or sa.state in UNFINISHED):
        sa.respond(ExchangeType.INFORMATIONAL, [])
        sa.report_failure("client-gave-up", f"the client gave up: {errors[0]}")
        sa.peer_deleted(now)
        return
    answer: list[tuple[PayloadType, bytes]] = []
    child = sa.child
    if child is not None:
        spi_out = child.spi_out.to_bytes(4, "big")
        if any(d.protocol == ProtocolId.ESP and spi_out in d.spis for d in deletes):
            deleted = Delete(ProtocolId.ESP, (child.spi_in.to_bytes(4, "big"),))
            answer.append((PayloadType.DELETE, deleted.to_bytes()))
            sa.child = None
            sa.emit(ChildDeleted(sa, child.spi_in))
    sa.respond(ExchangeType.INFORMATIONAL, answer)
