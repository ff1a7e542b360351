import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.eap.errors import MalformedPacket
from aaa.eap.packet import NO_TYPE, EapCode, EapPacket, EapType, failure, request, response, success, type_name

VECTORS = [
    # RFC 3748 section 4: code, identifier, length, type, type data.
    ("0107000501", EapPacket(EapCode.REQUEST, 7, EapType.IDENTITY, b"")),
    ("0207000a01616c696365", EapPacket(EapCode.RESPONSE, 7, EapType.IDENTITY, b"alice")),
    ("02ff0007030d1a", EapPacket(EapCode.RESPONSE, 255, EapType.NAK, b"\x0d\x1a")),
    ("02010006630a", EapPacket(EapCode.RESPONSE, 1, 99, b"\x0a")),
    ("03080004", EapPacket(EapCode.SUCCESS, 8, NO_TYPE, b"")),
    ("04090004", EapPacket(EapCode.FAILURE, 9, NO_TYPE, b"")),
]


@pytest.mark.parametrize(("text", "packet"), VECTORS)
def test_vectors_both_ways(text: str, packet: EapPacket) -> None:
    assert EapPacket.parse(bytes.fromhex(text)) == packet
    assert packet.to_bytes().hex() == text


@pytest.mark.parametrize(("text", "packet"), VECTORS)
def test_every_truncation_is_refused(text: str, packet: EapPacket) -> None:
    whole = bytes.fromhex(text)
    for size in range(len(whole)):
        with pytest.raises(MalformedPacket):
            EapPacket.parse(whole[:size])
    with pytest.raises(MalformedPacket):
        EapPacket.parse(whole + b"\0")


@pytest.mark.parametrize(
    "text",
    [
        "00000004",  # code 0
        "05000004",  # code 5
        "01000004",  # a request without a type
        "02000004",  # a response without a type
        "0300000501",  # Success with data
        "0400000501",  # Failure with data
        "0200000301",  # a length shorter than the header
    ],
)
def test_malformed_packets_are_refused(text: str) -> None:
    with pytest.raises(MalformedPacket):
        EapPacket.parse(bytes.fromhex(text))


def test_builders_agree_with_the_codec() -> None:
    assert request(1, 26, b"x") == EapPacket(EapCode.REQUEST, 1, 26, b"x").to_bytes()
    assert response(1, 26, b"x") == EapPacket(EapCode.RESPONSE, 1, 26, b"x").to_bytes()
    assert success(3) == EapPacket(EapCode.SUCCESS, 3, NO_TYPE, b"").to_bytes()
    assert failure(3) == EapPacket(EapCode.FAILURE, 3, NO_TYPE, b"").to_bytes()


def test_a_packet_can_not_be_longer_than_its_length_field() -> None:
    assert len(request(1, 13, bytes(0xFFFF - 5))) == 0xFFFF
    with pytest.raises(MalformedPacket):
        request(1, 13, bytes(0xFFFF - 4))


@given(
    st.sampled_from([EapCode.REQUEST, EapCode.RESPONSE]),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=80),
)
def test_round_trip(code: EapCode, identifier: int, eap_type: int, data: bytes) -> None:
    packet = EapPacket(code, identifier, eap_type, data)
    assert EapPacket.parse(packet.to_bytes()) == packet


@given(st.binary(max_size=40))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    try:
        packet = EapPacket.parse(data)
    except MalformedPacket:
        return
    assert packet.to_bytes() == data


def test_type_names() -> None:
    assert type_name(25) == "EAP-PEAP (25)"
    assert type_name(50) == "EAP-AKA-PRIME (50)"
    assert type_name(200) == "EAP type 200"
