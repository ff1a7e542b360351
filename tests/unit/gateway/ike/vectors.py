"""Vectors as text: a comment says where they come from, then `name = hexadecimal`."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parents[3] / "vectors" / "ike"


def named(name: str) -> dict[str, bytes]:
    """All lines of a file."""
    lines = [line for line in (_FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]
    return {left.strip(): bytes.fromhex(right) for left, _, right in (line.partition("=") for line in lines)}
