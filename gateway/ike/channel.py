"""The encrypted side of an IKE SA: seals messages, opens them, fragments both ways. Used by either role."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from gateway.ike.constants import IKE_HEADER_BYTES, IKE_VERSION, ExchangeType, Flag, PayloadType
from gateway.ike.crypto.protection import Protection, make_protection
from gateway.ike.errors import InvalidSyntax
from gateway.ike.fragments import FRAGMENT_NUMBERS, Fragment, Incomplete, Reassembly, cut
from gateway.ike.keymat import IkeKeys
from gateway.ike.message import Header, Payloads, chain, parse_payloads
from gateway.ike.proposals import IkeSuite

Random = Callable[[int], bytes]
OutPayloads = Sequence[tuple[PayloadType, bytes]]

_SK_HEADER = struct.Struct("!BBH")
_SKF_HEADER_BYTES = _SK_HEADER.size + FRAGMENT_NUMBERS.size
_UDP_AND_MARKER_BYTES = 12
_IP_HEADER_BYTES = {4: 20, 6: 40}


class Channel:
    """Keys of both directions, with the fragments that are on their way in."""

    __slots__ = (
        "_inbound",
        "_outbound",
        "_random",
        "_requests",
        "_responses",
        "_role",
        "_spis",
        "first_datagram",
        "fragmentation",
        "message_fragments",
        "room_bytes",
        "window",
    )

    def __init__(
        self, suite: IkeSuite, keys: IkeKeys, spi_i: bytes, spi_r: bytes, *, is_initiator: bool, random: Random
    ) -> None:
        from_initiator = make_protection(suite.encr, suite.integ, keys.ei, keys.ai)
        from_responder = make_protection(suite.encr, suite.integ, keys.er, keys.ar)
        self._outbound: Protection = from_initiator if is_initiator else from_responder
        self._inbound: Protection = from_responder if is_initiator else from_initiator
        self._role = Flag.INITIATOR if is_initiator else 0
        self._spis = spi_i, spi_r
        self._random = random
        # The message ids of the two sides are counted apart, so a request and a response may have the same one.
        self._requests: dict[int, Reassembly] = {}
        self._responses: dict[int, Reassembly] = {}
        self.window = 1
        """How many messages of the peer may be incomplete at a time."""
        self.first_datagram = b""
        """Of the message that `open` returned last: its first fragment, where it came in several."""
        self.message_fragments = 1
        """In how many fragments that message came."""
        self.fragmentation = False
        """Both sides announced IKEV2_FRAGMENTATION_SUPPORTED."""
        self.room_bytes = 0
        """Largest IKE message that is sent whole, when fragmentation may be used."""

    def set_fragment_size(self, ip_datagram_bytes: int, ip_version: int) -> None:
        """Allow fragmentation with datagrams of this size, IP header included."""
        self.fragmentation = True
        self.room_bytes = ip_datagram_bytes - _IP_HEADER_BYTES[ip_version] - _UDP_AND_MARKER_BYTES

    @property
    def incomplete_request(self) -> Incomplete | None:
        """The peer's oldest request of which fragments are missing, if there is one."""
        return self._requests[min(self._requests)].incomplete if self._requests else None

    def forget_incomplete(self) -> None:
        """What the peer has not completed by now, it will send anew or not at all."""
        self._requests.clear()
        self._responses.clear()

    def seal(self, exchange: ExchangeType, message_id: int, payloads: OutPayloads, *, response: bool) -> list[bytes]:
        """Encrypt a message; several datagrams where it has to be fragmented."""
        return self.seal_plain(exchange, message_id, *chain(payloads), response=response)

    def seal_plain(
        self, exchange: ExchangeType, message_id: int, first: int, plain: bytes, *, response: bool
    ) -> list[bytes]:
        """Encrypt inner payloads that are encoded already; `first` is the type of the first one."""
        flags = self._role | (Flag.RESPONSE if response else 0)
        protection = self._outbound
        body_bytes = protection.sealed_bytes(len(plain))
        length = IKE_HEADER_BYTES + _SK_HEADER.size + body_bytes
        if not self.fragmentation or length <= self.room_bytes:
            aad = Header(
                *self._spis, PayloadType.SK, IKE_VERSION, exchange, flags, message_id, length
            ).to_bytes() + _SK_HEADER.pack(first, 0, _SK_HEADER.size + body_bytes)
            return [aad + protection.seal(aad, plain, self._random(protection.iv_bytes))]
        room = self.room_bytes - IKE_HEADER_BYTES - _SK_HEADER.size
        pieces = cut(plain, room, protection.sealed_bytes)
        datagrams = []
        for number, piece in enumerate(pieces, start=1):
            body_bytes = protection.sealed_bytes(len(piece))
            length = IKE_HEADER_BYTES + _SKF_HEADER_BYTES + body_bytes
            aad = b"".join(
                (
                    Header(*self._spis, PayloadType.SKF, IKE_VERSION, exchange, flags, message_id, length).to_bytes(),
                    _SK_HEADER.pack(first if number == 1 else 0, 0, _SKF_HEADER_BYTES + body_bytes),
                    FRAGMENT_NUMBERS.pack(number, len(pieces)),
                )
            )
            datagrams.append(aad + protection.seal(aad, piece, self._random(protection.iv_bytes)))
        return datagrams

    def open(self, header: Header, data: bytes) -> Payloads | None:
        """Verify and decrypt a datagram; None while fragments are missing.

        Raises:
            IntegrityError: not authentic: drop it, change nothing.
            InvalidSyntax: no SK or SKF payload where it must be, or fragment numbers that do not fit: drop it as
                well, for this is found before anything was verified.
            AuthenticButInvalid: authentic, and what is inside is malformed.
            UnsupportedCriticalPayload: authentic, with a payload that we have to understand and do not.
        """
        if len(data) < IKE_HEADER_BYTES + _SK_HEADER.size:
            raise InvalidSyntax("encrypted payload too short")
        first, _, length = _SK_HEADER.unpack_from(data, IKE_HEADER_BYTES)
        if IKE_HEADER_BYTES + length != len(data):
            raise InvalidSyntax("the encrypted payload is not the last one")
        if header.next_payload == PayloadType.SK:
            offset = IKE_HEADER_BYTES + _SK_HEADER.size
            try:
                plain = self._inbound.open(data[:offset], data[offset:])
                self.first_datagram = data
                self.message_fragments = 1
                return _parse(Fragment(first, plain, data))
            except InvalidSyntax as error:
                raise AuthenticButInvalid(str(error)) from None
        if header.next_payload == PayloadType.SKF and self.fragmentation:
            return self._open_fragment(header, first, data)
        raise InvalidSyntax("no encrypted payload")

    def _open_fragment(self, header: Header, first: int, data: bytes) -> Payloads | None:
        offset = IKE_HEADER_BYTES + _SKF_HEADER_BYTES
        if len(data) < offset:
            raise InvalidSyntax("SKF payload too short")
        number, total = FRAGMENT_NUMBERS.unpack_from(data, IKE_HEADER_BYTES + _SK_HEADER.size)
        incomplete = self._responses if header.is_response else self._requests
        reassembly = incomplete.get(header.message_id) or Reassembly()
        reassembly.check_numbers(number, total)
        if not reassembly.wants(number, total):
            return None
        try:
            plain = self._inbound.open(data[:offset], data[offset:])
            self.first_datagram = data
            # Only now: nothing is kept for a message of which nothing has verified.
            incomplete[header.message_id] = reassembly
            if len(incomplete) > self.window:
                del incomplete[min(incomplete)]
            whole = reassembly.add(number, total, Fragment(first, plain, data if number == 1 else b""))
            if whole is None:
                return None
            incomplete.pop(header.message_id, None)
            self.first_datagram = whole.datagram
            self.message_fragments = total
            return _parse(whole)
        except InvalidSyntax as error:
            raise AuthenticButInvalid(str(error)) from None


def _parse(whole: Fragment) -> Payloads:
    payloads = parse_payloads(whole.first_payload, whole.plain)
    payloads.whole = whole
    return payloads


class AuthenticButInvalid(InvalidSyntax):
    """The peer itself sent a message that can't be parsed: answer with INVALID_SYNTAX and end the SA."""
