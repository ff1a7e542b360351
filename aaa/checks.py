"""What `ostiary check` says about AAA."""

from __future__ import annotations

from aaa.directory.checks import checks as directory_checks
from core.checks import Check
from core.settings import Settings, SettingsError
from core.settings.live_rules import read_rules


def checks(settings: Settings) -> list[Check]:
    """All of them."""
    return [_access_rules(settings), *directory_checks(settings)]


def _access_rules(settings: Settings) -> Check:
    name, file = "aaa: access rules", settings.aaa.rules_file
    if file is None:
        return Check(name, True, f"{len(settings.aaa.rules)}, in the settings")
    try:
        rules = read_rules(file, settings)
    except SettingsError as error:
        fix = "mend the file (`ostiary policy check`); until then those count that were valid last"
        return Check(name, False, str(error), fix)
    return Check(name, True, f"{len(rules)}, of {file}")
