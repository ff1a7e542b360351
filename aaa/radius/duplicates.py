"""Answers that are remembered, so that a repeated request gets the earlier one and is not carried out again.

RADIUS runs over UDP: the client repeats what was not answered in time, with the same identifier and the same Request
Authenticator, from the same port (RFC 5080 section 2.2.2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

REMEMBERED_S = 30.0
"""Longer than a client repeats a request; and an identifier that comes again sooner belongs to another request."""
MOST_REMEMBERED = 16_384


@dataclass(slots=True)
class _Entry:
    authenticator: bytes
    until: float
    answer: bytes | None = None


class Duplicates:
    """By where a request came from and its identifier. Only authentic requests may come here.

    Args:
        most: how many are remembered; beyond it the oldest is forgotten.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def is_known(self, key: Hashable, authenticator: bytes, now: float) -> bool:
        """Whether this very request came before; otherwise it counts as having come now, in place of an older one of
        its identifier.
        """
        self._forget(now)
        entry = self._entries.get(key)
        if entry is not None and entry.authenticator == authenticator:
            return True
        self._entries.pop(key, None)
        self._entries[key] = _Entry(authenticator, now + REMEMBERED_S)
        return False

    def answer(self, key: Hashable) -> bytes | None:
        """What a known request was answered; None while it is still worked on."""
        entry = self._entries.get(key)
        return entry.answer if entry is not None else None

    def answered(self, key: Hashable, authenticator: bytes, answer: bytes) -> None:
        """Remember an answer."""
        entry = self._entries.get(key)
        if entry is not None and entry.authenticator == authenticator:
            entry.answer = answer

    def drop(self, key: Hashable, authenticator: bytes) -> None:
        """There will be no answer, and a repetition is to be tried anew."""
        entry = self._entries.get(key)
        if entry is not None and entry.authenticator == authenticator:
            del self._entries[key]

    def _forget(self, now: float) -> None:
        while self._entries:
            if next(iter(self._entries.values())).until > now and len(self._entries) < self._most:
                return
            self._entries.popitem(last=False)
