"""What a peer and we tell each other in IKE_AUTH beside the authentication itself.

It is read from the request that brings the SA payload, and answered in the response that brings ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ike.constants import PayloadType
from gateway.ike.exchanges import mobike
from gateway.ike.message import Payloads
from gateway.ike.payloads.notify import Notify

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def begin(sa: IkeSa, payloads: Payloads) -> None:
    """Read the first request.

    Raises:
        InvalidSyntax: a notify is malformed.
        UnexpectedNatDetected: the peer wants no NAT, and there is one.
    """
    mobike.begin(sa, [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)])


def announcement(sa: IkeSa) -> list[tuple[PayloadType, bytes]]:
    """For the last response of a peer that is in."""
    return mobike.announcement(sa)
