"""Token buckets: so many in a burst, so many a second after it."""

from __future__ import annotations

import hashlib
from array import array


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


class BucketTable:
    """A bucket for each key, in a memory that no number of keys makes grow: keys share a table of counters.

    Two keys that meet in one counter make the limit stricter, never laxer.

    Args:
        salt: random; keeps others from finding keys that meet.
        counters: how many there are; 16 bytes each.
    """

    __slots__ = ("_counters", "_salt", "_taken", "_updated")

    def __init__(self, salt: bytes, counters: int = 1 << 14) -> None:
        self._salt = salt
        self._counters = counters
        self._taken = array("d", bytes(8 * counters))
        self._updated = array("d", bytes(8 * counters))

    def take(self, key: str, per_s: float, burst: float, now: float) -> bool:
        """Take one token of a key at `now`, monotonic seconds; False where there is none."""
        digest = hashlib.blake2b(key.encode(), digest_size=8, key=self._salt).digest()
        slot = int.from_bytes(digest, "big") % self._counters
        taken = max(0.0, self._taken[slot] - (now - self._updated[slot]) * per_s)
        self._updated[slot] = now
        if taken + 1.0 > burst:
            self._taken[slot] = taken
            return False
        self._taken[slot] = taken + 1.0
        return True
