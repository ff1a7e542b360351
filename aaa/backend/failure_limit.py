"""Counts failed sign-ins and says when an identity or an address has had enough.

An address has enough soon, an identity late: nobody on the internet shall be able to lock a user out by failing in
the user's name from a place or two, and an access code can't be guessed in any number of attempts that is feasible.

The memory is fixed: keys share a table of counters. Two keys that meet in one counter make the limit
stricter, never laxer, and no flood of new keys can push an old one out.
"""

from __future__ import annotations

import hashlib
from array import array
from ipaddress import IPv6Address, IPv6Network, ip_address

WINDOW_S = 60.0
_COUNTERS = 1 << 16
_IPV6_PREFIX = 64
"""One customer of an IPv6 network has at least this prefix, and as many addresses as it likes in it."""


class FailureLimit:
    """Refuses for a minute after so many failures within a minute.

    Args:
        per_address: failures after which an address is blocked.
        per_identity: failures after which an identity is blocked.
        salt: random; keeps others from finding keys that meet in one counter.
    """

    def __init__(self, per_address: int, per_identity: int, salt: bytes) -> None:
        self._per_address = per_address
        self._per_identity = per_identity
        self._salt = salt
        self._counts = array("L", (0,)) * _COUNTERS
        self._since = array("d", bytes(8 * _COUNTERS))
        self._told = array("d", (-1.0,)) * _COUNTERS
        """Of which block somebody was told: its beginning."""

    def blocked(self, identity: str, address: str, now: float) -> bool:
        """Whether either key is blocked at `now` (monotonic seconds); an empty key is not looked at."""
        return any(self._is_full(slot, limit, now) for slot, limit in self._slots(identity, address))

    def failed(self, identity: str, address: str, now: float) -> None:
        """Count one failure for both keys."""
        for slot, limit in self._slots(identity, address):
            if now - self._since[slot] >= WINDOW_S:
                self._counts[slot], self._since[slot] = 0, now
            if self._counts[slot] < limit:
                self._counts[slot] += 1
                if self._counts[slot] == limit:
                    self._since[slot] = now

    def first_of_block(self, identity: str, address: str, now: float) -> bool:
        """Whether nobody has asked this yet since either key was blocked: the refusals after it say nothing new."""
        full = [slot for slot, limit in self._slots(identity, address) if self._is_full(slot, limit, now)]
        first = all(self._told[slot] != self._since[slot] for slot in full)
        for slot in full:
            self._told[slot] = self._since[slot]
        return first

    def _is_full(self, slot: int, limit: int, now: float) -> bool:
        return self._counts[slot] >= limit and now - self._since[slot] < WINDOW_S

    def _slots(self, identity: str, address: str) -> list[tuple[int, int]]:
        """The counters of the keys, each with its limit."""
        slots = [(self._slot(f"address {_network(address)}"), self._per_address)] if address else []
        if identity:
            slots.append((self._slot(f"identity {identity}"), self._per_identity))
        return slots

    def _slot(self, key: str) -> int:
        digest = hashlib.blake2b(key.encode(), digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest) % _COUNTERS


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _IPV6_PREFIX), strict=False))
    return address
