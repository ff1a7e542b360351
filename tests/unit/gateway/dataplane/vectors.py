"""Vectors as text: a comment says where they come from, then `[case]` and `name = hexadecimal` lines."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

_FOLDER = Path(__file__).parents[3] / "vectors"


def cases(name: str) -> list[dict[str, bytes]]:
    """All cases of a file of ESP, in order."""
    return [{key: bytes.fromhex(value) for key, value in case.items()} for case in text_cases(name)]


def text_cases(name: str, folder: str = "esp") -> list[dict[str, str]]:
    """The same, of a file in which not all is hexadecimal."""
    blocks = (_FOLDER / folder / name).read_text().split("[case]")[1:]
    found = []
    for block in blocks:
        parser = ConfigParser()
        parser.read_string(f"[case]\n{block}")
        found.append(dict(parser["case"]))
    return found
