"""Reads what `swanctl --raw` prints: `event {key=value name {...} list=[a b]}`."""

from __future__ import annotations

import re
from typing import Union

from tests.lab.processes import LabError

RawSection = dict[str, Union[str, list[str], "RawSection"]]
_EVENT = re.compile(r"([a-z-]+ (?:event|reply)) ?\{")
_KEY = re.compile(r" ?([^ ={}\[\]]+)(=\[| \{|=)")
_VALUE = re.compile(r"(.*?)(?= [^ ={}\[\]]+(?:=| \{)|\})", re.DOTALL)


def parse_raw(text: str) -> list[tuple[str, RawSection]]:
    """The events and replies in order, each with its content.

    Raises:
        LabError: the text is not of that form.
    """
    found: list[tuple[str, RawSection]] = []
    position = 0
    while event := _EVENT.search(text, position):
        content, position = _section(text, event.end())
        found.append((event[1], content))
    return found


def _section(text: str, position: int) -> tuple[RawSection, int]:
    section: RawSection = {}
    while position < len(text):
        if text[position] == "}":
            return section, position + 1
        key = _KEY.match(text, position)
        if key is None:
            break
        position = key.end()
        if key[2] == "=[":
            end = text.index("]", position)
            section[key[1]] = text[position:end].split()
            position = end + 1
        elif key[2] == " {":
            section[key[1]], position = _section(text, position)
        else:
            value = _VALUE.match(text, position)
            if value is None:
                break
            section[key[1]] = value[1]
            position = value.end()
    raise LabError(f"swanctl --raw printed something else at {text[position : position + 40]!r}")
