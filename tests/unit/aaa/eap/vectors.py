"""Vectors of the RFCs, as text: a comment says where they come from, then `left = right` in hexadecimal."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parents[3] / "vectors" / "eap"


def _lines(name: str) -> list[tuple[str, str]]:
    lines = [line for line in (_FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]
    return [(left.strip(), right.strip()) for left, _, right in (line.partition("=") for line in lines)]


def pairs(name: str) -> list[tuple[bytes, bytes]]:
    """All lines, both sides decoded."""
    return [(bytes.fromhex(left), bytes.fromhex(right)) for left, right in _lines(name)]


def named(name: str) -> dict[str, bytes]:
    """All lines, the left side being a name."""
    return {left: bytes.fromhex(right) for left, right in _lines(name)}
