"""Pairs that receive and do not send yet: the peer rekeyed, and may not have our answer (RFC 7296 section 2.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

CHECK_INTERVAL_S = 0.1
CHECKS = 100
"""For each pair. A peer sends on its new pair, or deletes the old one, as soon as it has our answer; one that does
neither shall not cost more than this.
"""


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """It shall not."""


class CallsLater(Protocol):
    """The event loop, as far as it is needed here."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call back once, in so many seconds."""


class WaitingPairs:
    """Looks whether the peer has begun to use a pair: then it also receives on it.

    Args:
        loop: when to look.
        is_used: whether a packet has come in on the pair with this inbound SPI.
        start: send on it from now on; it calls `discard`.
    """

    def __init__(self, loop: CallsLater, is_used: Callable[[int], bool], start: Callable[[int], object]) -> None:
        self._loop = loop
        self._is_used = is_used
        self._start = start
        self._checks: dict[int, int] = {}
        """How often each is still looked at."""
        self._timer: Timer | None = None

    def __contains__(self, spi_in: object) -> bool:
        """Whether it waits."""
        return spi_in in self._checks

    def add(self, spi_in: int) -> None:
        """It waits from now on."""
        self._checks[spi_in] = CHECKS
        self._watch()

    def discard(self, spi_in: int) -> None:
        """It sends, or is gone."""
        self._checks.pop(spi_in, None)

    def close(self) -> None:
        """Look no more."""
        self._checks.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        if self._timer is None and any(self._checks.values()):
            self._timer = self._loop.call_later(CHECK_INTERVAL_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for spi_in, left in list(self._checks.items()):
            if left and spi_in in self._checks:
                self._checks[spi_in] = left - 1
                if self._is_used(spi_in):
                    self._start(spi_in)
        self._watch()
