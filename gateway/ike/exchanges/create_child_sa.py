"""CREATE_CHILD_SA (RFC 7296 section 1.3): this responder has one child SA for each IKE SA and says so.

A client whose rekeying is refused keeps the SA until its lifetime ends and then signs in anew (section 1.3,
"a minimal implementation"). While our Delete of the IKE SA is on its way, the answer is TEMPORARY_FAILURE
(section 2.25).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ike.admission import admit
from gateway.ike.constants import ExchangeType, NotifyType
from gateway.ike.message import Payloads
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.states import State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def handle_request(sa: IkeSa, payloads: Payloads) -> None:
    """Answer that there will be none; raises InvalidSyntax on a malformed request."""
    admit(ExchangeType.CREATE_CHILD_SA, payloads, response=False, encrypted=True)
    closing = sa.state is State.CLOSING
    refusal = NotifyType.TEMPORARY_FAILURE if closing else NotifyType.NO_ADDITIONAL_SAS
    sa.respond(ExchangeType.CREATE_CHILD_SA, [notify_payload(refusal)])
