"""The audit chain: whatever is done to the rows behind its back shows, and writers never fork it."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from core import audit
from core.audit import SYSTEM, Actor, AuditError, AuditEvent, AuditHead, Entry
from core.clock import utc_now
from core.runtime import Runtime

ALICE = Actor("user", "alice")


def write(runtime: Runtime, count: int) -> None:
    with runtime.database.transaction() as session:
        for number in range(count):
            audit.record(
                session, ALICE, "device.revoke", f"device:{number}", reason="lost", detail={"number": number}
            )


def verify(runtime: Runtime) -> int:
    with runtime.database.reading() as session:
        return audit.verify_chain(session)


def tamper(runtime: Runtime, *statements: Any) -> None:
    with runtime.database.transaction() as session:
        for statement in statements:
            session.execute(statement)


def test_empty_log_is_whole(runtime: Runtime) -> None:
    assert verify(runtime) == 0
    with runtime.database.reading() as session:
        assert audit.newest_hash(session) == audit.GENESIS_HASH


def test_events_are_chained(runtime: Runtime) -> None:
    write(runtime, 3)
    assert verify(runtime) == 3
    with runtime.database.reading() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
        assert [event.id for event in events] == [1, 2, 3]
        assert events[1].previous_hash == events[0].hash
        assert audit.newest_hash(session) == events[2].hash


def test_event_is_rolled_back_with_its_change(runtime: Runtime) -> None:
    write(runtime, 1)

    def fail_after_recording(session: Session) -> None:
        audit.record(session, ALICE, "device.revoke", "device:x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), runtime.database.transaction() as session:
        fail_after_recording(session)
    write(runtime, 1)
    assert verify(runtime) == 2


def test_bulk_and_single_writing_make_one_chain(runtime: Runtime) -> None:
    earlier = utc_now() - timedelta(seconds=5)
    with runtime.database.transaction() as session:
        audit.record(session, ALICE, "a.b", "device:1")
        audit.record_many(
            session,
            [
                Entry(SYSTEM, "sign-in.refuse", "user:bob", "refused", "unknown", {"code": "unknown-user"}, earlier),
                Entry(SYSTEM, "sign-in.allow", "user:alice"),
            ],
        )
        audit.record(session, ALICE, "a.c", "device:1")
        audit.record_many(session, [])
    assert verify(runtime) == 4
    with runtime.database.reading() as session:
        refused = session.get_one(AuditEvent, 2)
        assert (refused.at, refused.reason, refused.detail) == (earlier, "unknown", {"code": "unknown-user"})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "user:mallory"),
        ("action", "device.trust"),
        ("target", "device:9"),
        ("outcome", "refused"),
        ("reason", ""),
        ("detail", {"number": 2}),
        ("at", utc_now() - timedelta(days=1)),
        ("previous_hash", bytes(32)),
        ("hash", bytes(32)),
    ],
)
def test_changed_event_shows(runtime: Runtime, column: str, value: object) -> None:
    write(runtime, 3)
    tamper(runtime, update(AuditEvent).where(AuditEvent.id == 2).values({column: value}))
    with pytest.raises(AuditError, match="audit event 2 was changed"):
        verify(runtime)


def test_changed_event_with_its_hash_made_anew_shows_at_the_next_one(runtime: Runtime) -> None:
    write(runtime, 3)
    with runtime.database.transaction() as session:
        event = session.get_one(AuditEvent, 2)
        forged = {"reason": "none", "hash": b""} | {
            column: getattr(event, column) for column in audit._HASHED if column != "reason"
        }
        forged["hash"] = audit._content_hash(forged)
        session.execute(update(AuditEvent).where(AuditEvent.id == 2).values(reason="none", hash=forged["hash"]))
    with pytest.raises(AuditError, match="audit event 3 was changed"):
        verify(runtime)


@pytest.mark.parametrize("removed", [1, 2])
def test_removed_event_shows(runtime: Runtime, removed: int) -> None:
    write(runtime, 3)
    tamper(runtime, delete(AuditEvent).where(AuditEvent.id == removed))
    with pytest.raises(AuditError, match=f"audit event {removed} is missing"):
        verify(runtime)


def test_removed_event_with_the_rest_moved_down_shows(runtime: Runtime) -> None:
    write(runtime, 3)
    tamper(
        runtime,
        update(AuditHead).values(event_id=None),
        delete(AuditEvent).where(AuditEvent.id == 2),
        update(AuditEvent).where(AuditEvent.id == 3).values(id=2),
    )
    with pytest.raises(AuditError, match="audit event 2 was changed"):
        verify(runtime)


def test_event_put_between_shows(runtime: Runtime) -> None:
    write(runtime, 2)
    with runtime.database.transaction() as session:
        second = session.get_one(AuditEvent, 2)
        forged = {column: getattr(second, column) for column in (*audit._HASHED, "hash")}
    tamper(
        runtime,
        update(AuditHead).values(event_id=None),
        update(AuditEvent).where(AuditEvent.id == 2).values(id=3),
        insert(AuditEvent).values({**forged, "reason": "found again"}),
    )
    with pytest.raises(AuditError, match="audit event 2 was changed"):
        verify(runtime)


def test_cut_off_end_shows(runtime: Runtime) -> None:
    write(runtime, 3)
    tamper(runtime, update(AuditHead).values(event_id=None), delete(AuditEvent).where(AuditEvent.id >= 2))
    with pytest.raises(AuditError, match="put after"):
        verify(runtime)
    tamper(runtime, update(AuditHead).values(event_id=1))
    with pytest.raises(AuditError, match="put after"):
        verify(runtime)


def test_emptied_log_shows(runtime: Runtime) -> None:
    write(runtime, 3)
    tamper(runtime, update(AuditHead).values(event_id=None), delete(AuditEvent))
    with pytest.raises(AuditError):
        verify(runtime)


def test_event_added_by_hand_shows(runtime: Runtime) -> None:
    write(runtime, 1)
    with runtime.database.transaction() as session:
        row = audit._row(2, Entry(ALICE, "device.trust", "device:0"), utc_now(), audit.newest_hash(session))
        session.execute(insert(AuditEvent).values(row))
    with pytest.raises(AuditError, match="audit events were put after 1"):
        verify(runtime)


def test_what_a_client_wrote_is_stored_and_verifies(runtime: Runtime) -> None:
    hostile = "a\0b\ud800\x1b[31m" + "x" * 2000
    with runtime.database.transaction() as session:
        event = audit.record(
            session,
            Actor("user", hostile),
            "sign-in.refuse",
            hostile,
            reason=hostile,
            detail={"identity": hostile, "list": [hostile, ("t", 1)], "number": {10: "a", 9: "b"}},
        )
        assert len(event.reason) == 1024
    assert verify(runtime) == 1
    with runtime.database.reading() as session:
        stored = session.get_one(AuditEvent, 1)
        assert stored.target.startswith("a\\x00b\\ud800\x1b[31mxx")
        assert stored.detail["number"] == {"10": "a", "9": "b"}
        assert stored.detail["list"][1] == ["t", 1]


@pytest.mark.parametrize("detail", [{"key": b"bytes"}, {"nan": float("nan")}, {"at": utc_now()}])
def test_detail_that_is_not_json_is_refused(runtime: Runtime, detail: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)), runtime.database.transaction() as session:
        audit.record(session, ALICE, "a.b", "c:d", detail=detail)
    assert verify(runtime) == 0


def test_threads_that_write_at_once_make_one_chain(runtime: Runtime) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                write(runtime, 2)
                with runtime.database.transaction() as session:
                    audit.record_many(session, [Entry(SYSTEM, "a.b", "c:d")] * 3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert verify(runtime) == 4 * 5 * 5


@pytest.mark.slow
def test_processes_that_write_at_once_make_one_chain(runtime: Runtime) -> None:
    program = (
        "import sys; from pathlib import Path; from core import audit; from core.runtime import Runtime\n"
        "from core.settings import Settings\n"
        "with Runtime.open(Settings(state_dir=Path(sys.argv[1]))) as runtime:\n"
        "    for _ in range(25):\n"
        "        with runtime.database.transaction() as session:\n"
        "            audit.record(session, audit.SYSTEM, 'a.b', 'c:d')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(runtime.settings.state_dir)], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[1] for process in processes] == [b""] * 2
    assert verify(runtime) == 2 * 25


def test_recent_events_are_filtered_and_paged(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        audit.record(session, ALICE, "device.revoke", "device:laptop")
        audit.record(session, ALICE, "device.add", "device:phone")
        audit.record(session, SYSTEM, "sign-in.refuse", "user:100%_sure")

    def ids(**filters: Any) -> list[int]:
        with runtime.database.reading() as session:
            return [event.id for event in audit.recent_events(session, **filters)]

    assert ids() == [3, 2, 1]
    assert ids(limit=1) == [3]
    assert ids(before_id=3) == [2, 1]
    assert ids(action="device.*") == [2, 1]
    assert ids(action="device.add") == [2]
    assert ids(actor="user:alice", target="device:laptop") == [1]
    assert ids(target="user:100%_*") == [3]
    assert ids(target="user:100x*") == []
    assert ids(action="%") == []
