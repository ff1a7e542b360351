"""States: layouts of linux/xfrm.h, what a kernel has sent, and what is sent to it."""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.dataplane.interface import EspCipher, EspIntegrity, EspKeys, EspLifetime, EspSuite
from gateway.dataplane.xfrm import structures
from gateway.dataplane.xfrm.netlink import MalformedNetlink, attribute, parse_attributes
from gateway.dataplane.xfrm.states import (
    NewState,
    Replay,
    StateId,
    Usage,
    parse_deleted_state,
    parse_expiry,
    parse_mapping,
    parse_state,
)
from gateway.dataplane.xfrm.structures import Attribute
from tests.unit.gateway.dataplane.xfrm.kernel_messages import MESSAGES, PARSERS, first

GCM = EspSuite(EspCipher.AES_GCM_16, 256, EspIntegrity.NONE, True)
KEYS = EspKeys(bytes(range(36)), b"")
IN_4 = StateId(ip_address("192.0.2.1"), 0xC0DE0001)
NEW = NewState(
    IN_4,
    ip_address("198.51.100.2"),
    0x6F000001,
    GCM,
    KEYS,
    EspLifetime(),
    Replay(100),
    (40_500, 4500),
    mapping_interval_s=1,
)


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (structures.SELECTOR, 56),
        (structures.ID, 24),
        (structures.LIFETIME_LIMITS, 64),
        (structures.LIFETIME_CURRENT, 32),
        (structures.STATISTICS, 12),
        (structures.STATE_ID, 24),
        (structures.TEMPLATE, 64),
        (structures.ENCAPSULATION, 24),
        (structures.REPLAY_ESN, 24),
        (structures.ALGORITHM, 68),
        (structures.ALGORITHM_ICV, 72),
    ],
)
def test_sizes_are_those_of_the_header(layout: struct.Struct, size: int) -> None:
    """sizeof, by gcc 12 from linux/xfrm.h on x86-64, as are the offsets further down."""
    assert layout.size == size


def test_sizes_of_what_is_put_together_are_those_of_the_header() -> None:
    assert structures.STATE_BYTES == 224
    assert structures.STATE_BYTES + structures.EXPIRE_TAIL.size == 232
    assert structures.STATE_ID.size + structures.MAPPING_TAIL.size == 64
    assert structures.POLICY_BYTES == 168
    assert structures.SELECTOR.size + structures.POLICY_ID_TAIL.size == 64


# --- To the kernel ------------------------------------------------------------------------------------------


def u32(body: bytes, offset: int) -> int:
    number: int = struct.unpack_from("=I", body, offset)[0]
    return number


def test_a_state_is_laid_out_as_the_header_says() -> None:
    lifetime = EspLifetime(1.2, 3, 4, 5, 6, 7)
    body = replace(NEW, lifetime=lifetime, if_id=0x6F000000).to_bytes()
    assert body[:56] == bytes(56)
    assert body[56:72] == ip_address("192.0.2.1").packed + bytes(12)
    assert body[72:76] == bytes.fromhex("c0de0001")
    assert body[76] == 50
    assert body[80:96] == ip_address("198.51.100.2").packed + bytes(12)
    assert struct.unpack_from("=8Q", body, 96) == (6, 7, 4, 5, 2, 3, 0, 0)
    assert body[160:208] == bytes(48)
    assert u32(body, 208) == 0x6F000001
    assert struct.unpack_from("=HBBB", body, 212) == (socket.AF_INET, 1, 0, 32 | 128)
    attributes = parse_attributes(body[224:])
    assert attributes[Attribute.IF_ID] == struct.pack("=I", 0x6F000000)
    assert attributes[Attribute.MTIMER_THRESH] == struct.pack("=I", 1)
    assert attributes[Attribute.ENCAP] == struct.pack("=H", 2) + struct.pack("!HH", 40_500, 4500) + bytes(18)
    assert Attribute.LTIME_VAL not in attributes


def test_without_limits_a_state_lives_for_ever() -> None:
    assert struct.unpack_from("=8Q", NEW.to_bytes(), 96) == (*[(1 << 64) - 1] * 4, 0, 0, 0, 0)


def test_ipv6_and_no_extended_numbers() -> None:
    state = replace(
        NEW, id=StateId(ip_address("2001:db8::1"), 256), suite=replace(GCM, esn=False), encapsulation=None
    )
    body = state.to_bytes()
    assert body[56:72] == ip_address("2001:db8::1").packed
    assert struct.unpack_from("=HBBB", body, 212) == (socket.AF_INET6, 1, 0, 32)
    assert parse_attributes(body[224:]).keys() == {Attribute.ALG_AEAD, Attribute.REPLAY_ESN_VAL}


def test_what_an_earlier_state_carried_is_handed_on() -> None:
    body = replace(NEW, usage=Usage(1, 2, 3, 4)).to_bytes()
    assert parse_attributes(body[224:])[Attribute.LTIME_VAL] == struct.pack("=4Q", 1, 2, 3, 4)


def test_a_key_is_never_shown() -> None:
    state = replace(NEW, keys=EspKeys(b"secret" * 6, b""))
    assert "secret" not in repr(state)


def test_an_id_is_laid_out_as_the_header_says() -> None:
    assert IN_4.to_bytes() == (
        ip_address("192.0.2.1").packed + bytes(12) + bytes.fromhex("c0de0001") + struct.pack("=HBx", 2, 50)
    )
    assert str(IN_4) == "SPI c0de0001 to 192.0.2.1"


# --- Sequence numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "words"), [(64, 2), (65, 3), (100, 4), (1024, 32), (4096, 128)])
def test_a_window_has_room_for_its_packets(window: int, words: int) -> None:
    data = Replay(window, 0x1_0000_0002, 0x3_0000_0004).to_bytes()
    assert struct.unpack_from("=6I", data) == (words, 2, 4, 1, 3, window)
    assert data[24:] == bytes(4 * words)
    assert Replay.parse(data) == Replay(window, 0x1_0000_0002, 0x3_0000_0004, bytes(4 * words))


def test_a_bitmap_comes_back_as_it_was() -> None:
    replay = Replay(64, 5, 9, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    assert Replay.parse(replay.to_bytes()) == replay


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(23),
        struct.pack("=6I", 2, 0, 0, 0, 0, 64) + bytes(7),
        struct.pack("=6I", 2, 0, 0, 0, 0, 64) + bytes(12),
        struct.pack("=6I", 2, 0, 0, 0, 0, 65) + bytes(8),
        struct.pack("=6I", 0xFFFFFFFF, 0, 0, 0, 0, 64) + bytes(8),
        struct.pack("=6I", 256, 0, 0, 0, 0, 8192) + bytes(1024),
    ],
)
def test_a_window_that_does_not_fit_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedNetlink):
        Replay.parse(data)


# --- From the kernel ----------------------------------------------------------------------------------------


def test_a_kernels_state_is_read() -> None:
    state = parse_state(first("state"))
    assert state.id == StateId(ip_address("198.51.100.1"), 0xC0DE0001)
    assert state.source == ip_address("198.51.100.2")
    assert (state.reqid, state.is_esp) == (0x6F000001, True)
    assert (state.usage.octets, state.usage.packets) == (38, 1)
    assert (state.replays, state.failures, state.last_used_at) == (0, 0, None)
    assert state.known_replay == Replay(64, 0, 1, b"\x01" + bytes(7))
    assert parse_state(first("state-out")).known_replay == Replay(64, 1, 0, bytes(8))


def test_a_deleted_state_tells_its_last_numbers() -> None:
    state = parse_deleted_state(first("deleted"))
    assert state.id == StateId(ip_address("198.51.100.1"), 0xC0DE0006)
    assert state.known_replay.received == 1
    assert state.usage.packets == 1


def test_statistics_and_last_use_are_read() -> None:
    body = bytearray(first("state"))
    struct.pack_into("=III", body, 192, 3, 4, 5)
    state = parse_state(bytes(body) + attribute(Attribute.LASTUSED, struct.pack("=Q", 1_795_535_661)))
    assert (state.replays, state.failures, state.last_used_at) == (7, 5, 1_795_535_661)


def test_a_state_without_a_window_has_no_numbers_to_go_on_from() -> None:
    """One that the kernel made itself, for a packet that found none."""
    state = parse_state(first("state")[:224])
    assert state.replay is None
    with pytest.raises(ValueError, match="without sequence numbers"):
        _ = state.known_replay


def test_what_was_sent_is_read_back() -> None:
    state = replace(NEW, id=StateId(ip_address("2001:db8::1"), 77), source=ip_address("2001:db8::2"))
    read = parse_state(state.to_bytes())
    assert (read.id, read.source, read.reqid) == (state.id, state.source, state.reqid)
    assert read.known_replay == replace(state.replay, bitmap=bytes(16))


@pytest.mark.parametrize(("kind", "hard"), [("soft", False), ("hard", True)])
def test_an_expiry_is_read(kind: str, hard: bool) -> None:
    expiry = parse_expiry(first(kind))
    assert expiry.hard is hard
    assert expiry.state.id.spi == 0xC0DE0001
    assert expiry.state.usage.packets == (4 if hard else 3)


def test_a_mapping_is_read() -> None:
    mapping = parse_mapping(first("mapping"))
    assert mapping.id == StateId(ip_address("198.51.100.1"), 0xC0DE0001)
    assert (mapping.remote, mapping.remote_port) == (ip_address("198.51.100.3"), 4500)


@pytest.mark.parametrize(("kind", "body"), MESSAGES, ids=[kind for kind, _ in MESSAGES])
def test_every_truncation_raises_one_kind_of_error_or_leaves_attributes_out(kind: str, body: bytes) -> None:
    parse = PARSERS[kind]
    parse(body)
    refused = 0
    for size in range(len(body)):
        try:
            parse(body[:size])
        except MalformedNetlink:
            refused += 1
    assert refused >= min(len(body), 64)


def test_noise_raises_one_kind_of_error() -> None:
    source = random.Random(2)
    for _ in range(4000):
        kind, body = source.choice(MESSAGES)
        data = bytearray(body)
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            PARSERS[kind](bytes(data))
        except MalformedNetlink:
            continue
