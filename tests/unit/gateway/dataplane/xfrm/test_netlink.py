"""Netlink's framing: messages, attributes, acknowledgements."""

from __future__ import annotations

import errno
import random
import struct

import pytest

from gateway.dataplane.xfrm.netlink import (
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLMSG_ERROR,
    MalformedNetlink,
    Message,
    Verdict,
    attribute,
    parse_attributes,
    parse_messages,
    parse_verdict,
)
from tests.unit.gateway.dataplane.xfrm.kernel_messages import refusal

MESSAGES = [Message(16, 5, 7, b"body"), Message(2, 0, 0xFFFF_FFFF, b""), Message(3, 2, 1, b"odd length")]


def test_messages_survive_a_round_trip() -> None:
    data = b"".join(message.to_bytes() for message in MESSAGES)
    assert len(data) % 4 == 0
    assert parse_messages(data) == MESSAGES
    assert parse_messages(b"") == []


@pytest.mark.parametrize("size", range(1, len(MESSAGES[0].to_bytes())))
def test_a_message_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(MalformedNetlink):
        parse_messages(MESSAGES[0].to_bytes()[:size])


@pytest.mark.parametrize("length", [0, 15, 21, 0xFFFF_FFFF])
def test_a_wrong_message_length_is_refused(length: int) -> None:
    with pytest.raises(MalformedNetlink):
        parse_messages(struct.pack("=I", length) + MESSAGES[0].to_bytes()[4:])


def test_attributes_survive_a_round_trip() -> None:
    data = attribute(1, b"") + attribute(2, b"a") + attribute(0x8003, b"nested") + attribute(2, b"again")
    assert len(data) % 4 == 0
    assert parse_attributes(data) == {1: b"", 2: b"again", 3: b"nested"}
    assert parse_attributes(b"") == {}


@pytest.mark.parametrize("size", range(1, len(attribute(5, b"1234567"))))
def test_an_attribute_that_is_cut_off_is_refused(size: int) -> None:
    data = attribute(5, b"1234567")[:size]
    if size == 11:  # only the padding is missing
        assert parse_attributes(data) == {5: b"1234567"}
        return
    with pytest.raises(MalformedNetlink):
        parse_attributes(data)


@pytest.mark.parametrize("length", [0, 3, 13, 0xFFFF])
def test_a_wrong_attribute_length_is_refused(length: int) -> None:
    with pytest.raises(MalformedNetlink):
        parse_attributes(struct.pack("=HH", length, 1) + bytes(8))


def acknowledgement(code: int, flags: int = 0, request: bytes = b"", words: bytes | None = None) -> Message:
    """As the kernel makes it."""
    body = struct.pack("=i", -code) + struct.pack("=IHHII", 16 + len(request), 16, 5, 1, 0) + request
    if words is not None:
        body += attribute(2, b"\0\0\0\0") + attribute(1, words)
    return Message(NLMSG_ERROR, flags, 1, body)


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        pytest.param(acknowledgement(0), Verdict(0, ""), id="success"),
        pytest.param(acknowledgement(errno.EEXIST, request=bytes(20)), Verdict(errno.EEXIST, ""), id="old kernel"),
        pytest.param(
            acknowledgement(errno.EINVAL, NLM_F_ACK_TLVS, bytes(20), b"Wrong\0"),
            Verdict(errno.EINVAL, "Wrong"),
            id="words after the whole request",
        ),
        pytest.param(
            acknowledgement(errno.EINVAL, NLM_F_ACK_TLVS | NLM_F_CAPPED, b"", b"Wrong"),
            Verdict(errno.EINVAL, "Wrong"),
            id="words after the request's header",
        ),
        pytest.param(acknowledgement(0, NLM_F_ACK_TLVS, b"", b"warning\0"), Verdict(0, "warning"), id="warning"),
        pytest.param(acknowledgement(1, NLM_F_ACK_TLVS, b"", b"\xff" * 9), Verdict(1, "\ufffd" * 9), id="not text"),
        pytest.param(acknowledgement(1, NLM_F_ACK_TLVS, b"", b"w" * 9999), Verdict(1, "w" * 512), id="long"),
        pytest.param(
            Message(NLMSG_ERROR, 768, 1, refusal()),
            Verdict(errno.ENOSYS, "Requested AEAD algorithm not found"),
            id="a kernel's own",
        ),
    ],
)
def test_a_verdict_is_read(message: Message, verdict: Verdict) -> None:
    assert parse_verdict(message) == verdict


@pytest.mark.parametrize("size", range(20))
def test_an_acknowledgement_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(MalformedNetlink):
        parse_verdict(Message(NLMSG_ERROR, 0, 1, acknowledgement(0).body[:size]))


def test_a_positive_code_is_refused() -> None:
    with pytest.raises(MalformedNetlink):
        parse_verdict(acknowledgement(-1))


def test_noise_raises_one_kind_of_error() -> None:
    source = random.Random(1)
    samples = [message.to_bytes() for message in MESSAGES] + [refusal(), attribute(1, b"12345")]
    for _ in range(3000):
        data = bytearray(source.choice(samples) + source.randbytes(source.randrange(8)))
        for _ in range(source.randrange(4)):
            data[source.randrange(len(data))] = source.randrange(256)
        for parse in (parse_messages, parse_attributes):
            try:
                parse(bytes(data))
            except MalformedNetlink:
                continue
        try:
            parse_verdict(Message(NLMSG_ERROR, source.choice((0, 256, 512, 768)), 1, bytes(data)))
        except MalformedNetlink:
            continue
