"""How a good message is made into a bad one: blindly, and by one who knows the format."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

from gateway.ike.constants import IKE_HEADER_BYTES, PayloadType
from gateway.ike.message import Header

INTERESTING_BYTES = (0, 1, 2, 3, 4, 7, 8, 0x20, 0x28, 0x2E, 0x35, 0x7F, 0x80, 0xC8, 0xFE, 0xFF)
INTERESTING_WORDS = (0, 1, 3, 4, 5, 8, 0xFF, 0x100, 0x7FFF, 0x8000, 0x800E, 0xFFFE, 0xFFFF)
PAYLOAD_TYPES = (*map(int, PayloadType), 1, 5, 13, 49, 54, 200, 255)
MAX_DATAGRAM_BYTES = 65_507
_PAYLOAD_HEADER = struct.Struct("!BBH")

Chain = list[tuple[int, bytes, int]]
"""Payloads as (type, body, flags byte)."""


def mutate(random: Random, datagram: bytes, others: Sequence[bytes]) -> bytes:
    """A bad copy of a datagram; `others` are datagrams to splice with."""
    data = datagram
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_BLIND)(random, data)
    choice = random.random()
    if choice < 0.1 and others:
        other = random.choice(others)
        data = data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]
    elif choice < 0.35:
        data = _change_header(random, datagram)
    elif choice < 0.5:
        data = _change_outer_payloads(random, datagram)
    if random.random() < 0.7:
        data = with_length(data)
    return data[:MAX_DATAGRAM_BYTES]


def with_length(data: bytes) -> bytes:
    """The length in the header made right, so that more than that is looked at."""
    if len(data) < IKE_HEADER_BYTES:
        return data
    return data[:24] + len(data).to_bytes(4, "big") + data[IKE_HEADER_BYTES:]


def _flip_bit(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]


def _set_byte(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes((random.choice(INTERESTING_BYTES),)) + data[at + 1 :]


def _set_word(random: Random, data: bytes) -> bytes:
    if len(data) < 2:
        return data
    at = random.randrange(len(data) - 1)
    return data[:at] + random.choice(INTERESTING_WORDS).to_bytes(2, "big") + data[at + 2 :]


def _truncate(random: Random, data: bytes) -> bytes:
    return data[: random.randint(0, len(data))]


def _extend(random: Random, data: bytes) -> bytes:
    return data + random.randbytes(random.choice((1, 2, 4, 16, 300)))


def _cut_out(random: Random, data: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + data[at + random.choice((1, 2, 4, 8, 40)) :]


def _repeat(random: Random, data: bytes) -> bytes:
    at, size = random.randint(0, len(data)), random.choice((1, 4, 8, 20, 60))
    return data[: at + size] + data[at:]


_BLIND = (_flip_bit, _flip_bit, _set_byte, _set_byte, _set_word, _set_word, _truncate, _extend, _cut_out, _repeat)


def _change_header(random: Random, data: bytes) -> bytes:
    if len(data) < IKE_HEADER_BYTES:
        return data
    header = Header(*struct.unpack("!8s8sBBBBII", data[:IKE_HEADER_BYTES]))
    changes: dict[str, int | bytes] = {
        "next_payload": random.choice(PAYLOAD_TYPES),
        "version": random.choice((0x10, 0x20, 0x21, 0x30, 0, 0xFF)),
        "exchange": random.choice((0, 2, 4, 5, 34, 35, 36, 37, 38, 43, 255)),
        "flags": random.choice((0, 0x08, 0x20, 0x28, 0x18, 0xFF)),
        "message_id": random.choice((0, 1, 2, header.message_id + 1, header.message_id - 1, 2**32 - 1)) % 2**32,
        "length": random.choice((0, 1, 27, 28, 29, len(data) + 1, 2**31, 2**32 - 1)),
        "spi_i": random.choice((bytes(8), random.randbytes(8), header.spi_r)),
        "spi_r": random.choice((bytes(8), random.randbytes(8), header.spi_i)),
    }
    names = random.sample(sorted(changes), random.choice((1, 1, 2, 3)))
    return header._replace(**{name: changes[name] for name in names}).to_bytes() + data[IKE_HEADER_BYTES:]  # type: ignore[arg-type]


def _change_outer_payloads(random: Random, data: bytes) -> bytes:
    if len(data) < IKE_HEADER_BYTES:
        return data
    first, body = mutate_payloads(random, data[16], data[IKE_HEADER_BYTES:])
    return data[:16] + bytes((first,)) + data[17:IKE_HEADER_BYTES] + body


# --- With knowledge of the format ---------------------------------------------------------------------------


def mutate_payloads(random: Random, first: int, plain: bytes) -> tuple[int, bytes]:
    """A bad copy of a chain of payloads: what a peer that has the keys may send. Returns first type and bytes."""
    chain = _split(first, plain)
    for _ in range(random.choice((1, 1, 2, 3))):
        chain = random.choice(_CHAIN_CHANGES)(random, chain)
    first, plain = _join(chain)
    if random.random() < 0.15:
        plain = random.choice(_BLIND)(random, plain)
    return first, plain[:60_000]


def _split(first: int, plain: bytes) -> Chain:
    chain, offset, payload_type = [], 0, first
    while payload_type and len(plain) - offset >= 4:
        next_type, flags, length = _PAYLOAD_HEADER.unpack_from(plain, offset)
        if length < 4:
            break
        chain.append((payload_type, plain[offset + 4 : offset + length], flags))
        offset, payload_type = offset + length, next_type
    return chain


def _join(chain: Chain) -> tuple[int, bytes]:
    parts = []
    for index, (_, body, flags) in enumerate(chain):
        next_type = chain[index + 1][0] if index + 1 < len(chain) else 0
        parts.append(_PAYLOAD_HEADER.pack(next_type, flags, min(4 + len(body), 0xFFFF)) + body)
    return (chain[0][0] if chain else 0), b"".join(parts)


def _change_body(random: Random, chain: Chain) -> Chain:
    if not chain:
        return chain
    at = random.randrange(len(chain))
    payload_type, body, flags = chain[at]
    for _ in range(random.choice((1, 1, 2, 5))):
        body = random.choice(_BLIND)(random, body)
    return [*chain[:at], (payload_type, body, flags), *chain[at + 1 :]]


def _drop(random: Random, chain: Chain) -> Chain:
    at = random.randrange(len(chain)) if chain else 0
    return chain[:at] + chain[at + 1 :]


def _double(random: Random, chain: Chain) -> Chain:
    at = random.randrange(len(chain)) if chain else 0
    return chain[:at] + chain[at : at + 1] * random.choice((2, 2, 3, 9, 70)) + chain[at + 1 :]


def _shuffle(random: Random, chain: Chain) -> Chain:
    return random.sample(chain, len(chain))


def _retype(random: Random, chain: Chain) -> Chain:
    if not chain:
        return chain
    at = random.randrange(len(chain))
    _, body, flags = chain[at]
    return [*chain[:at], (random.choice(PAYLOAD_TYPES), body, flags), *chain[at + 1 :]]


def _critical(random: Random, chain: Chain) -> Chain:
    return [(t, b, random.choice((0, 0x80, 0xFF))) for t, b, _ in chain]


def _add(random: Random, chain: Chain) -> Chain:
    strange = (
        random.choice(PAYLOAD_TYPES),
        random.randbytes(random.choice((0, 1, 4, 8, 40))),
        random.choice((0, 0x80)),
    )
    at = random.randint(0, len(chain))
    return [*chain[:at], strange, *chain[at:]]


_CHAIN_CHANGES = (
    _change_body, _change_body, _change_body, _change_body, _drop, _double, _shuffle, _retype, _critical, _add,
)  # fmt: skip


# --- From nothing -------------------------------------------------------------------------------------------


def forge(random: Random, spi_i: bytes, spi_r: bytes, message_ids: Sequence[int]) -> bytes:
    """A message to an SA by one who knows its SPIs and no key: in the clear, or as if it were encrypted."""
    exchange = random.choice((34, 35, 36, 37, 37, 38, 43))
    flags = random.choice((0x08, 0x08, 0x28, 0x28, 0, 0x20))
    kind = random.random()
    if kind < 0.4:
        first, body = random.choice(_PLAIN_BODIES)
    elif kind < 0.7:
        first = int(PayloadType.SK)
        inner = random.randbytes(random.choice((0, 1, 8, 24, 25, 40, 400)))
        body = _PAYLOAD_HEADER.pack(random.choice(PAYLOAD_TYPES), 0, 4 + len(inner)) + inner
    elif kind < 0.95:
        first = int(PayloadType.SKF)
        numbers = struct.pack(
            "!HH", *random.choice(((1, 1), (1, 2), (2, 2), (1, 3), (0, 0), (1, 65535), (9, 3), (64, 64)))
        )
        inner = numbers + random.randbytes(random.choice((0, 24, 25, 40, 400)))
        body = _PAYLOAD_HEADER.pack(random.choice(PAYLOAD_TYPES), 0, 4 + len(inner)) + inner
    else:
        first, body = random.choice(PAYLOAD_TYPES), random.randbytes(random.choice((0, 4, 8, 60)))
    header = Header(spi_i, spi_r, first, 0x20, exchange, flags, random.choice(message_ids) % 2**32, 28 + len(body))
    return header.to_bytes() + body


_PLAIN_BODIES = (
    (42, bytes.fromhex("0000000801000000")),  # Delete of the IKE SA
    (42, bytes.fromhex("0000000c03040001c0ffee01")),  # of a child SA
    (42, bytes.fromhex("000000080304ffff")),  # of very many
    (41, bytes.fromhex("0000000800000018")),  # AUTHENTICATION_FAILED
    (41, bytes.fromhex("000000080000000b")),  # INVALID_SPI
    (41, bytes.fromhex("0000000800004000")),  # INITIAL_CONTACT
    (41, bytes.fromhex("0000000800000004")),  # INVALID_IKE_SPI
    (33, bytes.fromhex("280000100000000c0304ffff00000000") + bytes.fromhex("00000014") + bytes(16)),
    (0, b""),
)


def rubbish(random: Random) -> bytes:
    """What anyone may send to the port: noise, one byte, IKEv1, and headers that promise much."""
    kind = random.randrange(5)
    if kind == 0:
        return random.randbytes(random.choice((0, 1, 2, 3, 4, 8, 27, 28, 29, 100, 1400)))
    if kind == 1:
        return bytes((random.choice(INTERESTING_BYTES),))
    if kind == 2:
        body = random.randbytes(60)
        return Header(random.randbytes(8), bytes(8), 1, 0x10, 2, 0, 0, 28 + len(body)).to_bytes() + body
    body = random.randbytes(random.choice((4, 20, 200)))
    first = random.choice(PAYLOAD_TYPES)
    header = Header(random.randbytes(8), bytes(8), first, 0x20, 34, 0x08, 0, 28 + len(body))
    return header.to_bytes() + body
