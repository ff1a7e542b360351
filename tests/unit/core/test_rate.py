"""The token bucket: a burst, then so many a second, and how many were refused."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.rate import BucketTable, TokenBucket


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


class TestBucketTable:
    def test_each_key_has_a_burst_and_then_the_rate(self) -> None:
        table = BucketTable(b"salt")
        assert [table.take("a", 2.0, 3.0, 100.0) for _ in range(5)] == [True, True, True, False, False]
        assert table.take("b", 2.0, 3.0, 100.0)
        assert [table.take("a", 2.0, 3.0, 100.0 + late) for late in (0.4, 0.5, 0.6)] == [False, True, False]

    def test_a_long_pause_fills_it_to_the_burst_and_no_further(self) -> None:
        table = BucketTable(b"salt")
        for now in (0.0, 1e9):
            assert [table.take("a", 1000.0, 2.0, now) for _ in range(3)] == [True, True, False]

    @given(
        steps=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 0.5)), max_size=200),
        counters=st.sampled_from([1, 3, 1 << 14]),
    )
    def test_never_more_than_burst_and_rate_allow(self, steps: list[tuple[str, float]], counters: int) -> None:
        """Neither for a key, nor, where all of them meet in one counter, for all together."""
        table, now, taken = BucketTable(b"salt", counters), 0.0, Counter[str]()
        for key, pause in steps:
            now += pause
            taken[key] += table.take(key, 10.0, 5.0, now)
            assert taken[key] <= 5 + 10 * now + 1e-6
            if counters == 1:
                assert taken.total() <= 5 + 10 * now + 1e-6

    def test_the_salt_says_which_keys_meet(self) -> None:
        def meet(salt: bytes) -> bool:
            table = BucketTable(salt, counters=2)
            table.take("a", 1.0, 1.0, 0.0)
            return not table.take("b", 1.0, 1.0, 0.0)

        assert {meet(b"salt %d" % number) for number in range(32)} == {False, True}
