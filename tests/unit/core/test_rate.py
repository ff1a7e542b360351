"""The token bucket: a burst, then so many a second, and how many were refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.rate import TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(per_s=2.0, burst=3.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(100.4), bucket.take(100.5), bucket.take(100.6)] == [False, True, False]


def test_a_long_pause_fills_it_to_the_burst_and_no_further() -> None:
    bucket = TokenBucket(per_s=1000.0, burst=2.0, now=0.0)
    assert [bucket.take(1e9) for _ in range(3)] == [True, True, False]


def test_it_says_once_how_many_it_refused() -> None:
    bucket = TokenBucket(per_s=1.0, burst=1.0, now=0.0)
    for _ in range(5):
        bucket.take(0.0)
    bucket.miss()
    assert (bucket.reset_missed(), bucket.reset_missed()) == (5, 0)


@given(st.lists(st.floats(0, 0.5), max_size=200))
def test_never_more_than_burst_and_rate_allow(pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(per_s=10.0, burst=5.0, now=0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= 5 + 10 * now + 1e-6
