"""Transactions, times and the SQLite settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from core.outbox import OutboxItem, add
from core.runtime import Runtime

NOON = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)


def test_transaction_commits_or_rolls_all_back(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        add(session, "a", {})

    def fail_after_adding(session: Session) -> None:
        add(session, "b", {})
        session.execute(text("SELECT nonsense"))

    with pytest.raises(StatementError), runtime.database.transaction() as session:
        fail_after_adding(session)
    with runtime.database.reading() as session:
        assert [item.kind for item in session.query(OutboxItem)] == ["a"]


def test_reading_changes_nothing_and_its_objects_outlive_it(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        item_id = add(session, "a", {}).id
    with runtime.database.reading() as session:
        item = session.get_one(OutboxItem, item_id)
        item.kind = "changed"
        session.flush()
    assert item.kind == "changed"
    with runtime.database.reading() as session:
        assert session.get_one(OutboxItem, item_id).kind == "a"


def test_reading_does_not_wait_for_a_writer(runtime: Runtime) -> None:
    with runtime.database.transaction() as writer:
        add(writer, "a", {})
        with runtime.database.reading() as session:
            assert session.query(OutboxItem).count() == 0


def test_times_come_back_aware_and_in_utc(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        item = add(session, "a", {})
        item.due_at = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
        item_id = item.id
    with runtime.database.reading() as session:
        due_at = session.get_one(OutboxItem, item_id).due_at
    assert due_at == NOON
    assert due_at.utcoffset() == timedelta(0)


def test_naive_time_is_refused(runtime: Runtime) -> None:
    naive = OutboxItem(kind="a", payload={}, created_at=NOON, due_at=NOON.replace(tzinfo=None))
    with pytest.raises(StatementError, match="naive datetime"), runtime.database.transaction() as session:
        session.add(naive)


def test_sqlite_is_set_up(runtime: Runtime) -> None:
    with runtime.database.reading() as session:
        pragmas = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 10_000}


def test_who_commits_all_the_time_may_leave_the_syncing_to_others(runtime: Runtime) -> None:
    runtime.database.favour_speed()
    for opened in (runtime.database.reading, runtime.database.transaction):
        with opened() as session:
            assert session.execute(text("PRAGMA synchronous")).scalar_one() == 1
            assert session.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


def test_closing_twice_does_no_harm(runtime: Runtime) -> None:
    runtime.close()
    runtime.close()
    with runtime.database.reading() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1


def test_an_error_does_not_show_what_was_to_be_stored(runtime: Runtime) -> None:
    with pytest.raises(StatementError) as caught, runtime.database.transaction() as session:
        session.execute(text("INSERT INTO no_such_table VALUES (:value)"), {"value": "hunter2"})
    assert "no_such_table" in str(caught.value)
    assert "hunter2" not in str(caught.value)
