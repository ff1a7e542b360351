"""What is no RADIUS packet, before anything decodes it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.radius.request import NotAuthentic, Request, Service
from aaa.radius.wire import (
    MAX_ATTRIBUTES,
    MAX_PACKET_BYTES,
    MalformedPacket,
    join_values,
    number_of,
    sound_packet,
    split_value,
)
from core.secrets import Secret
from tests.peers.radius import ACCESS_REQUEST, ACCOUNTING, EAP, MAC, STATUS, encode, packet

SECRET = b"sixteen bytes of"


def raw(body: bytes, *, length: int | None = None, code: int = 1) -> bytes:
    return bytes((code, 7)) + (20 + len(body) if length is None else length).to_bytes(2, "big") + bytes(16) + body


class TestLengths:
    @pytest.mark.parametrize("size", range(20))
    def test_shorter_than_a_header(self, size: int) -> None:
        with pytest.raises(MalformedPacket):
            sound_packet(raw(b"")[:size])

    @pytest.mark.parametrize("length", [0, 19, 23, 4097, 65_535])
    def test_a_length_that_does_not_fit(self, length: int) -> None:
        with pytest.raises(MalformedPacket):
            sound_packet(raw(b"\x01\x02", length=length))

    def test_padding_is_no_part_of_it(self) -> None:
        assert sound_packet(raw(b"\x01\x03a") + b"\x00\x00") == (raw(b"\x01\x03a"), 0)

    def test_longer_than_radius_is(self) -> None:
        with pytest.raises(MalformedPacket):
            sound_packet(raw(b"\x01\x02") + bytes(MAX_PACKET_BYTES))

    @pytest.mark.parametrize(
        "body", [b"\x01", b"\x01\x00", b"\x01\x01", b"\x01\x03", b"\x01\x02\x4f\xff", b"\x4f\x00"]
    )
    def test_attribute_of_length_below_two_or_past_the_end(self, body: bytes) -> None:
        """CVE-2026-35333: a length of 0 must not loop, one of 1 must not be read as more."""
        with pytest.raises(MalformedPacket):
            sound_packet(raw(body))

    def test_every_truncation(self) -> None:
        whole = packet(ACCESS_REQUEST, SECRET, [(1, b"alice"), (EAP, b"x" * 253), (EAP, b"y")])
        for size in range(len(whole)):
            with pytest.raises((MalformedPacket, NotAuthentic)):
                Request.open(
                    whole[:2] + size.to_bytes(2, "big") + whole[4:size], Secret(SECRET), Service.AUTHENTICATION
                )

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        try:
            found, authenticators = sound_packet(data)
        except MalformedPacket:
            return
        assert data.startswith(found)
        assert authenticators in (0, 1)


class TestCounts:
    def test_as_many_attributes_as_are_taken(self) -> None:
        assert sound_packet(raw(b"\x21\x02" * MAX_ATTRIBUTES))[1] == 0

    def test_too_many_attributes(self) -> None:
        with pytest.raises(MalformedPacket, match="more than"):
            sound_packet(raw(b"\x21\x02" * (MAX_ATTRIBUTES + 1)))

    def test_a_packet_full_of_the_smallest(self) -> None:
        with pytest.raises(MalformedPacket):
            sound_packet(raw(b"\x21\x02" * 2038))

    def test_two_message_authenticators(self) -> None:
        with pytest.raises(MalformedPacket, match="Message-Authenticator"):
            sound_packet(packet(ACCESS_REQUEST, SECRET, [], macs=2))

    @pytest.mark.parametrize("size", [0, 15, 17])
    def test_a_message_authenticator_of_another_length(self, size: int) -> None:
        with pytest.raises(MalformedPacket, match="Message-Authenticator"):
            sound_packet(raw(encode([(MAC, bytes(size))])))


class TestAuthentic:
    @pytest.mark.parametrize("code", [ACCESS_REQUEST, STATUS])
    def test_message_authenticator_is_demanded(self, code: int) -> None:
        """CVE-2024-3596: without it, nothing says who an Access-Request is from."""
        with pytest.raises(NotAuthentic):
            Request.open(packet(code, SECRET, [(1, b"a")], macs=0), Secret(SECRET), Service.AUTHENTICATION)

    def test_every_changed_byte_is_noticed(self) -> None:
        whole = packet(ACCESS_REQUEST, SECRET, [(1, b"alice"), (EAP, b"\x02\x01\x00\x06\x01a")])
        for at in range(len(whole)):
            changed = whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]
            with pytest.raises((MalformedPacket, NotAuthentic)):
                Request.open(changed, Secret(SECRET), Service.AUTHENTICATION)

    def test_another_secret(self) -> None:
        for service, code in ((Service.AUTHENTICATION, ACCESS_REQUEST), (Service.ACCOUNTING, ACCOUNTING)):
            for macs in (0, 1):
                with pytest.raises(NotAuthentic):
                    Request.open(packet(code, b"another", [], macs=macs), Secret(SECRET), service)

    @pytest.mark.parametrize("macs", [0, 1])
    def test_accounting(self, macs: int) -> None:
        data = packet(ACCOUNTING, SECRET, [(1, b"alice")], macs=macs)
        assert Request.open(data, Secret(SECRET), Service.ACCOUNTING).text(1) == "alice"  # type: ignore[arg-type]

    def test_accounting_with_a_wrong_message_authenticator(self) -> None:
        good = packet(ACCOUNTING, SECRET, [])
        body = good[20:22] + bytes(16)
        forged = good[:4] + hashlib.md5(good[:4] + bytes(16) + body + SECRET).digest() + body
        with pytest.raises(NotAuthentic):
            Request.open(forged, Secret(SECRET), Service.ACCOUNTING)

    @pytest.mark.parametrize(
        ("service", "code"),
        [(Service.AUTHENTICATION, code) for code in (0, 2, 3, 4, 5, 11, 13, 40, 43, 255)]
        + [(Service.ACCOUNTING, code) for code in (1, 2, 5, 40)],
    )
    def test_codes_that_are_no_request_here(self, service: Service, code: int) -> None:
        with pytest.raises(MalformedPacket):
            Request.open(packet(code, SECRET, []), Secret(SECRET), service)


class TestValues:
    @given(st.binary(max_size=4000))
    def test_what_is_split_is_joined(self, value: bytes) -> None:
        parts = split_value(value)
        assert join_values(parts) == value
        assert all(len(part) == 253 for part in parts[:-1])

    def test_nothing_is_one_empty_attribute(self) -> None:
        assert split_value(b"") == [b""]

    def test_numbers(self) -> None:
        assert number_of([b"\0\0\1\0"]) == 256
        for values in ([], [b""], [b"\0\0\1"], [b"\0\0\0\0\1"], [bytes(4), bytes(4)]):
            assert number_of(values) is None
