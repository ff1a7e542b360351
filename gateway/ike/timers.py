"""The deadlines of one SA, each under a key of its own."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Timer(Enum):
    """What an IKE SA waits for; beside these, an exchange of ours that is to begin later is its own key."""

    HALF_OPEN = "the handshake's end"
    LINGER = "the end of answering retransmissions"
    SESSION_END = "the end of the session's lifetime"
    LIVENESS = "the next look whether the peer is alive"
    KEEPALIVE = "the next NAT keepalive"
    REDIRECTED = "the end of the time to move to another gateway"
    DELETE = "the Delete of an SA that is of no use any more"
    REKEY = "the rekeying of the IKE SA"
    FOLLOWUP = "the next additional key exchange of a CREATE_CHILD_SA of the peer; with its link"
    REMOVE_CHILD = "the removal of a child SA that was deleted; with its SPI"


class Timers:
    """Deadlines in monotonic seconds."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due: dict[object, float] = {}

    def set(self, key: object, at: float) -> None:
        """Wait for this until then; an earlier deadline under the key is forgotten."""
        self._due[key] = at

    def cancel(self, *keys: object) -> None:
        """Wait no more; keys that are not there do no harm."""
        for key in keys:
            self._due.pop(key, None)

    def clear(self) -> None:
        """Wait for nothing any more."""
        self._due.clear()

    def get(self, key: object) -> float | None:
        """The deadline of a key."""
        return self._due.get(key)

    @property
    def earliest(self) -> float | None:
        """The next deadline of all."""
        return min(self._due.values(), default=None)

    def pop_due(self, now: float) -> list[object]:
        """Take out what is due, the earliest first."""
        due = sorted((at, index, key) for index, (key, at) in enumerate(self._due.items()) if at <= now)
        for _, _, key in due:
            del self._due[key]
        return [key for _, _, key in due]

    def hand_over(self, to: Timers, moves: Callable[[object], bool]) -> None:
        """Move the deadlines of those keys that move along."""
        for key in [key for key in self._due if moves(key)]:
            to._due[key] = self._due.pop(key)
