"""The outbox: nothing is lost, nothing runs twice at a time, and a failure is tried again later."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import jobs, outbox
from core.clock import utc_now
from core.outbox import OutboxItem
from core.runtime import Runtime


def add(runtime: Runtime, kind: str = "greet", **options: Any) -> int:
    with runtime.database.transaction() as session:
        return outbox.add(session, kind, {"name": "bob"}, **options).id


def get(runtime: Runtime, item_id: int) -> OutboxItem:
    with runtime.database.reading() as session:
        return session.get_one(OutboxItem, item_id)


def due(runtime: Runtime) -> list[int]:
    with runtime.database.reading() as session:
        return outbox.due_ids(session)


def make_due(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(update(OutboxItem).values(due_at=utc_now() - timedelta(seconds=1)))


def test_new_item_is_due_at_once_and_oldest_comes_first(runtime: Runtime) -> None:
    first, second = add(runtime), add(runtime)
    assert due(runtime) == [first, second]


def test_delayed_item_is_left_to_its_maker_first(runtime: Runtime) -> None:
    item_id = add(runtime, delay_s=30)
    assert due(runtime) == []
    assert not jobs.deliver_item(runtime, {}, item_id)


def test_item_is_rolled_back_with_its_change(runtime: Runtime) -> None:
    def fail_after_adding(session: Session) -> None:
        outbox.add(session, "greet", {})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), runtime.database.transaction() as session:
        fail_after_adding(session)
    assert due(runtime) == []


def test_work_is_done_once(runtime: Runtime) -> None:
    calls: list[dict[str, Any]] = []
    item_id = add(runtime)
    handlers = {"greet": lambda _runtime, payload: calls.append(payload)}
    assert jobs.deliver_item(runtime, handlers, item_id)
    assert not jobs.deliver_item(runtime, handlers, item_id)
    make_due(runtime)
    assert not jobs.deliver_item(runtime, handlers, item_id)
    assert calls == [{"name": "bob"}]
    item = get(runtime, item_id)
    assert item.done_at is not None
    assert item.attempts == 1


def test_item_that_does_not_exist_is_no_work(runtime: Runtime) -> None:
    assert not jobs.deliver_item(runtime, {}, 4711)


def test_failure_is_tried_again_after_waits_that_double(runtime: Runtime) -> None:
    def fail(_runtime: Runtime, _payload: dict[str, Any]) -> None:
        raise ConnectionRefusedError("no answer")

    item_id = add(runtime)
    waits = []
    for _ in range(12):
        make_due(runtime)
        before = utc_now()
        assert not jobs.deliver_item(runtime, {"greet": fail}, item_id)
        waits.append(round((get(runtime, item_id).due_at - before).total_seconds()))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    item = get(runtime, item_id)
    assert item.last_error == "ConnectionRefusedError: no answer"
    assert item.done_at is None

    make_due(runtime)
    assert jobs.deliver_item(runtime, {"greet": lambda _runtime, _payload: None}, item_id)
    assert get(runtime, item_id).last_error == ""


def test_item_without_handler_waits_for_one(runtime: Runtime) -> None:
    item_id = add(runtime, "unheard-of")
    assert not jobs.deliver_item(runtime, {}, item_id)
    item = get(runtime, item_id)
    assert "no handler for 'unheard-of'" in item.last_error
    assert item.done_at is None


def test_two_workers_never_do_an_item_at_the_same_time(runtime: Runtime) -> None:
    running, most, calls = 0, 0, 0
    lock = threading.Lock()
    started = threading.Barrier(4)

    def handler(_runtime: Runtime, _payload: dict[str, Any]) -> None:
        nonlocal running, most, calls
        with lock:
            running, calls = running + 1, calls + 1
            most = max(most, running)
        threading.Event().wait(0.05)
        with lock:
            running -= 1

    item_id = add(runtime)
    results: list[bool] = []

    def worker() -> None:
        started.wait(timeout=10)
        results.append(jobs.deliver_item(runtime, {"greet": handler}, item_id))

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(results) == [False, False, False, True]
    assert (most, calls) == (1, 1)


def test_item_of_a_worker_that_died_comes_back_after_its_lease(runtime: Runtime) -> None:
    item_id = add(runtime)
    with runtime.database.transaction() as session:
        assert outbox.claim(session, item_id, lease_s=0.05) is not None
    assert due(runtime) == []
    threading.Event().wait(0.06)
    assert due(runtime) == [item_id]


def test_sweep_forgets_what_was_done_long_ago(runtime: Runtime) -> None:
    old, recent, open_item = add(runtime), add(runtime), add(runtime)
    with runtime.database.transaction() as session:
        outbox.mark_done(session, old)
        outbox.mark_done(session, recent)
        session.get_one(OutboxItem, old).done_at = utc_now() - timedelta(days=31)
    assert jobs.sweep_due(runtime) == [open_item]
    with runtime.database.reading() as session:
        assert session.get(OutboxItem, old) is None
        assert session.get(OutboxItem, recent) is not None


def recur(runtime: Runtime, interval_s: float = 60, **payload: str) -> int | None:
    with runtime.database.transaction() as session:
        item = outbox.add_recurring(session, "look", payload, interval_s)
    return item.id if item is not None else None


def age(runtime: Runtime, item_id: int, seconds: float) -> None:
    with runtime.database.transaction() as session:
        session.get_one(OutboxItem, item_id).created_at = utc_now() - timedelta(seconds=seconds)


def test_what_recurs_is_asked_for_once_in_an_interval(runtime: Runtime) -> None:
    first = recur(runtime, at="a")
    assert first is not None
    assert recur(runtime, at="a") is None
    assert recur(runtime, at="b") is not None
    assert jobs.deliver_item(runtime, {"look": lambda _runtime, _payload: None}, first)
    assert recur(runtime, at="a") is None
    age(runtime, first, 61)
    assert recur(runtime, at="a") is not None


def test_of_what_recurs_and_was_done_one_row_is_kept(runtime: Runtime) -> None:
    other = recur(runtime, at="b")
    for _ in range(5):
        item_id = recur(runtime, at="a")
        assert item_id is not None
        assert jobs.deliver_item(runtime, {"look": lambda _runtime, _payload: None}, item_id)
        age(runtime, item_id, 61)
    with runtime.database.reading() as session:
        assert [item.payload["at"] for item in session.scalars(select(OutboxItem).order_by(OutboxItem.id))] == [
            "b",
            "a",
        ]
        assert session.get_one(OutboxItem, other).done_at is None


def test_what_recurs_and_still_waits_is_not_asked_for_again(runtime: Runtime) -> None:
    first = recur(runtime, at="a")
    assert first is not None
    age(runtime, first, 3600)
    assert recur(runtime, at="a") is None


def test_sweep_asks_for_what_recurs(runtime: Runtime) -> None:
    work = [jobs.Recurring("look", {"at": "a"}, 60)]
    (found,) = jobs.sweep_due(runtime, work)
    assert jobs.sweep_due(runtime, work) == [found]
    assert get(runtime, found).payload == {"at": "a"}


def test_long_work_is_left_to_its_worker_for_longer(runtime: Runtime) -> None:
    leases: list[float] = []

    def look(_runtime: Runtime, payload: dict[str, Any]) -> None:
        leases.append((get(runtime, int(payload["id"])).due_at - utc_now()).total_seconds())

    for handler in (look, jobs.LongHandler(look, 3600)):
        with runtime.database.transaction() as session:
            item = outbox.add(session, "look", {})
            item.payload = {"id": item.id}
        assert jobs.deliver_item(runtime, {"look": handler}, item.id)
    assert [round(lease) for lease in leases] == [60, 3600]
