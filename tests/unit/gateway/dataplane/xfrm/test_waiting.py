"""Looking whether a peer has begun to use its new pair."""

from __future__ import annotations

import pytest

from gateway.dataplane.xfrm.waiting import CHECK_INTERVAL_S, CHECKS, WaitingPairs
from tests.unit.gateway.dataplane.sides import Loop


class Kernel:
    """Knows which pairs are used, and counts questions."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.used: set[int] = set()
        self.started: list[int] = []
        self.asked = 0
        self.waiting = WaitingPairs(self.loop, self.is_used, self.start)

    def is_used(self, spi_in: int) -> bool:
        self.asked += 1
        return spi_in in self.used

    def start(self, spi_in: int) -> None:
        self.started.append(spi_in)
        self.waiting.discard(spi_in)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_a_pair_that_is_used_is_started(kernel: Kernel) -> None:
    kernel.waiting.add(1)
    kernel.waiting.add(2)
    kernel.loop.let_pass(CHECK_INTERVAL_S)
    assert kernel.started == []
    kernel.used = {2}
    kernel.loop.let_pass(CHECK_INTERVAL_S)
    assert kernel.started == [2]
    assert 1 in kernel.waiting
    assert 2 not in kernel.waiting


def test_where_none_waits_nothing_is_asked(kernel: Kernel) -> None:
    kernel.waiting.add(1)
    kernel.waiting.discard(1)
    kernel.waiting.discard(1)
    kernel.loop.let_pass(CHECK_INTERVAL_S)
    assert (kernel.asked, kernel.loop.pending) == (0, [])


def test_a_peer_that_does_nothing_is_looked_at_for_a_while_only(kernel: Kernel) -> None:
    kernel.waiting.add(1)
    for _ in range(3 * CHECKS):
        kernel.loop.let_pass(CHECK_INTERVAL_S)
    assert kernel.asked == CHECKS
    assert kernel.loop.pending == []
    assert 1 in kernel.waiting


def test_closing_asks_no_more(kernel: Kernel) -> None:
    kernel.waiting.add(1)
    kernel.waiting.close()
    assert kernel.loop.pending == []
    assert 1 not in kernel.waiting
