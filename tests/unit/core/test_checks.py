"""`ostiary check`: each finding right, each no with a fix, and nothing changed by looking."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from core import checks
from core.checks import Check, core_checks, run_checks
from core.cli import root
from core.migrations import head_revision
from core.runtime import Runtime
from core.settings import Settings


@pytest.fixture(autouse=True)
def _only_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "entry_points", lambda group: [])


def finding(settings: Settings, name: str) -> Check:
    (found,) = [check for check in core_checks(settings) if check.name == f"core: {name}"]
    return found


def test_everything_is_good_on_a_fresh_machine_and_nothing_is_made(settings: Settings) -> None:
    found = {check.name: check for check in core_checks(settings)}
    assert [name for name, check in found.items() if check.ok is False] == []
    assert "will be made" in found["core: state directory"].message
    assert "will be made" in found["core: database"].message
    assert "will be made" in found["core: key for secrets"].message
    assert not settings.state_dir.exists()


def test_everything_is_good_on_a_running_machine(runtime: Runtime) -> None:
    found = list(core_checks(runtime.settings))
    assert [check for check in found if check.ok is False] == []
    assert finding(runtime.settings, "database").message.endswith(f"schema {head_revision()}")
    for check in found:
        assert check.ok is True or check.fix


def test_state_directory(settings: Settings, tmp_path: Path) -> None:
    settings.state_dir.mkdir(mode=0o755)
    settings.state_dir.chmod(0o755)
    found = finding(settings, "state directory")
    assert (found.ok, found.fix) == (None, f"chmod o= {settings.state_dir}")
    (tmp_path / "file").write_text("")
    below_a_file = Settings(state_dir=tmp_path / "file" / "state")
    assert finding(below_a_file, "state directory").ok is False
    read_only = Settings(state_dir=Path("/proc/self/state"))
    assert finding(read_only, "state directory").ok is False


def test_key_file(runtime: Runtime) -> None:
    path = runtime.settings.secret_key_path
    path.chmod(0o644)
    found = finding(runtime.settings, "key for secrets")
    assert (found.ok, found.fix) == (False, f"chmod 600 {path}")
    path.unlink()
    found = finding(runtime.settings, "key for secrets")
    assert found.ok is False
    assert "back from a backup" in found.fix


def test_database_of_another_schema(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    found = finding(runtime.settings, "database")
    assert found.ok is False
    assert "unknown here" in found.message
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM alembic_version"))
    assert finding(runtime.settings, "database").ok is None


def test_database_that_is_none(settings: Settings) -> None:
    settings.state_dir.mkdir()
    (settings.state_dir / "ostiary.db").write_bytes(b"no database" * 1000)
    assert finding(settings, "database").ok is False


def test_clock(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "utc_now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
    found = finding(settings, "clock")
    assert found.ok is False
    assert "certificates" in found.fix


@pytest.mark.parametrize(("state", "ok"), [(0, True), (4, True), (5, None), (None, None)])
def test_clock_synchronisation(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, state: int | None, ok: bool | None
) -> None:
    monkeypatch.setattr(checks, "_kernel_clock_state", lambda: state)
    assert finding(settings, "time synchronisation").ok is ok


def test_kernel_answers_about_its_clock() -> None:
    assert checks._kernel_clock_state() in {None, 0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(("free", "ok"), [(50 * 1024**2, False), (500 * 1024**2, None), (5 * 1024**3, True)])
def test_disk_space(settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, ok: bool | None) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    assert finding(settings, "disk space").ok is ok


def test_broken_check_of_a_part_is_a_failed_check(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(entry: EntryPoint) -> Any:
        if entry.name == "good":
            return lambda _settings: [Check("good: thing", True, "fine")]
        raise RuntimeError("oh no")

    entries = [EntryPoint(name, "x:y", "ostiary.checks") for name in ("good", "bad")]
    monkeypatch.setattr(checks, "entry_points", lambda group: entries)
    monkeypatch.setattr(EntryPoint, "load", load)
    found = {check.name: check for check in run_checks(settings)}
    assert found["good: thing"].ok is True
    assert found["bad: check"].ok is False
    assert "RuntimeError: oh no" in found["bad: check"].message


def test_command(runtime: Runtime) -> None:
    environment = {"OSTIARY_STATE_DIR": str(runtime.settings.state_dir)}
    result = CliRunner().invoke(root, ["check"], env=environment)
    assert result.exit_code == 0, result.output
    assert "ok core: database: sqlite:///" in result.stdout
    assert "0 bad" in result.stdout
    runtime.settings.secret_key_path.chmod(0o644)
    result = CliRunner().invoke(root, ["check"], env=environment)
    assert result.exit_code == 1
    assert "NO core: key for secrets" in result.stdout
    assert "    fix: chmod 600" in result.stdout
    result = CliRunner().invoke(root, ["check", "--json"], env=environment)
    assert result.exit_code == 1
    bad = [check for check in json.loads(result.stdout) if check["ok"] is False]
    assert [check["name"] for check in bad] == ["core: key for secrets"]
