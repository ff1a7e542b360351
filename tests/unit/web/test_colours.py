"""The colours can be read: contrast by WCAG 2.2, computed from the style sheet, in light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOKENS = Path(__file__).parents[3] / "web" / "static" / "tokens.css"
TEXT, SHAPE = 4.5, 3.0
"""Success criteria 1.4.3 and 1.4.11."""
PAIRS = [
    *[(ink, ground, TEXT) for ink in ("ink", "ink-soft", "ink-faint") for ground in ("canvas", "surface", "raised")],
    ("ink", "sunken", TEXT),
    ("ink-soft", "sunken", TEXT),
    ("ink", "brass-soft", TEXT),
    ("on-action", "action", TEXT),
    ("on-action", "action-hover", TEXT),
    ("good", "good-soft", TEXT),
    ("warn", "warn-soft", TEXT),
    ("bad", "bad-soft", TEXT),
    ("bad", "surface", TEXT),
    ("bad", "canvas", TEXT),
    ("door-ink", "door", TEXT),
    ("door-ink-soft", "door", TEXT),
    ("door-ink-soft", "door-raised", TEXT),
    ("door-brass", "door", SHAPE),
    ("brass", "brass-soft", SHAPE),
    ("brass", "surface", SHAPE),
    ("bar", "surface", SHAPE),
    ("good", "surface", SHAPE),
    ("line-strong", "surface", SHAPE),
    ("focus", "surface", SHAPE),
    ("focus", "canvas", SHAPE),
]


def _tokens(theme: int) -> dict[str, str]:
    found = re.findall(
        r"--([a-z-]+): (?:light-dark\()?(#[0-9a-f]{3,6})(?:, (#[0-9a-f]{3,6})\))?;", TOKENS.read_text()
    )
    return {name: (light, dark or light)[theme] for name, light, dark in found}


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_measure_is_right() -> None:
    """Black on white is 21 to 1, and #767676 on white is the grey that just passes."""
    assert round(_contrast("#000", "#ffffff"), 2) == 21
    assert round(_contrast("#767676", "#fff"), 2) == 4.54


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground", "least"), PAIRS)
def test_contrast(theme: int, ink: str, ground: str, least: float) -> None:
    """Text 4.5 to 1, shapes and frames 3 to 1."""
    tokens = _tokens(theme)
    assert _contrast(tokens[ink], tokens[ground]) >= least


def test_white_on_the_danger_button() -> None:
    """In both themes."""
    for theme in (0, 1):
        tokens = _tokens(theme)
        assert _contrast("#ffffff", tokens["danger"]) >= TEXT
        assert _contrast("#ffffff", tokens["danger-hover"]) >= TEXT
