"""REDIRECT (RFC 5685): clients are sent to another gateway, since this one is about to stop or has enough of them.

IKE_SA_INIT:    ..., N(REDIRECT_SUPPORTED) or N(REDIRECTED_FROM)  ->  N(REDIRECT) with its nonce; nothing is kept
IKE_AUTH:       the last request                                  ->  our proof, N(REDIRECT); no child SA
INFORMATIONAL:  ours: N(REDIRECT)                                 ->  empty; then it moves and deletes the SA

Only gateways of the configuration are named, and only to clients that said that they understand it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

from gateway.ike.channel import OutPayloads
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.message import Payloads
from gateway.ike.path import Path
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.states import State
from gateway.ike.timers import Timer

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


class Willing:
    """What a client said in its first request."""

    __slots__ = ("came_from", "is_willing")

    def __init__(self, notifies: Sequence[Notify]) -> None:
        """Read it; raises InvalidSyntax where REDIRECTED_FROM is malformed."""
        self.is_willing = False
        """It understands REDIRECT."""
        self.came_from: GatewayId | None = None
        """The gateway that sent it here."""
        for notify in notifies:
            if notify.type == NotifyType.REDIRECT_SUPPORTED:
                self.is_willing = True
            elif notify.type == NotifyType.REDIRECTED_FROM:
                self.is_willing = True
                self.came_from, _ = GatewayId.parse(notify.data)


class Redirection:
    """Where clients are sent, and whether they are; the shell changes it while the responder works.

    Args:
        targets: the other gateways.
        in_ike_sa_init: send clients away in their first exchange; else only those that have proved who they are.
    """

    def __init__(self, targets: Sequence[GatewayId] = (), *, in_ike_sa_init: bool = True) -> None:
        self.targets = tuple(targets)
        self.in_ike_sa_init = in_ike_sa_init
        self.draining = False
        """No more clients are wanted."""
        self.overloaded = False
        """There are as many as there should be."""
        self._turn = count()

    def target(self, client: Willing | None, path: Path) -> GatewayId | None:
        """Where to send a client; None where it stays.

        None is sent back to where it came from, and none that was sent here is sent on because of load: what one
        gateway hands to another must not come round. Targets take turns, those of the client's IP version first.
        """
        if client is None or not client.is_willing or not (self.draining or self.overloaded):
            return None
        if client.came_from is not None and not self.draining:
            return None
        others = [target for target in self.targets if target != client.came_from]
        fitting = [target for target in others if target.ip_version in (None, path.ip_version)] or others
        return fitting[next(self._turn) % len(fitting)] if fitting else None


def in_ike_sa_init(target: GatewayId, nonce: bytes) -> bytes:
    """The data of the notify that answers a first request: whoever did not see that can't know its nonce."""
    return target.to_bytes() + nonce


def in_ike_auth(target: GatewayId) -> tuple[PayloadType, bytes]:
    """For the last response, instead of a child SA."""
    return notify_payload(NotifyType.REDIRECT, target.to_bytes())


class Redirect:
    """Send a client away that is in. It answers, moves, and deletes the SA; where it does not, we do.

    Args:
        target: where to.
    """

    exchange = ExchangeType.INFORMATIONAL
    moves_along = True

    def __init__(self, target: GatewayId) -> None:
        self._target = target

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """One notify."""
        return [notify_payload(NotifyType.REDIRECT, self._target.to_bytes())]

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """It knows; from now on it has so much time."""
        while sa.state is State.REPLACED and sa.successor is not None:
            sa = sa.successor
        if sa.state is State.ESTABLISHED:
            sa.timers.set(Timer.REDIRECTED, now + sa.config.redirect_patience_s)
            sa.owner.touch(sa)

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """Nothing depends on it."""
        return False
