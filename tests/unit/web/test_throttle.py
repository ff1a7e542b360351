"""Counting failures: tight for one account from one address, loose for an account from anywhere."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from core.clock import utc_now
from core.runtime import Runtime
from web import throttle
from web.models import SignInFailures


def _fail(runtime: Runtime, account: str, address: str, times: int = 1) -> list[bool]:
    closed = []
    for _ in range(times):
        with runtime.database.transaction() as session:
            closed.append(throttle.add_failure(session, account, address))
    return closed


def _wait_s(runtime: Runtime, account: str, address: str) -> float:
    with runtime.database.reading() as session:
        return throttle.wait_s(session, account, address)


def test_the_fifth_failure_closes_the_door(runtime: Runtime) -> None:
    """And says so once."""
    assert _fail(runtime, "maria", "192.0.2.1", 4) == [False] * 4
    assert _wait_s(runtime, "maria", "192.0.2.1") == 0
    assert _fail(runtime, "maria", "192.0.2.1", 3) == [True, False, False]
    assert 890 < _wait_s(runtime, "MARIA", "192.0.2.1") <= 900
    assert _wait_s(runtime, "maria", "192.0.2.2") == 0
    assert _wait_s(runtime, "jude", "192.0.2.1") == 0


def test_one_address_can_not_try_everybody(runtime: Runtime) -> None:
    """Twenty failures, whoever they were for."""
    for number in range(19):
        _fail(runtime, f"user-{number}", "192.0.2.1")
    assert _wait_s(runtime, "another", "192.0.2.1") == 0
    assert _fail(runtime, "user-19", "192.0.2.1") == [True]
    assert _wait_s(runtime, "another", "192.0.2.1") > 0
    assert _wait_s(runtime, "another", "192.0.2.2") == 0


def test_many_addresses_together_close_an_account_late(runtime: Runtime) -> None:
    """At a hundred: before, whoever fails in somebody's name locks nobody out."""
    for number in range(25):
        _fail(runtime, "maria", f"198.51.100.{number}", 3)
    assert _wait_s(runtime, "maria", "192.0.2.1") == 0
    for number in range(25):
        _fail(runtime, "maria", f"203.0.113.{number}", 1)
    assert _wait_s(runtime, "maria", "192.0.2.1") > 0


def test_a_subscriber_of_ipv6_is_one_address(runtime: Runtime) -> None:
    """Who has a /64 must not have 2**64 attempts."""
    for number in range(5):
        _fail(runtime, "maria", f"2001:db8:0:1::{number:x}")
    assert _wait_s(runtime, "maria", "2001:db8:0:1:ffff::9") > 0
    assert _wait_s(runtime, "maria", "2001:db8:0:2::1") == 0


def test_the_window_ends(runtime: Runtime) -> None:
    """Its rows are cleared away with the next failure."""
    _fail(runtime, "maria", "192.0.2.1", 5)
    with runtime.database.transaction() as session:
        for row in session.scalars(select(SignInFailures)):
            row.window_ends_at = utc_now() - timedelta(seconds=1)
    assert _wait_s(runtime, "maria", "192.0.2.1") == 0
    assert _fail(runtime, "maria", "192.0.2.1") == [False]
    with runtime.database.reading() as session:
        assert {row.count for row in session.scalars(select(SignInFailures))} == {1}


def test_success_forgives_the_account_and_not_the_address(runtime: Runtime) -> None:
    """Else an attacker with one account of his own could guess at others for ever."""
    _fail(runtime, "jude", "192.0.2.1", 15)
    _fail(runtime, "maria", "192.0.2.1", 4)
    with runtime.database.transaction() as session:
        throttle.forget(session, "maria", "192.0.2.1")
    assert _fail(runtime, "maria", "192.0.2.1") == [True]
    assert _wait_s(runtime, "another", "192.0.2.1") > 0


def test_ipv4_clients_of_a_socket_for_both_do_not_share_a_count(runtime: Runtime) -> None:
    """The kernel writes them as IPv6 addresses of one /64."""
    _fail(runtime, "maria", "::ffff:192.0.2.1", 25)
    assert _wait_s(runtime, "jude", "192.0.2.1") > 0
    assert _wait_s(runtime, "jude", "::ffff:192.0.2.2") == 0


@pytest.mark.parametrize("address", ["", "unknown", "x" * 500])
def test_odd_addresses_are_counted_too(runtime: Runtime, address: str) -> None:
    """And names of any length fit."""
    _fail(runtime, "m" * 500, address, 5)
    assert _wait_s(runtime, "m" * 500, address) > 0
