"""Which refused sign-ins get an audit event: in a flood not all of them, and the next event says how many did not.

Who is refused has proved nothing and may come again, from as many addresses as he likes. The disk has an end, and
a full one would keep the security team from revoking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from aaa.backend.events import password_spraying, refused
from aaa.backend.failure_limit import FailureLimit
from aaa.backend.identity import limiter_key
from aaa.backend.requests import Request, WriteEvent
from aaa.backend.spraying import SprayingWatch
from aaa.interface import Refusal, SignInContext
from core.clock import utc_now
from core.rate import TokenBucket

EVENTS_PER_S, EVENTS_BURST = 5.0, 1000.0
"""At this rate a flood of a whole day writes some 400 MB; the burst is for the morning after a mistake of ours."""

TOO_MANY_FAILURES = Refusal(
    "too-many-failures", "too many failed sign-ins from this address or for this user; wait a minute"
)

_log = structlog.get_logger(__name__)

Submit = Callable[[Request], None]
"""Hands a request to the database thread."""


class RefusalLog:
    """Writes the events; used on the caller's thread.

    Args:
        submit: hands a request to the database thread.
        limit: says which of the refusals that it causes itself is the first one.
        spraying: sees what many refusals are together.
        now: monotonic seconds.
    """

    def __init__(self, submit: Submit, limit: FailureLimit, spraying: SprayingWatch, now: float) -> None:
        self._submit = submit
        self._limit = limit
        self._spraying = spraying
        self._events = TokenBucket(EVENTS_PER_S, EVENTS_BURST, now)

    def write(
        self,
        context: SignInContext,
        refusal: Refusal,
        now: float,
        *,
        identity: str,
        method: str = "",
        told: Callable[[Refusal], None] | None = None,
    ) -> None:
        """Write the event of a refusal.

        Args:
            context: the circumstances.
            refusal: code and reason.
            now: monotonic seconds.
            identity: what the peer called itself.
            method: how it tried.
            told: called with the refusal once the event is written; at once, where there will be none.
        """
        sprayed = self._spraying.refused(refusal.code, limiter_key(identity), context.remote_address, now)
        if sprayed is not None:
            _log.warning("password spraying", users=sprayed.users, addresses=sprayed.addresses)
            self._submit(WriteEvent(password_spraying(context, sprayed.users, sprayed.addresses, utc_now())))
        if not self._is_wanted(context, refusal, identity, now):
            if told is not None:
                told(replace(refusal, recorded=False))
            return
        left_out = self._events.reset_missed()
        detail = {"refusals_left_out_before": str(left_out)} if left_out else None
        event = refused(context, refusal, identity=identity, method=method, detail=detail, at=utc_now())
        self._submit(WriteEvent(event, partial(told, refusal) if told is not None else None))

    def _is_wanted(self, context: SignInContext, refusal: Refusal, identity: str, now: float) -> bool:
        if refusal.code == TOO_MANY_FAILURES.code and not self._limit.first_of_block(
            limiter_key(identity), context.remote_address, now
        ):
            self._events.miss()
            return False
        return self._events.take(now)
