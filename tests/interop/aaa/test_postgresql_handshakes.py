"""Explanations and counts of handshakes on a real PostgreSQL: written, made one, counted up, pruned, found again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from aaa.backend.handshake_log import HandshakeLog
from aaa.backend.requests import CountHandshakes, WriteReport
from aaa.handshakes import HandshakeFilter, count_handshakes, get_handshake, recent_handshakes
from core.runtime import Runtime
from core.settings import Settings
from tests.interop.core import test_postgresql as postgresql
from tests.unit.aaa.driver import context
from tests.unit.aaa.test_handshakes import ESTABLISHED, FAILED, MAY, REPORT

pytestmark = pytest.mark.interop

server = postgresql.server
settings = postgresql.settings


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """An installation whose gateway keeps few explanations."""
    few = settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"handshake_reports_kept": 10})})
    with Runtime.open(few) as runtime:
        yield runtime


def test_explanations(runtime: Runtime) -> None:
    log, where = HandshakeLog(runtime.settings.gateway), context(sign_in_id="first")
    with runtime.database.transaction() as session:
        connection = session.connection()
        log.write(connection, [WriteReport(where, REPORT, MAY)])
        again = replace(where, sign_in_id="second", ike_identity="10.0.0.5")
        log.write(connection, [WriteReport(again, replace(REPORT, explanation="nasty \0 \ud800"), MAY)])
    with runtime.database.reading() as session:
        row = get_handshake(session, "second")
        assert (row.times, row.first_at, row.advice) == (2, MAY, list(REPORT.advice))
        assert get_handshake(session, str(row.id)) is row
        assert recent_handshakes(session, HandshakeFilter(client="STRONG", remote="192.0.2.*", since=MAY)) == [row]
    with runtime.database.transaction() as session:
        connection = session.connection()
        later = MAY + timedelta(minutes=20)
        flood = [WriteReport(context(remote_address=f"198.51.100.{n}"), REPORT, later) for n in range(100)]
        log.write(connection, flood)
        log.prune(connection, "gateway-1", later + timedelta(minutes=20))
    with runtime.database.reading() as session:
        kept = recent_handshakes(session, HandshakeFilter(), limit=1000)
        assert [row.remote_address for row in kept] == [f"198.51.100.{n}" for n in range(99, 89, -1)]


def test_counts(runtime: Runtime) -> None:
    log = HandshakeLog(runtime.settings.gateway)
    for _ in range(2):
        with runtime.database.transaction() as session:
            log.count(session.connection(), "gateway-1", [CountHandshakes({FAILED: 2, ESTABLISHED: 1}, MAY)])
    with runtime.database.reading() as session:
        assert [total.count for total in count_handshakes(session, MAY.date())] == [4, 2]
