"""When clients are sent to other gateways (RFC 5685): above a number of sessions, and while this gateway drains.

A gateway that drains takes in no client that it can send elsewhere, and sends those that are in away, so many a
second: the others have to take them all in. Clients that do not understand it stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.ike.exchanges.redirect import Redirection
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.responder import Responder
from gateway.ike.sa import IkeSa
from gateway.sessions import Session, Sessions

STEP_S = 0.5


class Balance:
    """Moves clients of one gateway.

    Args:
        loop: where the pace is kept.
        responder: sends new clients away.
        sessions: those that are in.
        send_away: tells one of them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        responder: Responder,
        sessions: Sessions,
        send_away: Callable[[Session, GatewayId], None],
    ) -> None:
        self._loop = loop
        self._responder = responder
        self._sessions = sessions
        self._send_away = send_away
        self._limit: int | None = None
        self._per_step = 1
        self._timer: asyncio.TimerHandle | None = None
        self._told: set[str] = set()
        """Ids of the sessions that were told since the draining began."""

    def configure(
        self, targets: Sequence[str], *, in_ike_sa_init: bool, session_limit: int | None, drained_per_s: float
    ) -> None:
        """Take settings, at the start or later.

        Args:
            targets: the other gateways, addresses or names.
            in_ike_sa_init: send clients away in their first exchange, else after they have proved who they are.
            session_limit: from so many sessions on; None: never.
            drained_per_s: how many of those that are in, while it drains.
        """
        was = self._responder.redirection
        redirection = Redirection([GatewayId.of(target) for target in targets], in_ike_sa_init=in_ike_sa_init)
        redirection.draining = was.draining and bool(targets)
        self._responder.redirection = redirection
        self._limit = session_limit
        self._per_step = max(1, round(drained_per_s * STEP_S))
        self.count()

    def count(self) -> None:
        """A session has begun or ended."""
        limit = self._limit
        self._responder.redirection.overloaded = limit is not None and len(self._sessions) >= limit

    def target(self, sa: IkeSa) -> GatewayId | None:
        """Where to send a client that has just proved who it is; None where it stays."""
        return self._responder.redirection.target(sa.willing, sa.path)

    def drain(self, draining: bool) -> int | None:
        """Begin to drain, or take in clients again.

        Returns:
            How many of those that are in are sent away; None where there is nowhere to send them.
        """
        redirection = self._responder.redirection
        if draining and not redirection.targets:
            return None
        redirection.draining = draining
        self.stop()
        self._told.clear()
        if not draining:
            return 0
        self._timer = self._loop.call_later(0.0, self._step)
        return len(self._leaving())

    def stop(self) -> None:
        """Send nobody away any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leaving(self) -> list[Session]:
        """Those that can be sent away and were not told yet, oldest first."""
        return [
            session
            for session in self._sessions
            if session.started
            and session.session_id not in self._told
            and session.sa.willing is not None
            and session.sa.willing.is_willing
        ]

    def _step(self) -> None:
        self._timer = self._loop.call_later(STEP_S, self._step)
        for session in self._leaving()[: self._per_step]:
            target = self.target(session.sa)
            if target is not None:
                self._told.add(session.session_id)
                self._send_away(session, target)
