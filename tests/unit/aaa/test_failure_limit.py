from __future__ import annotations

import tracemalloc

import pytest

from aaa.backend.failure_limit import WINDOW_S, FailureLimit


@pytest.fixture
def limit() -> FailureLimit:
    return FailureLimit(3, 3, bytes(16))


def test_so_many_failures_block_for_a_minute(limit: FailureLimit) -> None:
    for second in range(3):
        assert not limit.blocked("alice", "192.0.2.1", second)
        limit.failed("alice", "192.0.2.1", second)
    assert limit.blocked("alice", "203.0.113.1", 3)
    assert limit.blocked("bob", "192.0.2.1", 3)
    assert not limit.blocked("bob", "203.0.113.1", 3)
    assert limit.blocked("alice", "", 2 + WINDOW_S - 0.1)
    assert not limit.blocked("alice", "192.0.2.1", 2 + WINDOW_S)


def test_failures_that_are_far_apart_do_not_add_up(limit: FailureLimit) -> None:
    for minute in range(20):
        limit.failed("alice", "192.0.2.1", minute * WINDOW_S)
        assert not limit.blocked("alice", "192.0.2.1", minute * WINDOW_S)


def test_failures_during_a_block_do_not_prolong_it(limit: FailureLimit) -> None:
    for second in range(50):
        limit.failed("alice", "", second)
    assert limit.blocked("alice", "", 2 + WINDOW_S - 1)
    assert not limit.blocked("alice", "", 2 + WINDOW_S)


def test_a_name_is_blocked_later_than_an_address() -> None:
    limit = FailureLimit(3, 30, bytes(16))
    for number in range(29):
        limit.failed("alice", f"192.0.2.{number // 3}", 0.0)
    assert limit.blocked("", "192.0.2.0", 1.0)
    assert not limit.blocked("alice", "203.0.113.1", 1.0)
    limit.failed("alice", "192.0.2.9", 2.0)
    assert limit.blocked("alice", "203.0.113.1", 3.0)


def test_only_the_first_refusal_of_a_block_says_something_new(limit: FailureLimit) -> None:
    for _ in range(3):
        limit.failed("alice", "192.0.2.1", 0.0)
    assert [limit.first_of_block("alice", "192.0.2.1", 1.0) for _ in range(3)] == [True, False, False]
    # The address and the name are blocked each by itself, and both were told of.
    assert not limit.first_of_block("bob", "192.0.2.1", 2.0)
    assert not limit.first_of_block("alice", "203.0.113.1", 2.0)
    for _ in range(3):
        limit.failed("alice", "192.0.2.1", WINDOW_S)
    assert [limit.first_of_block("alice", "203.0.113.1", WINDOW_S + 1) for _ in range(2)] == [True, False]


def test_an_ipv6_network_is_one_address(limit: FailureLimit) -> None:
    for host in range(3):
        limit.failed("", f"2001:db8::{host}", 0)
    assert limit.blocked("", "2001:db8::ffff:0:0:1", 1)
    assert not limit.blocked("", "2001:db8:0:1::1", 1)


def test_empty_keys_and_strange_addresses_are_counted_apart(limit: FailureLimit) -> None:
    for _ in range(3):
        limit.failed("", "not an address", 0)
    assert not limit.blocked("", "", 1)
    assert limit.blocked("", "not an address", 1)


def test_an_identity_is_no_address(limit: FailureLimit) -> None:
    for _ in range(3):
        limit.failed("192.0.2.1", "", 0)
    assert limit.blocked("192.0.2.1", "", 1)
    assert not limit.blocked("", "192.0.2.1", 1)


def test_a_flood_of_new_keys_costs_no_memory_and_frees_nobody(limit: FailureLimit) -> None:
    for _ in range(3):
        limit.failed("alice", "", 0)
    tracemalloc.start()
    for number in range(20_000):
        limit.failed(f"user-{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 100_000
    assert limit.blocked("alice", "", 2)
