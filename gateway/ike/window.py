"""Message ids, retransmission and cached responses (RFC 7296 sections 2.1 to 2.3), window size 1, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Verdict(Enum):
    """What to do with a request of the peer."""

    NEW = "new"
    IN_PROGRESS = "in progress"
    """A retransmission of the request that is being worked on: drop it."""
    ANSWERED = "answered"
    """A retransmission of the last request: send the same response again."""
    STALE = "stale"
    """Outside the window: drop it."""


class PeerRequests:
    """The peer's requests: each is worked on once, and its retransmissions get the same bytes."""

    __slots__ = ("_in_progress", "cached_response", "next_id")

    def __init__(self, next_id: int = 0) -> None:
        self.next_id = next_id
        self.cached_response: tuple[bytes, ...] = ()
        self._in_progress = False

    @property
    def in_progress(self) -> bool:
        """A request was begun and is not answered yet."""
        return self._in_progress

    def judge(self, message_id: int) -> Verdict:
        """Where a request stands in the window; changes nothing, for the message is not verified yet."""
        if message_id == self.next_id:
            return Verdict.IN_PROGRESS if self._in_progress else Verdict.NEW
        if message_id == self.next_id - 1:
            return Verdict.ANSWERED
        return Verdict.STALE

    def begin(self) -> None:
        """The request `next_id` is authentic and is worked on."""
        self._in_progress = True

    def answer(self, datagrams: Sequence[bytes]) -> None:
        """It was answered with these bytes."""
        self.cached_response = tuple(datagrams)
        self.next_id += 1
        self._in_progress = False


class OwnRequest:
    """Our one outstanding request, retransmitted until it is answered or the peer is taken for dead."""

    __slots__ = ("_timeouts_s", "_tries", "datagrams", "deadline", "message_id", "next_id")

    def __init__(self, timeouts_s: tuple[float, ...], next_id: int = 0) -> None:
        self._timeouts_s = timeouts_s
        self._tries = 0
        self.next_id = next_id
        self.message_id: int | None = None
        """Of the outstanding request, None where there is none."""
        self.datagrams: tuple[bytes, ...] = ()
        self.deadline: float | None = None
        """When to retransmit or give up, monotonic seconds."""

    def send(self, datagrams: Sequence[bytes], now: float) -> None:
        """A request with the id `next_id` goes out."""
        self.message_id = self.next_id
        self.next_id += 1
        self.datagrams = tuple(datagrams)
        self._tries = 0
        self.deadline = now + self._timeouts_s[0]

    def retransmit(self, now: float) -> bool:
        """The deadline passed: True to send `datagrams` again, False where the peer is dead."""
        self._tries += 1
        if self._tries >= len(self._timeouts_s):
            self.deadline = None
            return False
        self.deadline = now + self._timeouts_s[self._tries]
        return True

    def answered(self, message_id: int) -> bool:
        """An authentic response came; True where it is the one that was waited for."""
        if message_id != self.message_id:
            return False
        self.message_id = None
        self.datagrams = ()
        self.deadline = None
        return True
