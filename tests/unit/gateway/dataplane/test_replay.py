"""The replay window against the plainest model there is: the set of all numbers seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.userspace.replay import ReplayWindow

SIZES = st.sampled_from((64, 128, 1024, 4096))


class Model:
    """RFC 4303 section 3.4.3: not before the window, not twice."""

    def __init__(self, size: int, top: int = 0) -> None:
        self.size, self.top = size, top
        self.seen: set[int] = set()
        self.floor = top

    def accept(self, sequence: int) -> bool:
        if sequence <= self.floor or sequence <= self.top - self.size or sequence in self.seen:
            return False
        self.seen.add(sequence)
        self.top = max(self.top, sequence)
        return True


@settings(max_examples=150, deadline=None)
@given(
    size=SIZES,
    start=st.sampled_from((0, 1, 500, 0xFFFF_0000)),
    steps=st.lists(st.one_of(st.integers(-20, 20), st.integers(-5000, 5000)), max_size=200),
)
def test_agrees_with_the_model(size: int, start: int, steps: list[int]) -> None:
    window, model = ReplayWindow(size, esn=False, top=start), Model(size, start)
    at = start
    for step in steps:
        at = min(max(at + step, 0), 0xFFFF_FFFF)
        candidate = window.candidate(at)
        assert (candidate is not None) == model.accept(at)
        if candidate is not None:
            assert candidate == at
            window.mark(candidate)
        assert window.top == model.top


@settings(max_examples=150, deadline=None)
@given(
    size=SIZES,
    high=st.sampled_from((0, 1, 2, 0xFFFF_FFFE)),
    low=st.one_of(st.integers(0, 5000), st.integers((1 << 32) - 5000, (1 << 32) - 1)),
    steps=st.lists(st.one_of(st.integers(-20, 20), st.integers(-5000, 5000)), max_size=120),
)
def test_agrees_with_the_model_across_the_low_half(size: int, high: int, low: int, steps: list[int]) -> None:
    start = high << 32 | low
    window, model = ReplayWindow(size, esn=True, top=start), Model(size, start)
    at = start
    for step in steps:
        at = max(at + step, 0)
        expected = model.accept(at)
        candidate = window.candidate(at & 0xFFFF_FFFF)
        if expected:
            assert candidate == at
            window.mark(at)
        elif at > model.top - size:
            assert candidate is None
        else:
            # Older than the window, the number can only be read as one that is yet to come, and the integrity check
            # fails for it.
            assert candidate is None or candidate != at


@given(
    size=SIZES,
    top=st.integers(0, (1 << 64) - (1 << 33)),
    ahead=st.integers(0, (1 << 32) - 1),
)
def test_infers_every_number_from_the_window_on(size: int, top: int, ahead: int) -> None:
    """RFC 4303 appendix A2: unambiguous from the bottom of the window to 2**32 - 1 numbers above that."""
    window = ReplayWindow(size, esn=True, top=top)
    sequence = top - size + 1 + ahead
    expected = sequence if sequence > top else None  # all up to `top` counts as seen
    assert window.candidate(sequence & 0xFFFF_FFFF) == expected


def test_number_zero_is_no_packet() -> None:
    assert ReplayWindow(64, esn=False).candidate(0) is None
    assert ReplayWindow(64, esn=True).candidate(0) is None


def test_there_is_no_number_beyond_64_bits() -> None:
    window = ReplayWindow(64, esn=True, top=(1 << 64) - 2)
    assert window.candidate(0xFFFF_FFFF) == (1 << 64) - 1
    assert window.candidate(5) is None


def test_a_packet_that_is_not_marked_changes_nothing() -> None:
    window = ReplayWindow(64, esn=False)
    assert window.candidate(1_000_000) == 1_000_000
    assert window.top == 0
    assert window.candidate(1) == 1


def test_a_jump_forgets_what_it_leaves_behind() -> None:
    window = ReplayWindow(64, esn=False)
    for sequence in range(1, 65):
        window.mark(sequence)
    window.mark(64 + 1000)
    assert window.candidate(64) is None
    assert window.candidate(1064) is None
    assert all(window.candidate(sequence) == sequence for sequence in range(1001, 1064))


@pytest.mark.parametrize("size", [0, 1, 63, 4097, 1 << 20])
def test_refuses_sizes_out_of_range(size: int) -> None:
    with pytest.raises(ValueError, match="64 to 4096"):
        ReplayWindow(size, esn=False)


@pytest.mark.parametrize(("asked", "kept"), [(64, 64), (65, 128), (1000, 1024), (4096, 4096)])
def test_keeps_at_least_what_was_asked_for(asked: int, kept: int) -> None:
    window = ReplayWindow(asked, esn=False)
    window.mark(100_000)
    assert window.candidate(100_000 - kept + 1) is not None
    assert window.candidate(100_000 - kept) is None
