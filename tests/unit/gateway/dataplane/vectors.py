"""ESP vectors as text: a comment says where they come from, then `[case]` and `name = hexadecimal` lines."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

_FOLDER = Path(__file__).parents[3] / "vectors" / "esp"


def cases(name: str) -> list[dict[str, bytes]]:
    """All cases of a file, in order."""
    blocks = (_FOLDER / name).read_text().split("[case]")[1:]
    found = []
    for block in blocks:
        parser = ConfigParser()
        parser.read_string(f"[case]\n{block}")
        found.append({key: bytes.fromhex(value) for key, value in parser["case"].items()})
    return found
