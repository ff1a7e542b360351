"""The database thread: batches, order, and what happens while the database can't be used."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import structlog
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from aaa.backend.requests import (
    BROKEN,
    UNAVAILABLE,
    CloseSession,
    FindCodes,
    FoundUser,
    OpenSession,
    Reply,
    Request,
    UpdateSession,
    WriteEvent,
    WriteReport,
)
from aaa.backend.worker import LARGEST_BATCH, DatabaseWorker, is_outage
from aaa.interface import EapAccepted, EapRejected, GatewayHello, Refusal, TerminateCause
from aaa.models import TunnelSession
from core.audit import SYSTEM, AuditEvent, Entry, verify_chain
from core.clock import utc_now
from core.database import DatabaseError
from core.runtime import Runtime
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver, context, usage
from tests.unit.aaa.people import enrol
from tests.unit.aaa.test_handshakes import REPORT

OUTAGE = OperationalError("BEGIN", {}, sqlite3.OperationalError("database is locked"))


class _Script:
    """A `handle` that records its batches and can be told to wait and to fail."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []
        self.fail: Callable[[Sequence[Request]], Exception | None] = lambda _: None
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()

    def __call__(self, session: Session, requests: Sequence[Request]) -> list[Reply]:
        self.entered.set()
        assert self.go.wait(10)
        error = self.fail(requests)
        if error is not None:
            raise error
        self.batches.append(list(requests))
        replies: list[Reply] = []
        for request in requests:
            if isinstance(request, FindCodes):
                replies.append(lambda request=request: request.reply(FoundUser(request.identity, ())))  # type: ignore[misc]
            elif isinstance(request, WriteEvent) and request.reply is not None:
                replies.append(request.reply)
        return replies

    @property
    def handled(self) -> list[Request]:
        return [request for batch in self.batches for request in batch]


class _Bench:
    """A worker on a script, and the answers that came back."""

    def __init__(self, runtime: Runtime, **options: Any) -> None:
        self.script = _Script()
        self.posted: SimpleQueue[Reply] = SimpleQueue()
        self.worker = DatabaseWorker(runtime.database, self.script, self.posted.put, retry_waits_s=(0.01,), **options)
        self.answers: list[tuple[str, str]] = []

    def find(self, name: str, *, wanted: bool = True) -> FindCodes:
        def reply(answer: FoundUser | Refusal) -> None:
            self.answers.append((name, answer.code if isinstance(answer, Refusal) else "found"))

        return FindCodes(name, reply, lambda: wanted)

    def wait_for(self, count: int) -> list[tuple[str, str]]:
        while len(self.answers) < count:
            self.posted.get(timeout=10)()
        return self.answers


@pytest.fixture
def bench(runtime: Runtime) -> Iterator[_Bench]:
    bench = _Bench(runtime)
    yield bench
    bench.script.go.set()
    bench.script.fail = lambda _: None
    bench.worker.stop(5)


def _update(session_id: str, count: int) -> UpdateSession:
    return UpdateSession(usage(session_id, count), utc_now())


def _close(session_id: str, count: int) -> CloseSession:
    return CloseSession(usage(session_id, count), TerminateCause.USER_REQUEST, utc_now())


def test_what_waits_shares_a_transaction(bench: _Bench) -> None:
    bench.script.go.clear()
    bench.worker.start()
    bench.worker.submit(bench.find("first"))
    assert bench.script.entered.wait(10)
    for number in range(LARGEST_BATCH + 10):
        bench.worker.submit(bench.find(str(number)))
    bench.script.go.set()
    answers = bench.wait_for(LARGEST_BATCH + 11)
    assert [len(batch) for batch in bench.script.batches] == [1, LARGEST_BATCH, 10]
    assert answers == [("first", "found"), *((str(number), "found") for number in range(LARGEST_BATCH + 10))]


def test_what_nobody_waits_for_is_not_handled(bench: _Bench) -> None:
    bench.worker.submit(bench.find("gone", wanted=False))
    bench.worker.submit(bench.find("here"))
    bench.worker.start()
    assert bench.wait_for(1) == [("here", "found")]
    assert len(bench.script.handled) == 1


def test_an_outage_refuses_who_waits_and_keeps_what_must_be_written(bench: _Bench) -> None:
    bench.script.fail = lambda _: OUTAGE
    told: list[str] = []
    durable = [_update("s", 1), WriteEvent(Entry(SYSTEM, "a.b", "c:d"), lambda: told.append("x")), _close("s", 2)]
    with structlog.testing.capture_logs() as logs:
        bench.worker.start()
        for request in durable:
            bench.worker.submit(request)
        bench.worker.submit(bench.find("alice"))
        assert bench.wait_for(1) == [("alice", "backend-unavailable")]
        while not told:
            bench.posted.get(timeout=10)()
        bench.script.fail = lambda _: None
        bench.worker.submit(bench.find("bob"))
        assert bench.wait_for(2)[1] == ("bob", "found")
    kept = [request for request in bench.script.handled if request.durable]
    assert kept == durable, "written once, in their order"
    assert told == ["x"], "who waits for an event is told once"
    assert [entry["log_level"] for entry in logs] == ["error", "warning"]
    assert "refused until it is back" in logs[0]["event"]
    assert logs[0]["error"] == "database is locked"


def test_an_outage_is_logged_once_however_long_it_lasts(bench: _Bench) -> None:
    bench.script.fail = lambda _: OUTAGE
    with structlog.testing.capture_logs() as logs:
        bench.worker.start()
        for number in range(20):
            bench.worker.submit(bench.find(str(number)))
            bench.wait_for(number + 1)
    assert len(logs) == 1


def test_durable_requests_are_tried_again_by_themselves(bench: _Bench) -> None:
    attempts = []

    def fail(requests: Sequence[Request]) -> Exception | None:
        attempts.append(len(requests))
        return OUTAGE if len(attempts) < 4 else None

    bench.script.fail = fail
    bench.worker.start()
    bench.worker.submit(_close("s", 1))
    assert bench.worker.stop(10) == 0
    assert attempts == [1, 1, 1, 1]
    assert len(bench.script.handled) == 1


def test_orderly_stop_writes_everything(bench: _Bench) -> None:
    bench.script.go.clear()
    bench.worker.start()
    requests = [_close(str(number), 1) for number in range(3 * LARGEST_BATCH)]
    for request in requests:
        bench.worker.submit(request)
    threading.Timer(0.05, bench.script.go.set).start()
    assert bench.worker.stop(10) == 0
    assert bench.script.handled == requests
    assert bench.worker.stop(10) == 0


def test_a_stop_gives_up_in_the_end_and_says_what_is_lost(bench: _Bench) -> None:
    bench.script.fail = lambda _: OUTAGE
    bench.worker.start()
    for number in range(3):
        bench.worker.submit(_close(str(number), 1))
    with structlog.testing.capture_logs() as logs:
        started = time.monotonic()
        assert bench.worker.stop(0.1) == 3
    assert time.monotonic() - started < 5
    assert logs[-1]["lost"] == 3


def test_a_backlog_longer_than_a_batch_keeps_its_order(bench: _Bench) -> None:
    bench.script.fail = lambda _: OUTAGE
    bench.worker.start()
    requests: list[Request] = [_update("s", number) for number in range(LARGEST_BATCH + 50)]
    for request in requests:
        bench.worker.submit(request)
    bench.worker.submit(bench.find("probe"))
    bench.wait_for(1)
    bench.script.fail = lambda _: None
    last = _close("s", 1000)
    bench.worker.submit(last)
    bench.worker.submit(bench.find("alice"))
    assert bench.wait_for(2)[1] == ("alice", "found")
    assert bench.worker.stop(10) == 0
    durable = [request for request in bench.script.handled if request.durable]
    assert durable == [*requests, last]


def test_a_full_backlog_drops_what_matters_least(runtime: Runtime) -> None:
    bench = _Bench(runtime, longest_backlog=10)
    bench.script.fail = lambda _: OUTAGE
    bench.worker.start()
    for count in range(50):
        bench.worker.submit(_update("s", count))
        bench.worker.submit(WriteEvent(Entry(SYSTEM, "a.b", f"c:{count}")))
        bench.worker.submit(_close(str(count), 1))
        bench.worker.submit(WriteReport(context(), REPORT, utc_now()))
    bench.worker.submit(bench.find("alice"))
    with structlog.testing.capture_logs():
        bench.wait_for(1)
        bench.script.fail = lambda _: None
        assert bench.worker.stop(10) == 0
    kinds = [type(request) for request in bench.script.handled]
    assert kinds.count(CloseSession) == 50, "the end of a session is never dropped"
    assert kinds.count(WriteEvent) <= 11
    assert kinds.count(WriteReport) <= 10, "explanations go before what has to stay"
    gap = [request.entry for request in bench.script.handled if isinstance(request, WriteEvent)][-1]
    assert gap.action == "audit.gap"
    assert gap.detail["lost"] + kinds.count(WriteEvent) - 1 == 50


def test_a_full_queue_refuses_sign_ins_and_takes_accounting(runtime: Runtime) -> None:
    bench = _Bench(runtime, longest_queue=3)
    for name in ("a", "b", "c", "d"):
        bench.worker.submit(bench.find(name))
    bench.worker.submit(_close("s", 1))
    assert bench.wait_for(1) == [("d", "backend-unavailable")]
    bench.worker.start()
    assert bench.wait_for(4)[1:] == [("a", "found"), ("b", "found"), ("c", "found")]
    assert bench.worker.stop(5) == 0
    assert len(bench.script.handled) == 4


def test_one_bad_request_is_found_among_the_good_ones(bench: _Bench) -> None:
    bad = bench.find("bad")
    poison = _close("poison", 1)
    broken = IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE"))
    bench.script.fail = lambda requests: broken if bad in requests or poison in requests else None
    good = _close("good", 1)
    for request in (bench.find("a"), poison, bad, good, bench.find("b")):
        bench.worker.submit(request)
    with structlog.testing.capture_logs() as logs:
        bench.worker.start()
        answers = bench.wait_for(3)
        assert bench.worker.stop(5) == 0
    assert sorted(answers) == [("a", "found"), ("b", "found"), ("bad", "internal-error")]
    assert good in bench.script.handled
    assert {entry["request"] for entry in logs if entry["event"] == "a request failed"} == {
        "FindCodes",
        "CloseSession",
    }


def test_an_outage_while_looking_for_the_bad_one_loses_nothing(bench: _Bench) -> None:
    calls: list[int] = []

    def fail(requests: Sequence[Request]) -> Exception | None:
        calls.append(len(requests))
        if len(calls) == 1:
            return IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE"))
        return OUTAGE if len(calls) == 3 else None

    bench.script.fail = fail
    requests = [_close(name, 1) for name in "abc"]
    for request in requests:
        bench.worker.submit(request)
    with structlog.testing.capture_logs():
        bench.worker.start()
        assert bench.worker.stop(10) == 0
    assert bench.script.handled == requests
    assert calls[:3] == [3, 1, 1]


def test_a_receiver_that_fails_does_not_harm_the_others(bench: _Bench) -> None:
    def broken(_: FoundUser | Refusal) -> None:
        raise ValueError("the receiver's own fault")

    bench.worker.submit(FindCodes("broken", broken, lambda: True))
    bench.worker.submit(bench.find("alice"))
    with structlog.testing.capture_logs() as logs:
        bench.worker.start()
        assert bench.wait_for(1) == [("alice", "found")]
    assert logs[-1]["event"] == "the receiver of an answer failed"


def test_a_loop_that_is_gone_does_not_end_the_thread(runtime: Runtime) -> None:
    script = _Script()

    def closed(_: Reply) -> None:
        raise RuntimeError("Event loop is closed")

    worker = DatabaseWorker(runtime.database, script, closed)
    worker.start()
    worker.submit(FindCodes("a", lambda _: None, lambda: True))
    worker.submit(_close("s", 1))
    assert worker.stop(5) == 0
    assert len(script.handled) == 2


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (OUTAGE, True),
        (OSError("unreachable"), True),
        (IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE")), False),
        (KeyError("bug"), False),
    ],
)
def test_what_is_an_outage(error: Exception, outage: bool) -> None:
    assert is_outage(error) is outage


def test_a_session_that_can_not_be_written_is_refused() -> None:
    told: list[Refusal | None] = []
    opening = OpenSession.__new__(OpenSession)
    opening.reply = told.append
    reply = opening.refused(BROKEN)
    assert reply is not None
    reply()
    assert told == [BROKEN]


# --- with the real backend and a real outage ----------------------------------------------------------------


@contextmanager
def unusable(runtime: Runtime) -> Iterator[None]:
    """Every transaction fails to begin, as when a PostgreSQL server is gone."""

    def refuse(_connection: object) -> None:
        raise OUTAGE

    event.listen(runtime.database.engine, "begin", refuse, insert=True)
    try:
        yield
    finally:
        event.remove(runtime.database.engine, "begin", refuse)


def test_without_a_database_nobody_gets_in_and_nothing_is_lost(runtime: Runtime) -> None:
    laptop = enrol(runtime)
    with Driver(runtime) as driver:
        accepted = driver.sign_in(MsChapV2Peer("alice", laptop.code))
        assert isinstance(accepted, EapAccepted)
        session_id, _ = driver.start_session(accepted.access)
        with structlog.testing.capture_logs() as logs, unusable(runtime):
            result = driver.sign_in(MsChapV2Peer("alice", laptop.code), sign_in_id="in the dark")
            assert isinstance(result, EapRejected)
            assert result.refusal.code == "backend-unavailable"
            assert driver.start_session(accepted.access)[1] == UNAVAILABLE
            driver.backend.session_updated(usage(session_id, 1))
            driver.backend.session_ended(usage(session_id, 2), TerminateCause.USER_REQUEST)
        assert any(entry["log_level"] == "error" for entry in logs)
        # It recovers by itself, with the very next sign-in.
        assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code)), EapAccepted)
    with runtime.database.reading() as session:
        verify_chain(session)
        ended = session.get(TunnelSession, session_id)
        assert ended is not None
        assert (ended.terminate_cause, ended.packets_in) == ("USER_REQUEST", 2)
        refusals = session.scalars(select(AuditEvent).where(AuditEvent.action == "sign-in.refuse")).all()
        assert [(found.detail["sign_in_id"], found.detail["code"]) for found in refusals] == [
            ("in the dark", "backend-unavailable")
        ]


def test_a_gateway_does_not_start_without_its_database(runtime: Runtime) -> None:
    driver = Driver(runtime, hello=False)
    with unusable(runtime), pytest.raises(DatabaseError, match="can't be registered"):
        driver.backend.hello(GatewayHello("gateway-1", "127.0.0.1", 3799, "userspace"))
    driver.backend.goodbye()


def test_another_process_that_writes_only_delays(runtime: Runtime, tmp_path: Path) -> None:
    """SQLite's write lock is held by someone else for a while: a sign-in waits for it, and is let in."""
    laptop = enrol(runtime)
    path = tmp_path / "state" / "ostiary.db"
    with Driver(runtime) as driver, closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        release = threading.Timer(0.15, other.execute, ["COMMIT"])
        release.start()
        assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code)), EapAccepted)
        assert time.monotonic() - started >= 0.15
        release.join()
