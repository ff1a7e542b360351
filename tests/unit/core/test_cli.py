"""The command tree: loads late, prints for people and programs, and never shows a traceback for a known error."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from core import database
from core.audit import Actor, AuditEvent, record
from core.cli import emit, json_option, open_runtime, root
from core.cli import root as root_command
from core.errors import OstiaryError
from core.runtime import Runtime
from core.secrets import Secret, StoredSecret


def run(runtime: Runtime, *arguments: str) -> Result:
    return CliRunner().invoke(
        root, arguments, env={"OSTIARY_STATE_DIR": str(runtime.settings.state_dir)}, catch_exceptions=False
    )


@pytest.fixture
def with_events(runtime: Runtime) -> Runtime:
    with runtime.database.transaction() as session:
        record(
            session, Actor("user", "alice"), "device.revoke", "device:laptop", reason="lost \x1b[2J", detail={"a": 1}
        )
        record(session, Actor("cli", "root"), "device.add", "device:phone")
    return runtime


def test_nothing_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys; from core.cli import root\n"
        "try: root(['version'], prog_name='ostiary')\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'celery', 'pydantic', 'flask', 'cryptography', 'structlog', 'alembic'}\n"
        "print(heavy & set(sys.modules) or 'nothing')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("ostiary ")
    assert result.stdout.splitlines()[1] == "nothing"


def test_known_error_is_a_sentence_with_its_fix(runtime: Runtime) -> None:
    runtime.settings.secret_key_path.chmod(0o644)
    result = run(runtime, "audit", "list")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(
        f"Error: {runtime.settings.secret_key_path} can be read by others\n  fix: chmod 600"
    )
    assert "Traceback" not in result.stderr


def test_settings_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("[gateway]\nike_port = 0\n")
    result = CliRunner().invoke(root, ["--config", str(file), "audit", "list"])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {file}: gateway.ike_port: must be greater")


def test_config_option_reaches_the_processes_that_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.toml").write_text(f"state_dir = '{tmp_path}/there'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSTIARY_CONFIG", "unset")
    result = CliRunner().invoke(root, ["--config", "other.toml", "db", "upgrade"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "there" / "ostiary.db").exists()


def test_unexpected_database_error_is_a_sentence(runtime: Runtime) -> None:
    (runtime.settings.state_dir / "ostiary.db").write_bytes(b"this is not a database at all, it is text" * 100)
    result = run(runtime, "audit", "list")
    assert result.exit_code == 1
    assert "file is not a database" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("value", ["no.such.module:command", "core.cli.output:no_such_name", "core.clock:utc_now"])
def test_part_that_can_not_be_loaded(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("broken", value, "ostiary.commands")
    monkeypatch.setattr("core.cli.tree.entry_points", lambda group: [entry])
    result = run(runtime, "broken", "--some", "option")
    assert result.exit_code == 1
    assert "command 'broken' can't be loaded" in result.stderr
    help_text = run(runtime, "--help")
    assert help_text.exit_code == 0
    assert "broken" in help_text.stdout
    assert "audit" in help_text.stdout


def test_command_of_another_part(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @json_option
    def hello(as_json: bool) -> None:
        """Say hello."""
        opened = open_runtime()
        if not as_json:
            raise OstiaryError("no", fix="say --json")
        emit([{"state": opened.settings.state_dir}], as_json)

    entry = EntryPoint("hello", "nowhere:hello", "ostiary.commands")
    monkeypatch.setattr(EntryPoint, "load", lambda self: hello)
    monkeypatch.setattr("core.cli.tree.entry_points", lambda group: [entry] if group == "ostiary.commands" else [])
    result = run(runtime, "hello", "--json")
    assert json.loads(result.stdout) == [{"state": str(runtime.settings.state_dir)}]
    assert run(runtime, "hello").stderr == "Error: no\n  fix: say --json\n"


def test_audit_list_is_a_table_that_can_not_command_the_terminal(with_events: Runtime) -> None:
    result = run(with_events, "audit", "list")
    assert result.exit_code == 0
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["ID", "AT", "ACTOR", "ACTION", "TARGET", "OUTCOME", "REASON", "DETAIL"]
    assert "lost \\x1b[2J" in first
    assert first.endswith("a=1")
    assert second.startswith("2 ")


def test_audit_list_as_json(with_events: Runtime) -> None:
    result = run(with_events, "audit", "list", "--action", "device.rev*", "--json")
    (row,) = json.loads(result.stdout)
    assert row["reason"] == "lost \x1b[2J"
    assert row["detail"] == {"a": 1}
    assert len(row["hash"]) == 64
    assert datetime.fromisoformat(row["at"]).utcoffset() is not None


def test_audit_list_filters(with_events: Runtime) -> None:
    def ids(*arguments: str) -> list[int]:
        return [row["id"] for row in json.loads(run(with_events, "audit", "list", "--json", *arguments).stdout)]

    assert ids() == [1, 2]
    assert ids("--limit", "1") == [2]
    assert ids("--actor", "cli:root") == [2]
    assert ids("--target", "device:l*") == [1]
    assert run(with_events, "audit", "list", "--target", "x").stdout == "(none)\n"
    assert run(with_events, "audit", "list", "--limit", "0").exit_code == 2


def test_audit_verify(with_events: Runtime) -> None:
    result = run(with_events, "audit", "verify")
    assert (result.exit_code, result.stdout[:8]) == (0, "2 events")
    rows = json.loads(run(with_events, "audit", "verify", "--json").stdout)
    assert rows[0]["events"] == 2
    assert rows[0]["newest_hash"] in result.stdout
    with with_events.database.transaction() as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 1).values(reason=""))
    result = run(with_events, "audit", "verify")
    assert result.exit_code == 1
    assert "audit event 1 was changed" in result.stderr


def test_secrets_rotate(runtime: Runtime) -> None:
    result = run(runtime, "secrets", "rotate")
    assert result.exit_code == 0
    assert str(runtime.settings.secret_key_path) in result.stdout
    (row,) = json.loads(run(runtime, "audit", "list", "--json").stdout)
    assert row["action"] == "secrets.rotate"
    assert row["actor"].startswith("cli:")


def test_person_behind_sudo_is_the_actor(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "carol")
    run(runtime, "secrets", "rotate")
    (row,) = json.loads(run(runtime, "audit", "list", "--json").stdout)
    assert row["actor"] == "cli:carol"


def test_db_upgrade_says_what_it_did(tmp_path: Path) -> None:
    environment = {"OSTIARY_STATE_DIR": str(tmp_path / "new")}
    outputs = [CliRunner().invoke(root_command, ["db", "upgrade"], env=environment).stdout for _ in range(2)]
    assert outputs[0].endswith(": upgraded\n")
    assert outputs[1].endswith(": nothing to do\n")


def test_emit_prints_each_kind_of_value(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = {
        "text": "a\tb",
        "none": None,
        "yes": True,
        "time": datetime(2026, 7, 1, 12, 0, tzinfo=UTC),
        "bytes": b"\x01\xff",
        "list": ["x", "y"],
        "empty": [],
        "table": {"k": "v"},
    }
    emit([row], as_json=False)
    table = capsys.readouterr().out.splitlines()[1]
    cells = [cell.strip() for cell in table.split("  ") if cell.strip()]
    assert cells == ["a\\tb", "-", "yes", "2026-07-01 12:00:00", "01ff", "x, y", "-", "k=v"]
    emit([row], as_json=True)
    (parsed,) = json.loads(capsys.readouterr().out)
    assert parsed["time"] == "2026-07-01T12:00:00+00:00"
    assert parsed["bytes"] == "01ff"
    assert parsed["none"] is None
    emit([], as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_full_disk_is_a_sentence(with_events: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that can't grow: SQLite's own error, from a limit on its pages."""
    with with_events.database.transaction() as session:
        session.add(StoredSecret(name="filler", token=with_events.box.encrypt(Secret(b"x" * 3_000))))
    with with_events.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    real = database._configure_sqlite

    def with_limit(connection: Any, record: Any) -> None:
        real(connection, record)
        connection.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(database, "_configure_sqlite", with_limit)
    results = (run(with_events, "secrets", "rotate") for _ in range(60))
    failed = next(result for result in results if result.exit_code)
    assert failed.exit_code == 1
    assert failed.stderr == "Error: the database refused: (sqlite3.OperationalError) database or disk is full\n"
