"""The IKE header and the chain of payloads: every length checked, unknown payloads treated as RFC 7296 says."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.constants import IKE_VERSION, ExchangeType, Flag, PayloadType
from gateway.ike.errors import IkeError, InvalidSyntax, UnsupportedCriticalPayload
from gateway.ike.message import MAX_PAYLOADS, Header, Payloads, chain, clear_message, parse_payloads

_CRITICAL = 0x80
PLAIN_TYPES = [t for t in PayloadType if t not in (PayloadType.NONE, PayloadType.SK, PayloadType.SKF)]
bodies = st.lists(st.tuples(st.sampled_from(PLAIN_TYPES), st.binary(max_size=60)), max_size=10)


def payload(next_type: int, body: bytes, *, critical: bool = False, length: int | None = None) -> bytes:
    """One payload with its generic header, wrong where the test wants it."""
    return (
        struct.pack("!BBH", next_type, _CRITICAL if critical else 0, 4 + len(body) if length is None else length)
        + body
    )


class TestHeader:
    def test_round_trip(self) -> None:
        header = Header(b"i" * 8, b"r" * 8, 33, IKE_VERSION, ExchangeType.IKE_AUTH, Flag.INITIATOR, 7, 28)
        assert Header.parse(header.to_bytes()) == header

    def test_layout(self) -> None:
        # RFC 7296 section 3.1, written out by hand.
        data = bytes.fromhex("0102030405060708 1112131415161718 2e 20 25 28 00000009 0000001c".replace(" ", ""))
        header = Header.parse(data)
        assert header.spi_i == bytes.fromhex("0102030405060708")
        assert header.spi_r == bytes.fromhex("1112131415161718")
        assert (header.next_payload, header.version) == (PayloadType.SK, 0x20)
        assert (header.exchange, header.message_id) == (ExchangeType.INFORMATIONAL, 9)
        assert header.is_response
        assert header.from_initiator

    @pytest.mark.parametrize("size", range(28))
    def test_every_truncation_is_invalid(self, size: int) -> None:
        with pytest.raises(InvalidSyntax):
            Header.parse(bytes(28)[:size])

    @pytest.mark.parametrize("length", [0, 27, 29, 2**32 - 1])
    def test_a_length_that_is_not_the_datagrams(self, length: int) -> None:
        header = Header(bytes(8), bytes(8), 0, IKE_VERSION, 37, 0, 0, length)
        with pytest.raises(InvalidSyntax):
            Header.parse(header.to_bytes())


class TestChain:
    @given(bodies)
    def test_round_trip(self, given_bodies: list[tuple[PayloadType, bytes]]) -> None:
        first, data = chain(given_bodies)
        expected: dict[int, list[bytes]] = {}
        for payload_type, body in given_bodies:
            expected.setdefault(payload_type, []).append(body)
        assert parse_payloads(first, data).bodies == expected

    @given(bodies.filter(bool), st.data())
    def test_every_truncation_is_invalid(
        self, given_bodies: list[tuple[PayloadType, bytes]], draw: st.DataObject
    ) -> None:
        first, data = chain(given_bodies)
        size = draw.draw(st.integers(0, len(data) - 1))
        with pytest.raises(InvalidSyntax):
            parse_payloads(first, data[:size])

    @given(st.integers(0, 255), st.binary(max_size=300))
    def test_whatever_comes_it_parses_or_raises_the_one_error(self, first: int, data: bytes) -> None:
        try:
            parsed = parse_payloads(first, data)
        except IkeError:
            return
        assert sum(map(len, parsed.bodies.values())) <= MAX_PAYLOADS

    @pytest.mark.parametrize("trailing", [b"\0", bytes(4), b"\x29" * 20])
    def test_trailing_bytes(self, trailing: bytes) -> None:
        with pytest.raises(InvalidSyntax):
            parse_payloads(PayloadType.NONCE, payload(0, b"n" * 16) + trailing)

    @pytest.mark.parametrize("length", [0, 1, 3, 21, 65535])
    def test_a_payload_length_that_does_not_fit(self, length: int) -> None:
        with pytest.raises(InvalidSyntax):
            parse_payloads(PayloadType.NONCE, payload(0, b"n" * 16, length=length))

    def test_a_zero_length_among_unknown_payloads_does_not_loop(self) -> None:
        with pytest.raises(InvalidSyntax):
            parse_payloads(200, payload(200, b"", length=0) * 3)

    def test_nothing_is_a_chain_too(self) -> None:
        assert parse_payloads(0, b"").bodies == {}
        assert chain([]) == (0, b"")

    def test_an_encrypted_payload_is_the_last_one(self) -> None:
        # Its next-payload field names the first payload inside.
        parsed = parse_payloads(PayloadType.SK, payload(PayloadType.IDI, b"sealed"))
        assert parsed.bodies == {PayloadType.SK: [b"sealed"]}
        with pytest.raises(InvalidSyntax):
            parse_payloads(PayloadType.SK, payload(PayloadType.IDI, b"sealed") + payload(0, b"after"))

    @pytest.mark.parametrize("ikev1", range(1, 33))
    def test_payload_types_of_ikev1(self, ikev1: int) -> None:
        with pytest.raises(InvalidSyntax):
            parse_payloads(ikev1, payload(0, b"x" * 8))
        with pytest.raises(InvalidSyntax):
            parse_payloads(PayloadType.NONCE, payload(ikev1, b"n" * 16) + payload(0, b"x" * 8))

    @pytest.mark.parametrize("unknown", [49, 52, 54, 128, 255])
    def test_unknown_payloads(self, unknown: int) -> None:
        after = payload(0, b"n" * 16)
        passed_over = parse_payloads(unknown, payload(PayloadType.NONCE, b"what is this") + after)
        assert passed_over.bodies == {PayloadType.NONCE: [b"n" * 16]}
        with pytest.raises(UnsupportedCriticalPayload) as caught:
            parse_payloads(unknown, payload(PayloadType.NONCE, b"what is this", critical=True) + after)
        assert caught.value.data == bytes((unknown,))

    def test_the_critical_bit_of_a_known_payload_means_nothing(self) -> None:
        assert parse_payloads(PayloadType.NONCE, payload(0, b"n" * 16, critical=True)).bodies

    @pytest.mark.parametrize("kind", [PayloadType.VENDOR_ID, 200])
    def test_too_many_payloads_known_or_not(self, kind: int) -> None:
        most = payload(kind, b"") * (MAX_PAYLOADS - 1) + payload(0, b"")
        parse_payloads(kind, most)
        with pytest.raises(InvalidSyntax):
            parse_payloads(kind, payload(kind, b"") + most)


class TestPayloads:
    items = Payloads({41: [b"a", b"c"], 43: [b"b"]})

    def test_look_up(self) -> None:
        assert self.items.first(PayloadType.NOTIFY) == b"a"
        assert self.items.all(PayloadType.NOTIFY) == [b"a", b"c"]
        assert self.items.require(PayloadType.VENDOR_ID) == b"b"

    def test_what_is_not_there(self) -> None:
        assert self.items.first(PayloadType.SA) is None
        assert not self.items.all(PayloadType.SA)
        with pytest.raises(InvalidSyntax, match="no SA payload"):
            self.items.require(PayloadType.SA)


def test_a_message_in_the_clear() -> None:
    data = clear_message(
        b"i" * 8, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, [(PayloadType.NONCE, b"n" * 16)]
    )
    header = Header.parse(data)
    assert (header.next_payload, header.version, header.length) == (PayloadType.NONCE, IKE_VERSION, len(data))
    assert parse_payloads(header.next_payload, data[28:]).require(PayloadType.NONCE) == b"n" * 16
