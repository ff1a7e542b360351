"""Keeps explanations of handshakes and counts them, within bounds that no stranger can widen.

What comes in is cut, what is like the last one becomes one row with it, and what is old or too much goes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from aaa.backend.identity import shown
from aaa.backend.requests import CountHandshakes, WriteReport
from aaa.interface import HandshakeReport, SignInContext
from aaa.models import HandshakeCounter, HandshakeRecord
from core.settings import GatewaySettings

SAME_AGAIN_WITHIN = timedelta(hours=1)
"""A client that tries again within it, and fails in the same way, gets no row of its own."""
PRUNE_EVERY = timedelta(minutes=10)
PRUNE_AFTER_ROWS = 64
COUNTERS_KEPT = timedelta(days=400)

_MOST_ADVICE, _LONGEST_ADVICE = 8, 640
_MOST_FACTS, _LONGEST_NAME, _LONGEST_FACT = 24, 48, 256
_MOST_MOMENTS, _LONGEST_MOMENT = 48, 200


class HandshakeLog:
    """Used by the database thread only.

    Args:
        settings: how much is kept, and for how long.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._kept = settings.handshake_reports_kept
        self._age = timedelta(days=settings.handshake_reports_days)
        self._new_rows = 0
        self._pruned_at: datetime | None = None

    def write(self, connection: Connection, requests: Sequence[WriteReport]) -> None:
        """Write explanations, in the caller's transaction."""
        for request in requests:
            row = _row(request.context, request.report, request.at)
            again = (
                update(HandshakeRecord)
                .where(HandshakeRecord.kind == row["kind"], HandshakeRecord.last_at > request.at - SAME_AGAIN_WITHIN)
                .values(**row, times=HandshakeRecord.times + 1)
            )
            if connection.execute(again).rowcount == 0:
                connection.execute(insert(HandshakeRecord).values(**row, first_at=request.at, times=1))
                self._new_rows += 1

    def count(self, connection: Connection, gateway: str, requests: Sequence[CountHandshakes]) -> None:
        """Add to the counters, in the caller's transaction."""
        upsert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        for request in requests:
            for kind, count in request.counts.items():
                statement = upsert(HandshakeCounter).values(
                    gateway=gateway,
                    day=request.at.astimezone(UTC).date(),
                    outcome=kind.outcome,
                    cause=kind.cause,
                    code=kind.code,
                    client=shown(kind.client, 64),
                    count=count,
                )
                statement = statement.on_conflict_do_update(
                    index_elements=[column.name for column in HandshakeCounter.__table__.primary_key],
                    set_={"count": HandshakeCounter.count + statement.excluded.count},
                )
                connection.execute(statement)

    def prune(self, connection: Connection, gateway: str, now: datetime) -> None:
        """Delete what is too old or too much, if it is time to look."""
        is_due = self._pruned_at is None or now - self._pruned_at >= PRUNE_EVERY
        if not is_due and self._new_rows < PRUNE_AFTER_ROWS:
            return
        self._pruned_at, self._new_rows = now, 0
        connection.execute(delete(HandshakeRecord).where(HandshakeRecord.last_at < now - self._age))
        for proven in (True, False):
            ours = HandshakeRecord.gateway == gateway, HandshakeRecord.proven.is_(proven)
            newest_first = HandshakeRecord.last_at.desc(), HandshakeRecord.id.desc()
            kept = select(HandshakeRecord.id).where(*ours).order_by(*newest_first).limit(self._kept)
            connection.execute(delete(HandshakeRecord).where(*ours, HandshakeRecord.id.not_in(kept)))
        oldest_day = (now - COUNTERS_KEPT).astimezone(UTC).date()
        connection.execute(delete(HandshakeCounter).where(HandshakeCounter.day < oldest_day))


def _row(context: SignInContext, report: HandshakeReport, at: datetime) -> dict[str, Any]:
    """The columns of a report, each text within its bounds and safe to show."""
    identity = shown(context.ike_identity, 256)
    same = [
        *(context.gateway, report.outcome, report.code, report.cause),
        *(context.client, context.remote_address, identity),
    ]
    return {
        "kind": hashlib.sha256(json.dumps(same).encode()).hexdigest()[:32],
        "gateway": context.gateway,
        "last_at": at,
        "outcome": report.outcome,
        "code": report.code,
        "cause": report.cause,
        "client": shown(context.client, 64),
        "remote_address": shown(context.remote_address, 64),
        "remote_port": report.remote_port,
        "identity": identity,
        "sign_in_id": context.sign_in_id,
        "proven": report.proven,
        "duration_ms": round(report.duration_s * 1000),
        "explanation": shown(report.explanation, 1024),
        "advice": [shown(step, _LONGEST_ADVICE) for step in report.advice[:_MOST_ADVICE]],
        "offered": shown(report.offered, 2048),
        "allowed": shown(report.allowed, 2048),
        "facts": [
            [shown(name, _LONGEST_NAME), shown(value, _LONGEST_FACT)] for name, value in report.facts[:_MOST_FACTS]
        ],
        "timeline": [
            [round(after_s * 1000), shown(what, _LONGEST_MOMENT)] for after_s, what in report.timeline[:_MOST_MOMENTS]
        ],
    }
