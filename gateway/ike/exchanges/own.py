"""What every exchange that we begin has in common: it waits for its turn, asks, and is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.ike.channel import OutPayloads
from gateway.ike.constants import ExchangeType, NotifyType
from gateway.ike.message import Payloads

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

RETRIED = (NotifyType.TEMPORARY_FAILURE, NotifyType.STATE_NOT_FOUND)
"""Answers after which an exchange is begun anew a little later."""
MAX_RETRIES = 10


class OwnExchange(Protocol):
    """One request of ours; only one of an SA's is outstanding at a time (RFC 7296 section 2.3)."""

    @property
    def exchange(self) -> ExchangeType:
        """Of the next request."""

    moves_along: bool
    """Where the IKE SA is rekeyed before its turn has come, the new SA begins it."""

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """Its turn has come: the request, or None where it is not needed any more."""

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """The authentic response; raises InvalidSyntax where it makes no sense, which ends the SA."""

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """The SA is being closed while the request is outstanding; whether its answer is to be given to it still."""
