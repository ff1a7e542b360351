"""A token bucket: so many in a burst, so many a second after it."""

from __future__ import annotations


class TokenBucket:
    """Counts what it refused, so that whoever is limited can say so."""

    __slots__ = ("_burst", "_missed", "_per_s", "_tokens", "_updated")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._updated, self._missed = burst, now, 0

    def take(self, now: float) -> bool:
        """Take one token at `now`, monotonic seconds; False where there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._per_s)
        self._updated = now
        if self._tokens < 1.0:
            self._missed += 1
            return False
        self._tokens -= 1.0
        return True

    def miss(self) -> None:
        """Count one that was left out for another reason."""
        self._missed += 1

    def reset_missed(self) -> int:
        """How many were refused or left out since the last call."""
        missed, self._missed = self._missed, 0
        return missed
