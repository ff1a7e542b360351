"""Handles a batch of requests in one transaction: few statements, whatever the number of requests.

Nothing about users, devices or certificates is remembered from one batch to the next, so that a revocation is
seen by the very next sign-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import bindparam, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from aaa import accounting, device_limit
from aaa.backend import lookups
from aaa.backend.deciding import Decider, Outcome
from aaa.backend.handshake_log import HandshakeLog
from aaa.backend.identity import user_candidates
from aaa.backend.requests import (
    CheckDevice,
    CloseGatewaySessions,
    CloseSession,
    CountHandshakes,
    DecideResumption,
    DecideSignIn,
    DecideSite,
    FindCodes,
    FoundUser,
    OpenSession,
    Reply,
    ReportedSession,
    Request,
    UpdateSession,
    WriteEvent,
    WriteReport,
)
from aaa.decision import SITE_METHOD, Rule
from aaa.interface import Refusal, TerminateCause
from aaa.models import Gateway
from core import audit
from core.audit import Entry
from core.clock import utc_now

SEEN_INTERVAL_S = 15.0

R = TypeVar("R", bound=Request)

_SEEN = update(Gateway).where(Gateway.name == bindparam("gateway"))


class Processor:
    """Handles batches; used by the database thread only.

    Args:
        rules: gives the access rules, in order, as they are now.
        devices_at_once: how many devices a user may have connected where the rule says nothing; None: any number.
        interim_interval_s: told to the gateway for each session.
        gateway: gives the name whose row says when this gateway was last seen, once it has said hello.
        wake: has a worker look at an item of the outbox, once it is committed.
        handshakes: keeps what is told of handshakes.
        now: the time.
    """

    def __init__(
        self,
        rules: Callable[[], Sequence[Rule]],
        devices_at_once: int | None,
        interim_interval_s: float,
        gateway: Callable[[], str],
        wake: Callable[[int], object],
        handshakes: HandshakeLog,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._decider = Decider(rules, interim_interval_s, now)
        self._devices_at_once = devices_at_once
        self._gateway = gateway
        self._wake = wake
        self._handshakes = handshakes
        self._now = now
        self._to_wake: list[int] = []
        self._seen_at: datetime | None = None

    def handle(self, session: Session, requests: Sequence[Request]) -> list[Reply]:
        """Do all that is asked, in the session's transaction; returns the answers to give after the commit."""
        connection = session.connection()
        # What a transaction asked for that did not come to its end, nobody needs to look at.
        self._to_wake.clear()
        replies: list[Reply] = []
        events: list[Entry] = []
        self._find_codes(connection, _of(requests, FindCodes), replies)
        outcome = Outcome(replies, events)
        self._decider.check_devices(connection, _of(requests, CheckDevice), outcome)
        self._decider.decide(connection, _of(requests, DecideSignIn), outcome)
        self._decider.decide_sites(_of(requests, DecideSite), outcome)
        self._decider.resume(connection, _of(requests, DecideResumption), outcome)
        self._open(session, _of(requests, OpenSession), replies, events)
        # Whatever came for one session came in the order start, interim, stop.
        updates = _of(requests, UpdateSession)
        accounting.update_sessions(connection, [(request.usage, request.at) for request in updates])
        stops = _of(requests, CloseSession)
        accounting.close_sessions(connection, [(request.usage, request.cause, request.at) for request in stops])
        replies.extend(update.written for update in updates if update.written is not None)
        replies.extend(stop.written for stop in stops if stop.written is not None)
        for emptied in _of(requests, CloseGatewaySessions):
            events.append(_none_left(session, emptied))
            replies.append(partial(emptied.recorded, True))
        for request in _of(requests, WriteEvent):
            events.append(request.entry)
            if request.reply is not None:
                replies.append(request.reply)
        audit.record_many(session, events)
        self._handshakes.write(connection, _of(requests, WriteReport))
        self._handshakes.count(connection, self._gateway(), _of(requests, CountHandshakes))
        if any(request.writes for request in requests):
            self._mark_gateway_seen(connection)
            self._handshakes.prune(connection, self._gateway(), self._now())
        return replies

    def committed(self) -> None:
        """The transaction is in the database: wake the workers that it has work for."""
        for outbox_id in self._to_wake:
            self._wake(outbox_id)
        self._to_wake.clear()

    def _find_codes(self, connection: Connection, requests: Sequence[FindCodes], replies: list[Reply]) -> None:
        if not requests:
            return
        candidates = [user_candidates(request.identity) for request in requests]
        found = lookups.codes_of_users(connection, {name for names in candidates for name in names})
        for request, own in zip(requests, candidates, strict=True):
            name = next((candidate for candidate in own if candidate in found), None)
            codes = tuple(found[name]) if name is not None else ()
            replies.append(partial(request.reply, FoundUser(name, codes)))

    def _open(
        self, session: Session, requests: Sequence[OpenSession], replies: list[Reply], events: list[Entry]
    ) -> None:
        """Between the decision and the start a device may have been revoked: decide again, under its lock."""
        requests = self._not_open_yet(session.connection(), requests, replies)
        if not requests:
            return
        accesses = [request.start.access for request in requests]
        places = [(request.start.gateway, request.start.remote_address) for request in requests]
        decided = self._decider.decide_again(session.connection(), accesses, places)
        starts = []
        limits: dict[str, int] = {}
        for request, result in zip(requests, decided, strict=True):
            start = request.start
            access = start.access
            if isinstance(result, Refusal):
                events.append(_start_refused(request, result))
            else:
                starts.append(start)
                limit = result.devices_at_once or self._devices_at_once
                if limit is not None and access.method != SITE_METHOD:
                    limits[access.user_name] = limit
            replies.append(partial(request.reply, result if isinstance(result, Refusal) else None))
        accounting.open_sessions(session.connection(), starts, self._now())
        surplus = device_limit.end_surplus(session, starts, limits)
        events.extend(surplus.events)
        self._to_wake.extend(surplus.outbox_ids)

    @staticmethod
    def _not_open_yet(
        connection: Connection, requests: Sequence[OpenSession], replies: list[Reply]
    ) -> list[OpenSession]:
        """Those that are no repetitions; whoever repeats a start has missed the answer, and gets another one."""
        repeatable = {request.start.session_id for request in requests if isinstance(request, ReportedSession)}
        known = accounting.known_sessions(connection, repeatable) if repeatable else set()
        new = []
        for request in requests:
            if request.start.session_id in known:
                replies.append(partial(request.reply, None))
                continue
            if isinstance(request, ReportedSession):
                known.add(request.start.session_id)
            new.append(request)
        return new

    def _mark_gateway_seen(self, connection: Connection) -> None:
        now, name = self._now(), self._gateway()
        if name and (self._seen_at is None or (now - self._seen_at).total_seconds() >= SEEN_INTERVAL_S):
            self._seen_at = now
            connection.execute(_SEEN, {"gateway": name, "last_seen_at": now})


def _of(requests: Iterable[Request], kind: type[R]) -> list[R]:
    return [request for request in requests if isinstance(request, kind)]


def _none_left(session: Session, request: CloseGatewaySessions) -> Entry:
    closed = accounting.close_left_open(session, request.gateway, request.cause)
    return Entry(
        audit.Actor("system", request.gateway),
        "gateway.start" if request.cause is TerminateCause.NAS_REBOOT else "gateway.stop",
        f"gateway:{request.gateway}",
        detail={"sessions_left_open": closed},
    )


def _start_refused(request: OpenSession, refusal: Refusal) -> Entry:
    start = request.start
    return Entry(
        audit.Actor("device", start.access.device_name),
        "session.refuse",
        f"gateway:{start.gateway}",
        outcome="refused",
        reason=refusal.reason,
        detail={
            "code": refusal.code,
            "session_id": start.session_id,
            "gateway": start.gateway,
            "remote_address": start.remote_address,
            "method": start.access.method,
            "user": start.access.user_name,
        },
    )
