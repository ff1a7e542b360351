from __future__ import annotations

import tracemalloc

import pytest

from aaa.backend.spraying import WINDOW_S, Spraying, SprayingWatch


@pytest.fixture
def watch() -> SprayingWatch:
    return SprayingWatch(3)


def test_many_users_within_the_window(watch: SprayingWatch) -> None:
    told = [watch.refused("wrong-credential", name, "192.0.2.1", 0.0) for name in ("a", "b", "c", "d")]
    assert told == [None, None, Spraying(3, 1), None]
    # Then again, as long as it goes on, but not all the time.
    assert watch.refused("unknown-user", "e", "192.0.2.2", WINDOW_S - 1) is None
    again = [watch.refused("unknown-user", name, "192.0.2.2", WINDOW_S + 1) for name in ("f", "g")]
    assert again == [None, Spraying(3, 1)]


@pytest.mark.parametrize(
    ("code", "users", "step_s"),
    [
        ("wrong-credential", ["alice"] * 50, 1.0),
        ("wrong-credential", [""] * 50, 1.0),
        ("expired-access-code", [str(number) for number in range(50)], 1.0),
        ("wrong-credential", [str(number) for number in range(50)], WINDOW_S / 2),
    ],
    ids=["one user", "no name", "no guess", "slowly"],
)
def test_what_is_no_spraying(watch: SprayingWatch, code: str, users: list[str], step_s: float) -> None:
    assert not any(watch.refused(code, user, "192.0.2.1", number * step_s) for number, user in enumerate(users))


def test_switched_off() -> None:
    watch = SprayingWatch(None)
    assert not any(watch.refused("wrong-credential", str(number), "192.0.2.1", 0.0) for number in range(1000))


def test_the_memory_has_an_end() -> None:
    watch = SprayingWatch(100_000)
    for number in range(1000):
        watch.refused("unknown-user", "x" * 200 + str(number), f"2001:db8::{number:x}", 0.0)
    tracemalloc.start()
    try:
        watch = SprayingWatch(50)
        for number in range(20_000):
            watch.refused("unknown-user", "x" * 2000 + str(number), f"2001:db8::{number:x}", number / 1000)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()
