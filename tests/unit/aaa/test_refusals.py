"""Which refusals get an audit event, and what the others leave behind."""

from __future__ import annotations

import pytest

from aaa.backend.failure_limit import FailureLimit
from aaa.backend.refusals import EVENTS_BURST, EVENTS_PER_S, TOO_MANY_FAILURES, RefusalLog
from aaa.backend.requests import Request, WriteEvent
from aaa.backend.spraying import SprayingWatch
from aaa.interface import Refusal
from tests.unit.aaa.driver import context

WRONG = Refusal("wrong-credential", "the code is none of user alice")


@pytest.fixture
def written() -> list[Request]:
    return []


@pytest.fixture
def log(written: list[Request]) -> RefusalLog:
    return RefusalLog(written.append, FailureLimit(10, 100, bytes(16)), SprayingWatch(30), 0.0)


def test_who_waits_is_told_after_the_event_is_written(log: RefusalLog, written: list[Request]) -> None:
    told: list[Refusal] = []
    log.write(context(), WRONG, 0.0, identity="alice", told=told.append)
    (request,) = written
    assert isinstance(request, WriteEvent)
    assert (request.entry.reason, told) == (WRONG.reason, [])
    assert request.reply is not None
    request.reply()
    assert told == [WRONG]


def test_a_flood_from_many_addresses_is_cut_to_the_rate_and_counted(log: RefusalLog, written: list[Request]) -> None:
    told: list[Refusal] = []
    count, seconds = 20_000, 10.0
    for number in range(count):
        address = f"2001:db8:{number:x}::1"
        log.write(
            context(remote_address=address), WRONG, number * seconds / count, identity="alice", told=told.append
        )
    assert len(written) <= EVENTS_BURST + EVENTS_PER_S * seconds
    # Nobody waits for an event that is not written.
    assert len(told) == count - len(written)
    assert not any(refusal.recorded for refusal in told)
    log.write(context(), WRONG, seconds + 1.0, identity="alice")
    details = [request.entry.detail for request in written if isinstance(request, WriteEvent)]
    assert sum(int(detail.get("refusals_left_out_before", "0")) for detail in details) == len(told)


def test_of_a_block_one_event_is_enough(written: list[Request]) -> None:
    limit = FailureLimit(1, 10, bytes(16))
    log = RefusalLog(written.append, limit, SprayingWatch(None), 0.0)
    limit.failed("", "192.0.2.7", 0.0)
    for _ in range(50):
        log.write(context(), TOO_MANY_FAILURES, 1.0, identity="")
    assert len(written) == 1


def test_of_password_spraying_the_security_team_is_told_once(log: RefusalLog, written: list[Request]) -> None:
    for number in range(100):
        address = f"192.0.2.{number % 7}"
        log.write(context(remote_address=address), WRONG, float(number), identity=f"user{number}@corp.example")
    events = [request.entry for request in written if isinstance(request, WriteEvent)]
    (alert,) = [event for event in events if event.action == "alert.password-spraying"]
    assert alert.reason == "wrong passwords for 30 users within 10 minutes, from 7 addresses"
    assert (alert.target, alert.detail["last_address"]) == ("gateway:gateway-1", "192.0.2.1")
    assert len(events) == 101
