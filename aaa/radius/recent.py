"""Grants that were given a moment ago, for clients that do not return Class (strongSwan's gateway is one).

RFC 2865 section 5.25 has them return it. From those that do not, a session's first record comes at once after the
sign-in: it is of whoever was let in there under this name, from this place, and has not been taken up yet.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from aaa.interface import Access

FRESH_S = 60.0
MOST_FRESH = 10_000

_Key = tuple[str, str, str]
"""Client, user name as it was asked with, and who calls."""


@dataclass(frozen=True, slots=True)
class _Grant:
    key: _Key
    access: Access
    until: float


class RecentGrants:
    """Remembers them for a minute, and each until it is taken up.

    Args:
        most: how many are remembered; beyond it the oldest is forgotten.
    """

    def __init__(self, most: int = MOST_FRESH) -> None:
        self._most = most
        self._grants: OrderedDict[int, _Grant] = OrderedDict()
        self._by_key: dict[_Key, list[int]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._grants)

    def remember(self, client: str, user_name: str, station: str, access: Access, now: float) -> None:
        """Somebody was let in at `now`, monotonic seconds."""
        self._forget(now)
        self._number += 1
        grant = _Grant(_key(client, user_name, station), access, now + FRESH_S)
        self._grants[self._number] = grant
        self._by_key.setdefault(grant.key, []).append(self._number)

    def take(self, client: str, user_name: str, station: str, now: float) -> Access | None:
        """The grant of a session that begins: the oldest that fits, once."""
        self._forget(now)
        numbers = self._by_key.get(_key(client, user_name, station))
        return self._remove(numbers[0]) if numbers else None

    def _remove(self, number: int) -> Access:
        grant = self._grants.pop(number)
        numbers = self._by_key[grant.key]
        numbers.remove(number)
        if not numbers:
            del self._by_key[grant.key]
        return grant.access

    def _forget(self, now: float) -> None:
        while self._grants:
            number, grant = next(iter(self._grants.items()))
            if grant.until > now and len(self._grants) < self._most:
                return
            self._remove(number)


def _key(client: str, user_name: str, station: str) -> _Key:
    return client, user_name.casefold(), station
