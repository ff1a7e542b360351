"""The access rules as they are now: those of the settings, or of a file that is read again whenever it changes.

What the file says counts once it is valid as a whole. Until then the rules stay that were valid last, and a copy of
them in the state directory keeps them for processes that start meanwhile, and for commands: a mistake in a rule must
not keep anybody from revoking a device.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import ValidationError

from core.settings.errors import SettingsError
from core.settings.model import Settings
from core.settings.rules import RuleSettings
from core.settings.section import Section
from core.settings.toml import explain, read_toml

LOOK_INTERVAL_S = 1.0
LAST_VALID = "rules.last-valid.toml"
"""The name of the copy, in the state directory."""

_log = structlog.stdlib.get_logger(__name__)


class _RulesFile(Section):
    rules: tuple[RuleSettings, ...]


def read_rules(file: Path, settings: Settings) -> tuple[RuleSettings, ...]:
    """The rules of a file: `[[rules]]`, and nothing else.

    Args:
        file: TOML.
        settings: of the gateway that the rules are for.

    Raises:
        SettingsError: it can't be read, or a rule is not valid, or does not fit the gateway.
    """
    try:
        rules = _RulesFile.model_validate(read_toml(file)).rules
        settings.check_rules(rules)
    except ValidationError as error:
        raise SettingsError(explain(error, file, within=("aaa",))) from None
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from None
    return rules


def first_rules(settings: Settings) -> tuple[RuleSettings, ...]:
    """What a process begins with: the rules of the file, or those that were valid last.

    Raises:
        SettingsError: the file is not valid, and none was before.
    """
    file = settings.aaa.rules_file
    if file is None:
        return settings.aaa.rules
    try:
        return read_rules(file, settings)
    except SettingsError as error:
        try:
            return read_rules(settings.state_dir / LAST_VALID, settings)
        except SettingsError:
            raise error from None


class LiveRules:
    """Looks at the file at most once a second, and reads it when it has not been written for one; may be asked by
    several threads.

    Args:
        settings: with the rules to begin with.
        clock: monotonic seconds.
        unix_clock: seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._unix_clock = unix_clock
        self._rules = settings.aaa.rules
        self._lock = threading.Lock()
        self._next_look = clock()
        self._last: tuple[int, ...] | None = None
        """The file at the last look."""
        self._seen: tuple[int, ...] | None = None
        """The one that was read."""
        self.problem: SettingsError | None = None
        """Why the file, as it is now, does not count."""

    def current(self) -> tuple[RuleSettings, ...]:
        """The rules, in order. As long as nothing changes, it is the same tuple."""
        file = self._settings.aaa.rules_file
        if file is not None and self._clock() >= self._next_look:
            with self._lock:
                if self._clock() >= self._next_look:
                    self._next_look = self._clock() + LOOK_INTERVAL_S
                    self._look(file)
        return self._rules

    def _look(self, file: Path) -> None:
        before, self._last = self._last, _fingerprint(file)
        seen = self._last
        if seen == self._seen or not (seen == before or self._has_settled(file)):
            # Half of a file may be valid, and say something else than the whole.
            return
        self._seen = seen
        try:
            rules = read_rules(file, self._settings)
        except SettingsError as error:
            self.problem = error
            _log.error("the access rules stay as they were: the file is not valid", file=str(file), why=str(error))
            return
        self.problem = None
        if rules != self._rules:
            self._rules = rules
            _log.info("the access rules have changed", file=str(file), rules=[rule.name for rule in rules])
        self._keep_copy(file)

    def _has_settled(self, file: Path) -> bool:
        """Whether it has not been written for a while. Of a clock that has gone back, the next look tells."""
        try:
            return self._unix_clock() - file.stat().st_mtime >= LOOK_INTERVAL_S
        except OSError:
            return True

    def _keep_copy(self, file: Path) -> None:
        copy = self._settings.state_dir / LAST_VALID
        try:
            text = file.read_bytes()
            if copy.exists() and copy.read_bytes() == text:
                return
            partial = copy.with_suffix(f".{os.getpid()}")
            partial.write_bytes(text)
            partial.replace(copy)
        except OSError as error:
            _log.warning("no copy of the valid access rules could be kept", file=str(copy), why=error.strerror)


def _fingerprint(file: Path) -> tuple[int, ...]:
    """Empty where there is none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
