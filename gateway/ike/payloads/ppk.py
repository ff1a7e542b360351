"""PPK_IDENTITY (RFC 8784 section 5.1): which post-quantum pre-shared key is meant."""

from __future__ import annotations

from collections.abc import Mapping

PPK_ID_FIXED = 2
"""The rest of the data is the key's name, as both sides were told it. Of type 1 (opaque) we know none."""


def find_ppk(data: bytes, ppks: Mapping[bytes, bytes]) -> bytes | None:
    """The key that the data of a PPK_IDENTITY notify names, None where we do not have it."""
    return ppks.get(bytes(data[1:])) if data[:1] == bytes((PPK_ID_FIXED,)) else None


def ppk_identity(name: bytes) -> bytes:
    """The data of a PPK_IDENTITY notify."""
    return bytes((PPK_ID_FIXED,)) + name
