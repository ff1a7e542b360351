"""MD4 (RFC 1320), which OpenSSL no longer offers by default and NtPasswordHash (RFC 2759) can't do without.

MD4 is broken as a hash. It is here for that one protocol, and for nothing else.
"""

from __future__ import annotations

import struct

_BLOCK = struct.Struct("<16I")
_MASK = 0xFFFFFFFF
_ROUND_2 = 0x5A827999
_ROUND_3 = 0x6ED9EBA1


def md4(message: bytes) -> bytes:
    """The 16-byte digest."""
    padding = b"\x80" + bytes((55 - len(message)) % 64) + struct.pack("<Q", len(message) * 8 & (1 << 64) - 1)
    padded = message + padding
    state = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for offset in range(0, len(padded), 64):
        state = _compress(state, _BLOCK.unpack_from(padded, offset))
    return struct.pack("<4I", *state)


def _compress(state: tuple[int, int, int, int], x: tuple[int, ...]) -> tuple[int, int, int, int]:
    a, b, c, d = state
    # Round 1 (RFC 1320 section 3.4): F(x, y, z) = xy v not(x)z, written as z ^ (x & (y ^ z)).
    for k in (0, 4, 8, 12):
        t = (a + (d ^ (b & (c ^ d))) + x[k]) & _MASK
        a = (t << 3 | t >> 29) & _MASK
        t = (d + (c ^ (a & (b ^ c))) + x[k + 1]) & _MASK
        d = (t << 7 | t >> 25) & _MASK
        t = (c + (b ^ (d & (a ^ b))) + x[k + 2]) & _MASK
        c = (t << 11 | t >> 21) & _MASK
        t = (b + (a ^ (c & (d ^ a))) + x[k + 3]) & _MASK
        b = (t << 19 | t >> 13) & _MASK
    # Round 2: G(x, y, z) = xy v xz v yz.
    for k in (0, 1, 2, 3):
        t = (a + (b & c | d & (b | c)) + x[k] + _ROUND_2) & _MASK
        a = (t << 3 | t >> 29) & _MASK
        t = (d + (a & b | c & (a | b)) + x[k + 4] + _ROUND_2) & _MASK
        d = (t << 5 | t >> 27) & _MASK
        t = (c + (d & a | b & (d | a)) + x[k + 8] + _ROUND_2) & _MASK
        c = (t << 9 | t >> 23) & _MASK
        t = (b + (c & d | a & (c | d)) + x[k + 12] + _ROUND_2) & _MASK
        b = (t << 13 | t >> 19) & _MASK
    # Round 3: H(x, y, z) = x xor y xor z.
    for k in (0, 2, 1, 3):
        t = (a + (b ^ c ^ d) + x[k] + _ROUND_3) & _MASK
        a = (t << 3 | t >> 29) & _MASK
        t = (d + (a ^ b ^ c) + x[k + 8] + _ROUND_3) & _MASK
        d = (t << 9 | t >> 23) & _MASK
        t = (c + (d ^ a ^ b) + x[k + 4] + _ROUND_3) & _MASK
        c = (t << 11 | t >> 21) & _MASK
        t = (b + (c ^ d ^ a) + x[k + 12] + _ROUND_3) & _MASK
        b = (t << 15 | t >> 17) & _MASK
    return (state[0] + a) & _MASK, (state[1] + b) & _MASK, (state[2] + c) & _MASK, (state[3] + d) & _MASK
