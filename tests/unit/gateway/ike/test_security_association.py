"""The SA payload: proposals of transforms of attributes, three lengths deep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.constants import Encr, ProtocolId, TransformType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.payloads.security_association import (
    MAX_PROPOSALS,
    MAX_TRANSFORMS,
    Proposal,
    Transform,
    parse_proposals,
    proposals_to_bytes,
)

transforms = st.builds(Transform, st.integers(1, 255), st.integers(0, 65535), st.integers(0, 65535), st.just(True))
proposals = st.builds(
    Proposal,
    st.integers(0, 255),
    st.integers(0, 255),
    st.sampled_from([b"", b"spi4", b"spi size"]),
    st.lists(transforms, max_size=MAX_TRANSFORMS).map(tuple),
)
offers = st.lists(proposals, min_size=1, max_size=MAX_PROPOSALS).map(tuple)

ONE = "00000028 010100030300000c 0100000c 800e010003000008 020000050000000c 0400001f 800e0000"


def body(text: str) -> bytes:
    """Hexadecimal with spaces."""
    return bytes.fromhex(text.replace(" ", ""))


@given(offers)
def test_round_trip(offer: tuple[Proposal, ...]) -> None:
    assert parse_proposals(proposals_to_bytes(offer)) == offer


@given(st.lists(proposals, min_size=1, max_size=3).map(tuple))
def test_every_truncation_is_invalid(offer: tuple[Proposal, ...]) -> None:
    encoded = proposals_to_bytes(offer)
    for size in range(len(encoded)):
        with pytest.raises(InvalidSyntax):
            parse_proposals(encoded[:size])


@given(st.binary(max_size=200))
def test_whatever_comes_it_parses_or_raises_the_one_error(data: bytes) -> None:
    try:
        offer = parse_proposals(data)
    except InvalidSyntax:
        return
    assert 1 <= len(offer) <= MAX_PROPOSALS


@given(st.lists(proposals, min_size=1, max_size=2).map(tuple), st.data())
def test_any_byte_may_be_wrong(offer: tuple[Proposal, ...], data: st.DataObject) -> None:
    encoded = bytearray(proposals_to_bytes(offer))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_proposals(bytes(encoded))
    except InvalidSyntax:
        return


def test_layout() -> None:
    # RFC 7296 sections 3.3.1 to 3.3.5, written out by hand.
    (proposal,) = parse_proposals(body(ONE))
    assert proposal == Proposal(
        1,
        ProtocolId.IKE,
        b"",
        (Transform(TransformType.ENCR, Encr.AES_CBC, 256), Transform(TransformType.PRF, 5), Transform(4, 31)),
    )


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("nothing", ""),
        ("proposal length 0", ONE.replace("00000028", "00000000")),
        ("proposal shorter than its header", ONE.replace("00000028", "00000007")),
        ("proposal longer than the payload", ONE.replace("00000028", "00000029")),
        ("SPI of 3 bytes", "00000010 01030301 aabbcc 0000000800"),
        ("SPI of 255 bytes", "00000008 0103ff00"),
        ("more transforms announced", ONE.replace("01010003", "01010004")),
        ("fewer transforms announced", ONE.replace("01010003", "01010002")),
        ("no transforms announced", ONE.replace("01010003", "01010000")),
        ("transform length 0", ONE.replace("03000008", "03000000")),
        ("transform longer than the proposal", ONE.replace("0000000c 04", "0000000d 04")),
        ("an early last transform", ONE.replace("03000008", "00000008")),
        ("no last transform", ONE.replace("0000000c 04", "0300000c 04")),
        ("attribute cut short", "00000013 010100010000000b 0100000c 800e01"),
        ("long attribute past the end", "00000014 010100010000000c 0100000c 000e0008"),
        ("a proposal after the last", ONE + ONE),
        ("no last proposal", "02" + ONE[2:]),
    ],
)
def test_what_does_not_fit(what: str, text: str) -> None:
    with pytest.raises(InvalidSyntax):
        parse_proposals(body(text))


def test_counts_have_limits() -> None:
    many = Proposal(1, 1, b"", (Transform(1, 12, 256),) * (MAX_TRANSFORMS + 1))
    with pytest.raises(InvalidSyntax, match="transforms"):
        parse_proposals(proposals_to_bytes((many,)))
    with pytest.raises(InvalidSyntax, match="proposals"):
        parse_proposals(proposals_to_bytes((Proposal(1, 1, b"", ()),) * (MAX_PROPOSALS + 1)))


@pytest.mark.parametrize(
    ("attribute", "key_bits", "understood"),
    [
        ("800e0080", 128, True),
        ("800f0080", 0, False),  # another short attribute
        ("00110002aabb", 0, False),  # a long one
        ("000e00020080", 0, False),  # the key length in the long form, which section 3.3.5 does not allow
        ("800e0080800f0001", 128, False),
    ],
)
def test_a_transform_with_an_unknown_attribute_is_kept_but_marked(
    attribute: str, key_bits: int, understood: bool
) -> None:
    data = bytes.fromhex(attribute)
    transform = bytes((0, 0)) + (8 + len(data)).to_bytes(2, "big") + body("0100000c") + data
    proposal = bytes((0, 0)) + (8 + len(transform)).to_bytes(2, "big") + body("01010001") + transform
    (parsed,) = parse_proposals(proposal)
    assert parsed.transforms == (Transform(1, 12, key_bits, understood),)
