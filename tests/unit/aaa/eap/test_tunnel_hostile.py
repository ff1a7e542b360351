"""What a hostile peer may put into a tunnel, and into the fragments that carry it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.eap.errors import EapError, LimitExceeded, MalformedPacket
from aaa.eap.packet import EapPacket, EapType, response
from aaa.eap.peap_tlvs import MAX_TLVS, Tlv, parse_result, parse_tlvs
from aaa.eap.server import Authenticated, Failed, Send
from aaa.eap.ttls_avps import MAX_AVPS, MICROSOFT, Avp, AvpCode, MicrosoftCode, avps_to_bytes, parse_avps
from aaa.eap.tunnel import MAX_INNER_BYTES
from tests.peers.eap import GtcPeer, TtlsPeer
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import Conversation, converse, inside_tunnels, make_server

NAME = Avp(AvpCode.USER_NAME, b"alice")
PASSWORD = Avp(AvpCode.USER_PASSWORD, b"secret")
EVERYTHING = (NAME, PASSWORD, Avp(MicrosoftCode.MS_CHAP_CHALLENGE, bytes(17), MICROSOFT))


def say(data: bytes) -> Conversation:
    """One sign-in in which the peer says this inside the tunnel."""
    peer = TtlsPeer("anonymous", GtcPeer(""), [house().root.der], avps=data)
    return converse(make_server(["ttls"], inside=inside_tunnels()), peer)


@pytest.mark.parametrize("length", range(8))
def test_avp_lengths_below_the_header(length: int) -> None:
    data = struct.pack("!IBBH", 1, 0x40, 0, length) + b"alice"
    with pytest.raises(MalformedPacket):
        parse_avps(data)
    assert say(data).failed.code == "protocol-error"


@pytest.mark.parametrize("length", range(8, 12))
def test_avp_lengths_below_the_header_with_vendor(length: int) -> None:
    with pytest.raises(MalformedPacket):
        parse_avps(struct.pack("!IBBHI", 11, 0xC0, 0, length, MICROSOFT))


@pytest.mark.parametrize("size", range(9))
def test_avp_padding(size: int) -> None:
    """What it holds does not matter, the last may go without, and cut off in the middle it is an error."""
    avp = Avp(AvpCode.USER_NAME, b"a" * size)
    padded = avp.to_bytes()
    padding = -(8 + size) % 4
    assert len(padded) % 4 == 0
    bare = padded[: 8 + size]
    assert parse_avps(bare) == [avp]
    assert parse_avps(bare + b"\xff" * padding + padded) == [avp, avp]
    for missing in range(1, padding):
        with pytest.raises(MalformedPacket):
            parse_avps(bare + bytes(padding - missing))


def test_every_truncation_of_avps() -> None:
    whole = avps_to_bytes(EVERYTHING)
    assert parse_avps(whole) == list(EVERYTHING)
    for size in range(len(whole)):
        try:
            found = parse_avps(whole[:size])
        except MalformedPacket:
            continue
        assert found == list(EVERYTHING[: len(found)])


def test_avp_count() -> None:
    assert len(parse_avps(NAME.to_bytes() * MAX_AVPS)) == MAX_AVPS
    with pytest.raises(LimitExceeded):
        parse_avps(NAME.to_bytes() * (MAX_AVPS + 1))


@pytest.mark.parametrize(
    ("avps", "code"),
    [
        ([NAME], "protocol-error"),
        ([NAME, NAME, PASSWORD], "protocol-error"),
        ([NAME, PASSWORD, Avp(AvpCode.EAP_MESSAGE, b"")], "protocol-error"),
        ([NAME, PASSWORD, Avp(4711, b"")], "protocol-error"),
        ([NAME, Avp(AvpCode.USER_PASSWORD, b"a\0b")], "protocol-error"),
        ([NAME, Avp(AvpCode.USER_PASSWORD, b"\xff")], "protocol-error"),
        ([NAME, Avp(AvpCode.USER_PASSWORD, b"a" * 257)], "protocol-error"),
        ([Avp(AvpCode.USER_NAME, b"a" * 254), PASSWORD], "limit-exceeded"),
        ([NAME, Avp(AvpCode.CHAP_PASSWORD, bytes(17))], "no-common-method"),
        ([Avp(AvpCode.EAP_MESSAGE, b"")], "protocol-error"),
        ([Avp(AvpCode.EAP_MESSAGE, response(0, EapType.NAK, b"\x06"))], "protocol-error"),
        ([Avp(AvpCode.USER_NAME, bytes(MAX_INNER_BYTES))], "limit-exceeded"),
    ],
)
def test_what_is_no_sign_in(avps: list[Avp], code: str) -> None:
    done = say(avps_to_bytes(avps))
    assert done.failed.code == code
    assert done.passwords == []


def test_an_optional_avp_that_is_not_understood_is_passed_over() -> None:
    avps = [NAME, Avp(4711, b"whatever", mandatory=False), PASSWORD]
    assert [question.identity for question in say(avps_to_bytes(avps)).passwords] == ["alice"]


@pytest.mark.parametrize("size", [0, 49, 51])
def test_ms_chap2_response_of_an_odd_length(size: int) -> None:
    response_avp = Avp(MicrosoftCode.MS_CHAP2_RESPONSE, bytes(size), MICROSOFT)
    avps = [NAME, Avp(MicrosoftCode.MS_CHAP_CHALLENGE, bytes(16), MICROSOFT), response_avp]
    assert say(avps_to_bytes(avps)).failed.code == "protocol-error"


def test_a_challenge_that_is_not_of_this_tunnel() -> None:
    response_avp = Avp(MicrosoftCode.MS_CHAP2_RESPONSE, bytes(50), MICROSOFT)
    avps = [NAME, Avp(MicrosoftCode.MS_CHAP_CHALLENGE, bytes(16), MICROSOFT), response_avp]
    done = say(avps_to_bytes(avps))
    assert "not that of this tunnel" in done.failed.reason
    assert done.asked_for == []


def test_tlv_lengths_and_counts() -> None:
    whole = Tlv(3, b"\0\1", mandatory=True).to_bytes()
    assert parse_tlvs(whole * 2) == [Tlv(3, b"\0\1", mandatory=True)] * 2
    for size in range(1, len(whole)):
        with pytest.raises(MalformedPacket):
            parse_tlvs(whole[:size])
    with pytest.raises(LimitExceeded):
        parse_tlvs(whole * (MAX_TLVS + 1))
    for value in (b"", b"\0", b"\0\0", b"\0\3", b"\0\1\0"):
        with pytest.raises(MalformedPacket):
            parse_result(value)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for parse in (parse_avps, parse_tlvs):
        try:
            parse(data)
        except EapError:
            continue


@pytest.mark.parametrize("eap_type", [EapType.TTLS, EapType.PEAP])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "protocol-error"),
        (b"\x00", "protocol-error"),
        (b"\x20", "protocol-error"),
        (b"\x01\x16\x03\x01", "protocol-error"),
        (b"\x07", "protocol-error"),
        (b"\x80\x00\x00", "protocol-error"),
        (b"\x40abc", "protocol-error"),
        (b"\xc0\x00\x00\x00\x03abc", "protocol-error"),
        (b"\x80\x00\x00\x00\x02abc", "protocol-error"),
        (b"\xc0\x00\x01\x00\x01abc", "limit-exceeded"),
        (b"\xc0\xff\xff\xff\xffabc", "limit-exceeded"),
    ],
)
def test_fragments_and_flags_that_do_not_fit(eap_type: EapType, data: bytes, code: str) -> None:
    server = make_server(["ttls" if eap_type is EapType.TTLS else "peap"], inside=inside_tunnels())
    step = server.receive(response(server.start()[1], EapType.IDENTITY, b"anonymous"))
    assert isinstance(step, Send)
    start = EapPacket.parse(step.packet)
    assert (start.type, start.data) == (eap_type, b"\x20")
    failed = server.receive(response(start.identifier, eap_type, data))
    assert isinstance(failed, Failed)
    assert failed.code == code


@given(st.lists(st.binary(max_size=120), min_size=1, max_size=4))
def test_any_bytes_inside_the_tunnel(said: list[bytes]) -> None:
    done = say(b"".join(said) or b"\0")
    assert not isinstance(done.step, Authenticated)
