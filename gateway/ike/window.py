"""Message ids, retransmission and cached responses (RFC 7296 sections 2.1 to 2.3), both ways."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from gateway.ike.path import Path


class Verdict(Enum):
    """What to do with a request of the peer."""

    NEW = "new"
    IN_PROGRESS = "in progress"
    """A retransmission of a request that is being worked on: drop it."""
    ANSWERED = "answered"
    """A retransmission of a request that was answered: send the same response again."""
    STALE = "stale"
    """Outside the window: drop it."""


class Answered(NamedTuple):
    """A request and what it got."""

    request: bytes
    """Its first datagram, or, once the SA is closed, the digest of it."""
    response: tuple[bytes, ...]


class PeerRequests:
    """The peer's requests: each is worked on once, and its retransmissions get the same bytes.

    Args:
        next_id: the lowest message id that did not come yet.
        window: how many requests the peer may have outstanding (SET_WINDOW_SIZE); they are then worked on in the
            order in which they come, and so many answers are kept.
    """

    __slots__ = ("_ahead", "_answered", "_open", "current", "current_path", "next_id", "window")

    def __init__(self, next_id: int = 0, window: int = 1) -> None:
        self.next_id = next_id
        self.current = -1
        """The id of the request that was begun last."""
        self.current_path: Path | None = None
        """Where it came from."""
        self.window = window
        """How many requests the peer may have outstanding."""
        self._ahead: set[int] = set()
        """Ids above `next_id` that have come."""
        self._open: dict[int, tuple[bytes, Path | None]] = {}
        self._answered: dict[int, Answered] = {}

    @property
    def in_progress(self) -> bool:
        """A request was begun and is not answered yet."""
        return bool(self._open)

    @property
    def has_gap(self) -> bool:
        """A request has come, and not all that have lower ids."""
        return bool(self._ahead)

    @property
    def answered(self) -> dict[int, Answered]:
        """The answers that are kept, by message id."""
        return self._answered

    def judge(self, message_id: int) -> Verdict:
        """Where a request stands in the window; changes nothing, for the message is not verified yet."""
        if message_id in self._open:
            return Verdict.IN_PROGRESS
        if message_id in self._answered:
            return Verdict.ANSWERED
        lowest_unanswered = min(self._open, default=self.next_id)
        if self.next_id <= message_id < lowest_unanswered + self.window:
            return Verdict.NEW
        return Verdict.STALE

    def begin(self, message_id: int, request: bytes, path: Path | None = None) -> None:
        """A request that was judged NEW is authentic and is worked on.

        Args:
            message_id: its id.
            request: its first datagram, to know its retransmissions by.
            path: where it came from, and its answer goes.
        """
        self.current, self.current_path = message_id, path
        self._open[message_id] = request, path
        self._ahead.add(message_id)
        while self.next_id in self._ahead:
            self._ahead.remove(self.next_id)
            self.next_id += 1

    def answer(self, message_id: int, response: Sequence[bytes]) -> Path | None:
        """A request was answered with these bytes; returns where they go."""
        request, path = self._open.pop(message_id)
        self._answered[message_id] = Answered(request, tuple(response))
        for old in [old for old in self._answered if old < self.next_id - self.window]:
            del self._answered[old]
        return path

    def widen(self, window: int) -> None:
        """Let the peer have more requests outstanding, since it is told so now (section 2.3)."""
        self.window = max(self.window, window)

    def response_to(self, message_id: int, datagram: bytes) -> tuple[bytes, ...]:
        """What a retransmission gets; nothing where it is not the request that was answered under its id."""
        answered = self._answered[message_id]
        return answered.response if answered.request in (datagram, _digest(datagram)) else ()

    def keep_only_answers(self) -> None:
        """The SA is closed: keep the answers, and of the requests no more than it takes to know them again."""
        self._open.clear()
        self._answered = {
            message_id: Answered(_digest(kept.request), kept.response) for message_id, kept in self._answered.items()
        }

    def restore_answer(self, message_id: int, answered: Answered) -> None:
        """Take in an answer from a snapshot."""
        self._answered[message_id] = answered


class OwnRequest:
    """Our one outstanding request, retransmitted until it is answered or the peer is taken for dead."""

    __slots__ = ("_began", "_timeouts_s", "_tries", "datagrams", "deadline", "message_id", "next_id")

    def __init__(self, timeouts_s: tuple[float, ...], next_id: int = 0) -> None:
        self._timeouts_s = timeouts_s
        self._tries = 0
        self.next_id = next_id
        self.message_id: int | None = None
        """Of the outstanding request, None where there is none."""
        self.datagrams: tuple[bytes, ...] = ()
        self.deadline: float | None = None
        """When to retransmit or give up, monotonic seconds."""
        self._began = 0.0

    def send(self, datagrams: Sequence[bytes], now: float) -> None:
        """A request with the id `next_id` goes out."""
        self.message_id = self.next_id
        self.next_id += 1
        self.datagrams = tuple(datagrams)
        self._began = now
        self._start(now)

    def retransmit(self, now: float, patience_s: float = 0.0) -> bool:
        """The deadline passed: True to send `datagrams` again, False where the peer is dead.

        Args:
            now: monotonic seconds.
            patience_s: how long the peer has in any case; the last of the timeouts is repeated until then.
        """
        self._tries += 1
        if self._tries >= len(self._timeouts_s):
            if now < self._began + patience_s:
                self.deadline = now + self._timeouts_s[-1]
                return True
            self.deadline = None
            return False
        self.deadline = now + self._timeouts_s[self._tries]
        return True

    def answered(self, message_id: int) -> bool:
        """An authentic response came; True where it is the one that was waited for."""
        if message_id != self.message_id:
            return False
        self.forget()
        return True

    def restart(self, now: float, patience_s: float) -> None:
        """The request goes out anew along another path, with all its tries before it.

        But for the peer's patience only: one that moves again and again must not put off its answer for ever.
        """
        if now < self._began + patience_s:
            self._start(now)

    def _start(self, now: float) -> None:
        self._tries = 0
        self.deadline = now + self._timeouts_s[0]

    def forget(self) -> None:
        """Wait for no answer any more."""
        self.message_id = None
        self.datagrams = ()
        self.deadline = None


def _digest(datagram: bytes) -> bytes:
    return hashlib.sha256(datagram).digest()
