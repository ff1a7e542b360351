"""ESP against the vectors of the RFCs, against itself, and against every way of damaging a packet."""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Iterator
from itertools import product

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.interface import DataPlaneError, EspCipher, EspIntegrity, EspKeys, EspSuite
from gateway.dataplane.userspace.esp import (
    MAX_OVERHEAD_BYTES,
    WRITE_SLACK_BYTES,
    EspRefused,
    Opener,
    Sealer,
    SequenceExhausted,
    make_opener,
    make_sealer,
)
from tests.unit.gateway.dataplane.packets import checksum
from tests.unit.gateway.dataplane.vectors import cases, text_cases

SPI = 0xC0FFEE01
INTEGRITY_KEY_BYTES = {
    EspIntegrity.NONE: 0,
    EspIntegrity.HMAC_SHA1_96: 20,
    EspIntegrity.HMAC_SHA2_256_128: 32,
    EspIntegrity.HMAC_SHA2_384_192: 48,
    EspIntegrity.HMAC_SHA2_512_256: 64,
}
HASH_AND_ICV_BYTES = {
    EspIntegrity.HMAC_SHA1_96: ("sha1", 12),
    EspIntegrity.HMAC_SHA2_256_128: ("sha256", 16),
    EspIntegrity.HMAC_SHA2_384_192: ("sha384", 24),
    EspIntegrity.HMAC_SHA2_512_256: ("sha512", 32),
}


def all_suites() -> Iterator[EspSuite]:
    for esn in (False, True):
        for bits in (128, 192, 256):
            yield EspSuite(EspCipher.AES_GCM_16, bits, EspIntegrity.NONE, esn)
            for integrity in HASH_AND_ICV_BYTES:
                yield EspSuite(EspCipher.AES_CBC, bits, integrity, esn)
        yield EspSuite(EspCipher.CHACHA20_POLY1305, 256, EspIntegrity.NONE, esn)


SUITES = list(all_suites())
every_suite = pytest.mark.parametrize("suite", SUITES, ids=str)


def keys_for(suite: EspSuite) -> EspKeys:
    salt = 0 if suite.cipher is EspCipher.AES_CBC else 4
    return EspKeys(
        bytes(range(suite.key_bits // 8 + salt)), bytes(range(100, 100 + INTEGRITY_KEY_BYTES[suite.integrity]))
    )


def pair(suite: EspSuite, sequence: int = 0) -> tuple[Sealer, Opener]:
    keys = keys_for(suite)
    return make_sealer(suite, keys, SPI, os.urandom, sequence), make_opener(suite, keys, SPI)


def seal(sealer: Sealer, payload: bytes, next_header: int = 4) -> bytes:
    out = memoryview(bytearray(len(payload) + MAX_OVERHEAD_BYTES + 100))
    end = sealer.seal_into(payload, next_header, out, 100)
    assert end - 100 <= len(payload) + MAX_OVERHEAD_BYTES
    return bytes(out[100:end])


def unseal(opener: Opener, packet: bytes, sequence: int) -> tuple[bytes, int]:
    """Open it in the middle of something, and see that nothing around is touched."""
    around = b"\xaa" * 33
    source = memoryview(around + packet + around)
    room = len(packet) + WRITE_SLACK_BYTES
    out = memoryview(bytearray(b"\xbb" * 50 + bytes(room) + b"\xbb" * 50))
    start, end, next_header = opener.open_into(source, 33, 33 + len(packet), sequence, out, 50)
    assert bytes(out[:50]) == b"\xbb" * 50
    assert bytes(out[50 + room :]) == b"\xbb" * 50
    return bytes(out[start:end]), next_header


@pytest.mark.parametrize("case", cases("draft-mcgrew-gcm-test-01.txt"), ids=lambda case: case["packet"][:8].hex())
def test_opens_the_aes_gcm_vectors(case: dict[str, bytes]) -> None:
    check_aead_vector(EspCipher.AES_GCM_16, case)


@pytest.mark.parametrize("case", cases("rfc7634.txt"))
def test_opens_the_chacha20_poly1305_vector(case: dict[str, bytes]) -> None:
    check_aead_vector(EspCipher.CHACHA20_POLY1305, case)


def check_aead_vector(cipher: EspCipher, case: dict[str, bytes]) -> None:
    suite = EspSuite(cipher, len(case["key"]) * 8, EspIntegrity.NONE, len(case["sequence"]) == 8)
    opener = make_opener(suite, EspKeys(case["key"] + case["salt"], b""), int.from_bytes(case["spi"], "big"))
    payload, next_header = unseal(opener, case["packet"], int.from_bytes(case["sequence"], "big"))
    padding = case["plaintext"][-2]
    assert payload == case["plaintext"][: len(case["plaintext"]) - 2 - padding]
    assert next_header == case["plaintext"][-1]


@pytest.mark.parametrize(
    ("case", "integrity", "high"),
    list(product(cases("rfc3602.txt"), HASH_AND_ICV_BYTES, (None, 0, 3))),
    ids=lambda value: value["packet"][:8].hex() if isinstance(value, dict) else str(value),
)
def test_opens_the_aes_cbc_vectors(case: dict[str, bytes], integrity: EspIntegrity, high: int | None) -> None:
    suite = EspSuite(EspCipher.AES_CBC, 128, integrity, high is not None)
    mac_key = os.urandom(INTEGRITY_KEY_BYTES[integrity])
    opener = make_opener(suite, EspKeys(case["key"], mac_key), int.from_bytes(case["packet"][:4], "big"))
    name, icv_bytes = HASH_AND_ICV_BYTES[integrity]
    authenticated = case["packet"] + (b"" if high is None else struct.pack("!I", high))
    packet = case["packet"] + hmac.digest(mac_key, authenticated, name)[:icv_bytes]
    sequence = (high or 0) << 32 | int.from_bytes(case["packet"][4:8], "big")
    assert unseal(opener, packet, sequence) == (case["payload"], case["next_header"][0])


@pytest.mark.parametrize(("number", "case"), list(enumerate(text_cases("linux-6.1.txt"))))
def test_opens_what_linux_sent(number: int, case: dict[str, str]) -> None:
    sequence = bytes.fromhex(case["sequence"])
    suite = EspSuite(
        EspCipher[case["cipher"]], int(case["key_bits"]), EspIntegrity[case["integrity"]], len(sequence) == 8
    )
    packet = bytes.fromhex(case["packet"])
    keys = EspKeys(bytes.fromhex(case["key"]), bytes.fromhex(case["mac_key"]))
    opener = make_opener(suite, keys, int.from_bytes(packet[:4], "big"))
    inner, next_header = unseal(opener, packet, int.from_bytes(sequence, "big"))
    assert next_header == 4
    assert len(inner) == 20 + 8 + 20 + number
    assert inner[9:10] + inner[12:20] == bytes((1, 10, 99, 0, 2, 10, 99, 0, 1))
    # Header and echo request sum up, so every octet is what the kernel put there.
    assert checksum(inner[:20]) == checksum(inner[20:]) == 0
    if suite.esn:
        with pytest.raises(EspRefused):
            unseal(opener, packet, int.from_bytes(sequence, "big") ^ 1 << 32)


@every_suite
@settings(max_examples=15, deadline=None)
@given(
    payload=st.binary(max_size=1500),
    next_header=st.sampled_from((4, 41, 59)),
    sequence=st.integers(0, (1 << 32) - 2),
)
def test_round_trip(suite: EspSuite, payload: bytes, next_header: int, sequence: int) -> None:
    if suite.esn:
        sequence |= 5 << 32
    sealer, opener = pair(suite, sequence)
    packet = seal(sealer, payload, next_header)
    assert struct.unpack_from("!II", packet) == (SPI, (sequence + 1) & 0xFFFFFFFF)
    assert len(packet) % 4 == 0
    assert unseal(opener, packet, sequence + 1) == (payload, next_header)


@every_suite
def test_one_context_serves_many_packets(suite: EspSuite) -> None:
    sealer, opener = pair(suite)
    packets = [seal(sealer, bytes([number]) * number) for number in range(60)]
    # In another order than they were made, since the network may change it.
    for number in [*range(0, 60, 2), *range(59, 0, -2)]:
        assert unseal(opener, packets[number], number + 1) == (bytes([number]) * number, 4)


@every_suite
def test_refuses_every_truncation(suite: EspSuite) -> None:
    sealer, opener = pair(suite)
    packet = seal(sealer, b"E" * 47)
    for size in range(len(packet)):
        with pytest.raises(EspRefused):
            unseal(opener, packet[:size], 1)
    with pytest.raises(EspRefused):
        unseal(opener, packet + b"\0", 1)
    assert unseal(opener, packet, 1) == (b"E" * 47, 4)


@every_suite
def test_refuses_every_flipped_bit(suite: EspSuite) -> None:
    sealer, opener = pair(suite)
    packet = seal(sealer, b"E" * 30)
    for position in range(4, len(packet)):
        for bit in range(8):
            damaged = bytearray(packet)
            damaged[position] ^= 1 << bit
            with pytest.raises(EspRefused):
                unseal(opener, bytes(damaged), int.from_bytes(damaged[4:8], "big"))
    assert unseal(opener, packet, 1) == (b"E" * 30, 4)


@every_suite
def test_refuses_another_spi_and_another_key(suite: EspSuite) -> None:
    keys = keys_for(suite)
    packet = seal(make_sealer(suite, keys, SPI + 1, os.urandom), b"E" * 30)
    opener = make_opener(suite, keys, SPI)
    if suite.cipher is not EspCipher.AES_CBC:
        # With HMAC the SPI is authenticated as it stands in the packet, which is what chose the opener.
        with pytest.raises(EspRefused):
            unseal(opener, packet, 1)
    other = EspKeys(keys.encryption[::-1], keys.integrity[::-1])
    with pytest.raises(EspRefused):
        unseal(make_opener(suite, other, SPI + 1), packet, 1)


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite.esn], ids=str)
def test_authenticates_the_high_half_that_is_not_sent(suite: EspSuite) -> None:
    sealer, opener = pair(suite, sequence=7 << 32)
    packet = seal(sealer, b"E" * 30)
    for high in (0, 6, 8):
        with pytest.raises(EspRefused):
            unseal(opener, packet, high << 32 | 1)
    assert unseal(opener, packet, 7 << 32 | 1) == (b"E" * 30, 4)


def gcm_packet(plaintext: bytes) -> tuple[Opener, bytes]:
    suite = EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False)
    key, salt, iv = os.urandom(16), os.urandom(4), os.urandom(8)
    header = struct.pack("!II", SPI, 1)
    opener = make_opener(suite, EspKeys(key + salt, b""), SPI)
    return opener, header + iv + AESGCM(key).encrypt(salt + iv, plaintext, header)


@pytest.mark.parametrize(
    "plaintext",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\4", id="no pad length"),
        pytest.param(b"data\5\4", id="pad length beyond the payload"),
        pytest.param(b"data\xff\4", id="pad length far beyond"),
        pytest.param(b"data\1\2\2\3\4", id="padding octets"),
        pytest.param(b"data\0\0\2\4", id="padding of zeros"),
    ],
)
def test_refuses_an_authentic_packet_with_a_wrong_trailer(plaintext: bytes) -> None:
    opener, packet = gcm_packet(plaintext)
    with pytest.raises(EspRefused):
        unseal(opener, packet, 1)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 100, 255])
def test_accepts_any_length_of_padding(size: int) -> None:
    opener, packet = gcm_packet(b"data" + bytes(range(1, size + 1)) + bytes((size, 59)))
    assert unseal(opener, packet, 1) == (b"data", 59)


@pytest.mark.parametrize("suite", [s for s in SUITES if s.cipher is not EspCipher.AES_CBC], ids=str)
def test_the_iv_of_an_aead_is_the_sequence_number(suite: EspSuite) -> None:
    sealer, _ = pair(suite, sequence=0xFFFF_FFF0 if suite.esn else 0)
    ivs = [seal(sealer, b"the same")[8:16] for _ in range(40)]
    first = 0xFFFF_FFF1 if suite.esn else 1
    assert ivs == [number.to_bytes(8, "big") for number in range(first, first + 40)]


def test_the_iv_of_cbc_is_new_and_unlike_the_random_block() -> None:
    suite = EspSuite(EspCipher.AES_CBC, 128, EspIntegrity.HMAC_SHA2_256_128, False)
    keys = keys_for(suite)
    handed_out: list[bytes] = []

    def random(size: int) -> bytes:
        handed_out.append(os.urandom(size))
        return handed_out[-1]

    sealer = make_sealer(suite, keys, SPI, random)
    packets = [seal(sealer, b"the same") for _ in range(40)]
    ivs = {packet[8:24] for packet in packets}
    assert len(ivs) == 40
    assert len(handed_out) == 41
    assert ivs.isdisjoint(handed_out)
    # And anyone who reads RFC 3602 can decrypt them.
    cipher = Cipher(algorithms.AES(keys.encryption), modes.CBC(packets[5][8:24]))
    plaintext = cipher.decryptor().update(packets[5][24:-16])
    assert plaintext == b"the same" + bytes((1, 2, 3, 4, 5, 6, 6, 4))


@every_suite
def test_stops_when_the_sequence_numbers_are_used_up(suite: EspSuite) -> None:
    last = (1 << 64) - 1 if suite.esn else (1 << 32) - 1
    sealer, opener = pair(suite, last - 2)
    for sequence in (last - 1, last):
        assert unseal(opener, seal(sealer, b"late"), sequence) == (b"late", 4)
    out = memoryview(bytearray(200))
    for _ in range(3):
        with pytest.raises(SequenceExhausted):
            sealer.seal_into(b"too late", 4, out, 0)
    assert bytes(out) == bytes(200)
    assert sealer.sequence == last


@pytest.mark.parametrize(
    ("suite", "keys"),
    [
        (EspSuite(EspCipher.AES_CBC, 128, EspIntegrity.NONE, False), EspKeys(bytes(16), b"")),
        (EspSuite(EspCipher.AES_CBC, 128, EspIntegrity.HMAC_SHA2_256_128, False), EspKeys(bytes(16), bytes(16))),
        (EspSuite(EspCipher.AES_CBC, 256, EspIntegrity.HMAC_SHA2_256_128, False), EspKeys(bytes(16), bytes(32))),
        (EspSuite(EspCipher.AES_CBC, 64, EspIntegrity.HMAC_SHA2_256_128, False), EspKeys(bytes(8), bytes(32))),
        (EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False), EspKeys(bytes(16), b"")),
        (EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False), EspKeys(bytes(36), b"")),
        (EspSuite(EspCipher.AES_GCM_16, 64, EspIntegrity.NONE, False), EspKeys(bytes(12), b"")),
        (EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False), EspKeys(bytes(20), bytes(32))),
        (EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.HMAC_SHA2_256_128, False), EspKeys(bytes(20), b"")),
        (EspSuite(EspCipher.CHACHA20_POLY1305, 128, EspIntegrity.NONE, False), EspKeys(bytes(20), b"")),
    ],
)
def test_refuses_keys_that_do_not_fit_the_suite(suite: EspSuite, keys: EspKeys) -> None:
    with pytest.raises(DataPlaneError):
        make_sealer(suite, keys, SPI, os.urandom)
    with pytest.raises(DataPlaneError):
        make_opener(suite, keys, SPI)
