"""Reads the files of keys that are shared beforehand, and refuses those that would not keep anybody out."""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from pathlib import Path

from core.errors import OstiaryError

MOST_KEY_BYTES = 1024
_OTHERS = 0o077
_MAKE_ONE = "make one: (umask 077; head -c 32 /dev/urandom | base64 > {file})"


class SharedKeyError(OstiaryError):
    """A key that can't be read, can be read by everybody, or can be guessed."""


def read_key_file(file: Path, *, least_bytes: int, least_bits: float) -> bytes:
    """One key: text, `0x` and hexadecimal, or `0s` and base64, as strongSwan writes them; one line end is no part.

    Args:
        file: which nobody but its owner may read.
        least_bytes: how long the key is at least.
        least_bits: how much the distribution of its bytes has to say at least. Random text has more; what a person
            makes up, or repeats, often less.

    Raises:
        SharedKeyError: it can't be used; the message never holds any of it.
    """
    try:
        mode = file.stat().st_mode
        content = file.read_bytes()
    except OSError as error:
        raise SharedKeyError(
            f"the key file {file} can't be read: {error.strerror}", fix=_MAKE_ONE.format(file=file)
        ) from None
    if mode & _OTHERS:
        raise SharedKeyError(f"the key file {file} can be read by others than its owner", fix=f"chmod 600 {file}")
    key = _decode(content.removesuffix(b"\n").removesuffix(b"\r"), file)
    if not least_bytes <= len(key) <= MOST_KEY_BYTES:
        raise SharedKeyError(
            f"the key in {file} has {len(key)} bytes, and not {least_bytes} to {MOST_KEY_BYTES}",
            fix=_MAKE_ONE.format(file=file),
        )
    if _estimated_bits(key) < least_bits:
        raise SharedKeyError(f"the key in {file} can be guessed", fix=_MAKE_ONE.format(file=file))
    return key


def _decode(content: bytes, file: Path) -> bytes:
    try:
        if content.startswith(b"0x"):
            return binascii.unhexlify(content[2:])
        if content.startswith(b"0s"):
            return base64.b64decode(content[2:], validate=True)
    except binascii.Error:
        raise SharedKeyError(
            f"the key in {file} is neither text nor what its first two characters say", fix="0x: hex, 0s: base64"
        ) from None
    return content


def _estimated_bits(key: bytes) -> float:
    """Shannon's entropy of the bytes among themselves: an upper bound that words and repetitions stay below."""
    counts = Counter(key)
    return -sum(count * math.log2(count / len(key)) for count in counts.values())
