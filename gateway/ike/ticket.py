"""Tickets (RFC 5723): what a client needs to come back without a new key exchange and without a new proof.

A ticket is carried by the client, who can't read it: whoever keeps the keys (`TicketKeeper`) encrypts and
authenticates these bytes.

    version 1, encr 2, key bits 2, integ 2, prf 2, group 2, methods 1, method 2 each,
    until 8, id 16, then each with 2 bytes of length: IDi, IDr, SK_d, holder
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Protocol

from gateway.ike.constants import Encr, Group, Integ, Prf
from gateway.ike.proposals import IkeSuite

VERSION = 1
ID_BYTES = 16
_SUITE = struct.Struct("!BHHHHHB")
_UNTIL_AND_ID = struct.Struct(f"!Q{ID_BYTES}s")


class TicketRefused(Exception):
    """Not a ticket of ours, too old, or used before; the client has to sign in anew."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The shell lets an SA have tickets."""

    holder: bytes = field(repr=False)
    """Whatever the shell needs to ask AAA again; the core never looks at it."""
    until: int
    """When the peer has to prove anew who it is, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The state of an IKE SA that is worth keeping (section 6.1)."""

    id: bytes
    """Random; by it a ticket is known that was used before."""
    idi_body: bytes
    idr_body: bytes
    suite: IkeSuite
    sk_d: bytes = field(repr=False)
    grant: Grant

    def to_bytes(self) -> bytes:
        """Encode."""
        suite = self.suite
        parts = [
            _SUITE.pack(
                *(VERSION, suite.encr, suite.key_bits, suite.integ, suite.prf, suite.group, len(suite.additional))
            ),
            *(method.to_bytes(2, "big") for method in suite.additional),
            _UNTIL_AND_ID.pack(self.grant.until, self.id),
        ]
        for value in (self.idi_body, self.idr_body, self.sk_d, self.grant.holder):
            parts += [len(value).to_bytes(2, "big"), value]
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes) -> Ticket:
        """Decode what was found authentic; raises TicketRefused where it is of another version of this program."""
        try:
            version, encr, key_bits, integ, prf, group, methods = _SUITE.unpack_from(data)
            offset = _SUITE.size + 2 * methods
            if version != VERSION or len(data) < offset:
                raise TicketRefused(f"ticket of version {version}")
            additional = tuple(
                Group(int.from_bytes(data[at : at + 2], "big")) for at in range(_SUITE.size, offset, 2)
            )
            suite = IkeSuite(Encr(encr), key_bits, Integ(integ), Prf(prf), Group(group), additional)
            until, ticket_id = _UNTIL_AND_ID.unpack_from(data, offset)
            offset += _UNTIL_AND_ID.size
            values = []
            for _ in range(4):
                size = int.from_bytes(data[offset : offset + 2], "big")
                values.append(data[offset + 2 : offset + 2 + size])
                offset += 2 + size
        except (struct.error, ValueError):
            raise TicketRefused("not a ticket") from None
        if offset != len(data):
            raise TicketRefused("not a ticket")
        idi_body, idr_body, sk_d, holder = values
        return cls(ticket_id, idi_body, idr_body, suite, sk_d, Grant(holder, until))


class TicketKeeper(Protocol):
    """Has the keys and the time, and knows which tickets were used."""

    def issue(self, ticket: Ticket) -> tuple[int, bytes] | None:
        """For how many seconds the ticket is good, and the bytes for the client; None where there is no time left."""

    def redeem(self, data: bytes) -> Ticket:
        """Open a ticket that a client presents; raises TicketRefused."""

    def use(self, ticket: Ticket) -> bool:
        """Its holder has proved to be the one; False where somebody had done so before."""


@dataclass(slots=True)
class Resumption:
    """What an IKE SA has to do with tickets."""

    wanted: bool = False
    """The peer asked for one in IKE_AUTH."""
    grant: Grant | None = None
    idi_body: bytes = b""
    idr_body: bytes = b""
    """Of both sides, as they were proved."""
    redeemed: Ticket | None = None
    """The one by which this SA is being set up."""
