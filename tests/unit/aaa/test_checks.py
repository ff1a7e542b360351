from __future__ import annotations

from pathlib import Path

import pytest

from aaa.checks import checks
from core.settings import AaaSettings, Settings


@pytest.mark.parametrize(
    ("text", "ok", "message"),
    [
        ('[[rules]]\nname = "all"\n', True, "1, of "),
        (
            '[[rules]]\nname = "all"\neffect = "maybe"\n',
            False,
            "rules[0].effect: must be 'allow', 'quarantine' or 'deny'",
        ),
        (None, False, "no such file"),
    ],
)
def test_rules_in_a_file(tmp_path: Path, text: str | None, ok: bool, message: str) -> None:
    file = tmp_path / "rules.toml"
    if text is not None:
        file.write_text(text)
    (found,) = checks(Settings(state_dir=tmp_path, aaa=AaaSettings(rules_file=file)))
    assert (found.ok, message in found.message, bool(found.fix)) == (ok, True, not ok)


def test_rules_of_the_settings(tmp_path: Path) -> None:
    (found,) = checks(Settings(state_dir=tmp_path))
    assert (found.ok, found.message) == (True, "1, in the settings")
