"""Keeps the tickets of clients (RFC 5723): seals and opens them, and lets each be used once.

A ticket is AES-256-GCM under a key of its time: `epoch 4 | nonce 12 | ciphertext and tag`, the epoch authenticated
with it. Keys come from AAA, so that all gateways that share it have the same ones, and change with each epoch. A
ticket is good to the end of the epoch after its own at the latest, for then its key is gone everywhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aaa.interface import TicketKeys
from gateway.ike.ticket import Ticket, TicketRefused

MAX_TICKET_BYTES = 2048
MAX_USED = 100_000
"""Tickets that are remembered as used; where there are more, none is taken any more until some have run out."""
_EPOCH_BYTES, _NONCE_BYTES, _TAG_BYTES = 4, 12, 16
_HEADER_BYTES = _EPOCH_BYTES + _NONCE_BYTES
_EXPIRY_BYTES = 8


class Tickets:
    """Implements `gateway.ike.ticket.TicketKeeper`.

    Args:
        keys: those of now.
        lifetime_s: of a ticket; no longer than an epoch.
        clock: seconds since 1970.
        random: octets that no one can predict.
    """

    def __init__(
        self,
        keys: TicketKeys,
        lifetime_s: float,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._lifetime_s = int(lifetime_s)
        self._clock = clock
        self._random = random
        self._used: dict[bytes, float] = {}
        """Until when each has to be remembered."""
        self.renew(keys)

    def renew(self, keys: TicketKeys) -> None:
        """Take the keys that AAA has now."""
        self._epoch_s = keys.epoch_s
        self._ciphers = {epoch: AESGCM(key) for epoch, key in keys.keys.items()}

    def issue(self, ticket: Ticket) -> tuple[int, bytes] | None:
        """See `TicketKeeper`; none either while the key of this epoch is not there."""
        now = self._clock()
        epoch = int(now // self._epoch_s)
        lifetime_s = min(self._lifetime_s, int(ticket.grant.until - now))
        cipher = self._ciphers.get(epoch)
        if cipher is None or lifetime_s <= 0:
            return None
        header, nonce = epoch.to_bytes(_EPOCH_BYTES, "big"), self._random(_NONCE_BYTES)
        plain = int(now + lifetime_s).to_bytes(_EXPIRY_BYTES, "big") + ticket.to_bytes()
        return lifetime_s, header + nonce + cipher.encrypt(nonce, plain, header)

    def redeem(self, data: bytes) -> Ticket:
        """See `TicketKeeper`."""
        if not _HEADER_BYTES + _TAG_BYTES < len(data) <= MAX_TICKET_BYTES:
            raise TicketRefused("length of a ticket")
        header, nonce = data[:_EPOCH_BYTES], data[_EPOCH_BYTES:_HEADER_BYTES]
        cipher, now = self._ciphers.get(int.from_bytes(header, "big")), self._clock()
        if cipher is None:
            raise TicketRefused("ticket under a key that is gone")
        try:
            plain = cipher.decrypt(nonce, data[_HEADER_BYTES:], header)
        except InvalidTag:
            raise TicketRefused("not a ticket of ours") from None
        ticket = Ticket.parse(plain[_EXPIRY_BYTES:])
        if now >= min(int.from_bytes(plain[:_EXPIRY_BYTES], "big"), ticket.grant.until):
            raise TicketRefused("ticket too old")
        if ticket.id in self._used:
            raise TicketRefused("ticket used before")
        return ticket

    def use(self, ticket: Ticket) -> bool:
        """See `TicketKeeper`."""
        now = self._clock()
        if len(self._used) >= MAX_USED:
            self._used = {ticket_id: until for ticket_id, until in self._used.items() if until > now}
        if ticket.id in self._used or len(self._used) >= MAX_USED:
            return False
        # No ticket is good for longer, whatever is in it.
        self._used[ticket.id] = now + self._lifetime_s
        return True
