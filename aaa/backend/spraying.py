"""Notices password spraying: a few guesses for each of many users, which no limit of one user or address sees."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

WINDOW_S = 600.0
GUESSES = frozenset({"wrong-credential", "unknown-user"})
"""The codes of refusals that may be guesses."""


@dataclass(slots=True)
class _Distinct:
    """How many different keys there were within the window; what is beyond `most` does not count.

    Digests are kept, for what peers write has any length.
    """

    most: int
    _seen: OrderedDict[bytes, float] = field(default_factory=OrderedDict)

    def add(self, key: str, now: float) -> int:
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=12).digest()
        self._seen[digest] = now
        self._seen.move_to_end(digest)
        while len(self._seen) > self.most or next(iter(self._seen.values())) <= now - WINDOW_S:
            self._seen.popitem(last=False)
        return len(self._seen)


@dataclass(frozen=True, slots=True)
class Spraying:
    """So many users were tried within the window, from so many addresses."""

    users: int
    addresses: int


class SprayingWatch:
    """Counts the users for whom wrong passwords came.

    Args:
        users: so many different ones within the window are spraying; None: nothing is.
    """

    def __init__(self, users: int | None) -> None:
        self._threshold = users
        self._users = _Distinct(users or 1)
        self._addresses = _Distinct(1000)
        self._quiet_until = float("-inf")

    def refused(self, code: str, user_key: str, address: str, now: float) -> Spraying | None:
        """Somebody was refused: what is to be told of it, once in a window.

        Args:
            code: of the refusal.
            user_key: one for all spellings of the user's name.
            address: where it came from.
            now: monotonic seconds.
        """
        if self._threshold is None or code not in GUESSES or not user_key:
            return None
        users, addresses = self._users.add(user_key, now), self._addresses.add(address, now)
        if users < self._threshold or now < self._quiet_until:
            return None
        self._quiet_until = now + WINDOW_S
        return Spraying(users, addresses)
