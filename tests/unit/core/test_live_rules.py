from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.settings import Settings, SettingsError, load_settings
from core.settings.live_rules import LAST_VALID, LOOK_INTERVAL_S, LiveRules, read_rules

STAFF = '[[rules]]\nname = "staff"\ngroups = ["staff"]\n'
GUESTS = '[[rules]]\nname = "guests"\nhours = "08:00-18:00"\n'


class Installation:
    """A settings file that names a file of rules."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.now = 0.0
        self.rules_file = folder / "rules.toml"
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self.settings_file = folder / "ostiary.toml"
        self.settings_file.write_text(
            f'state_dir = "{self.state_dir}"\n[aaa]\nrules_file = "{self.rules_file}"\n{more}'
        )
        self._writes = 0

    def write(self, text: str) -> None:
        """As an editor does; the time of each change is another one, however fast the test is."""
        self._writes += 1
        self.rules_file.write_text(text)
        os.utime(self.rules_file, (self.now + self._writes / 1000,) * 2)

    def load(self) -> Settings:
        return load_settings(self.settings_file)

    def live(self) -> LiveRules:
        return LiveRules(self.load(), clock=lambda: self.now, unix_clock=lambda: self.now)

    def names(self, live: LiveRules) -> list[str]:
        """After the next two looks."""
        for _ in range(2):
            self.now += LOOK_INTERVAL_S
            live.current()
        return [rule.name for rule in live.current()]


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


class TestAtStart:
    def test_rules_come_from_the_file(self, installation: Installation) -> None:
        installation.write(STAFF + GUESTS)
        assert [rule.name for rule in installation.load().aaa.rules] == ["staff", "guests"]

    def test_rules_in_both_places(self, tmp_path: Path) -> None:
        installation = Installation(tmp_path, '[[aaa.rules]]\nname = "here"\n')
        installation.write(STAFF)
        with pytest.raises(SettingsError, match=r"ostiary.toml: aaa.rules and aaa.rules_file: only one of them"):
            installation.load()

    def test_a_relative_path(self, tmp_path: Path) -> None:
        file = tmp_path / "ostiary.toml"
        file.write_text('[aaa]\nrules_file = "rules.toml"\n')
        with pytest.raises(SettingsError, match=r"aaa.rules_file: must be an absolute path"):
            load_settings(file)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "rules.toml: no such file"),
            ("[[rules]\n", "rules.toml: not valid TOML"),
            ("", "rules.toml: rules: is required"),
            ("rules = 3\n", "rules.toml: rules: must be a list"),
            ("[gateway]\n" + STAFF, "rules.toml: gateway: no such setting"),
            (STAFF + 'group = "x"\n', r"rules.toml: rules\[0\].group: no such setting; allowed here: days"),
            (STAFF + STAFF, "rules.toml: two rules are called 'staff'"),
            (STAFF + 'pool = "nowhere"\n', "rules.toml: rule 'staff' names pool 'nowhere'; the pools are"),
            (STAFF + 'hours = "8 to 6"\n', r"rules\[0\].hours: must be two times of day, such as 08:00-18:30"),
            (STAFF + 'hours = "08:00-08:00"\n', r"rules\[0\].hours: must begin and end at different times"),
            (STAFF + 'time_zone = "Mars"\n', r"rules\[0\].time_zone: must be a time zone of this machine"),
            (STAFF + 'effect = "quarantine"\n', "a rule for quarantined devices needs networks"),
        ],
    )
    def test_mistakes_stop_the_first_start(self, installation: Installation, text: str | None, message: str) -> None:
        if text is not None:
            installation.write(text)
        with pytest.raises(SettingsError, match=message):
            installation.load()

    def test_later_the_rules_that_were_valid_last_count(self, installation: Installation) -> None:
        installation.write(STAFF)
        assert installation.names(installation.live()) == ["staff"]
        installation.write("[[rules]\n")
        live = installation.live()
        assert installation.names(live) == ["staff"]
        assert "not valid TOML" in str(live.problem)


class TestReload:
    def test_a_valid_file_counts_within_a_second(self, installation: Installation) -> None:
        installation.write(STAFF)
        live = installation.live()
        assert installation.names(live) == ["staff"]
        before = live.current()
        installation.write(GUESTS)
        assert live.current() is before
        assert installation.names(live) == ["guests"]
        assert live.current() is live.current()

    def test_a_file_that_is_being_written_does_not_count_yet(self, installation: Installation) -> None:
        installation.write(STAFF)
        live = installation.live()
        for _ in range(10):
            # Each second a little more of it is there.
            installation.write(GUESTS)
            installation.now += LOOK_INTERVAL_S
            assert [rule.name for rule in live.current()] == ["staff"]
        assert installation.names(live) == ["guests"]

    def test_one_look_is_enough_at_a_file_that_was_written_a_while_ago(self, installation: Installation) -> None:
        """Who has decided nothing for an hour, has not looked for as long."""
        installation.write(STAFF)
        live = installation.live()
        assert installation.names(live) == ["staff"]
        installation.write(GUESTS)
        installation.now += 3600.0
        assert [rule.name for rule in live.current()] == ["guests"]

    def test_a_mistake_changes_nothing_until_it_is_mended(self, installation: Installation) -> None:
        installation.write(STAFF)
        live = installation.live()
        assert installation.names(live) == ["staff"]
        installation.write(GUESTS + "hours = 7\n")
        assert installation.names(live) == ["staff"]
        assert "not valid TOML" in str(live.problem)
        installation.rules_file.unlink()
        assert installation.names(live) == ["staff"]
        assert "no such file" in str(live.problem)
        installation.write(GUESTS)
        assert installation.names(live) == ["guests"]
        assert live.problem is None

    def test_the_copy_is_of_the_last_valid_file(self, installation: Installation) -> None:
        installation.write(STAFF)
        live = installation.live()
        installation.names(live)
        installation.write("rules = 3")
        installation.names(live)
        copy = installation.state_dir / LAST_VALID
        assert read_rules(copy, installation.load())[0].name == "staff"
        assert [file.name for file in installation.state_dir.iterdir()] == [LAST_VALID]

    def test_no_copy_is_no_reason_to_stop(self, installation: Installation) -> None:
        installation.write(STAFF)
        live = installation.live()
        installation.state_dir.rmdir()
        assert installation.names(live) == ["staff"]

    def test_rules_of_the_settings_do_not_change(self, tmp_path: Path) -> None:
        live = LiveRules(Settings(state_dir=tmp_path), clock=lambda: 1e9)
        assert [rule.name for rule in live.current()] == ["trusted-devices"]
        assert list(tmp_path.iterdir()) == []
