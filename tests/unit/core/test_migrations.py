"""The schema: the steps make what the models say, once, whoever starts first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, Table, inspect, text

from core import migrations
from core.audit import AuditHead
from core.database import Base, Database, DatabaseError, make_engine
from core.migrations.steps import make_revision
from core.runtime import Runtime
from core.settings import Settings


def test_models_and_migrations_agree(runtime: Runtime) -> None:
    with runtime.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_steps_are_one_line_and_alembic_sees_the_same_end() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    steps = [step.revision for step in scripts.walk_revisions()]
    assert scripts.get_heads() == [migrations.head_revision()]
    assert steps == [f"{number:04}" for number in range(len(steps), 0, -1)]
    assert all(migrations.is_known(step) for step in steps)


def test_alembic_is_not_loaded_where_nothing_is_to_do(runtime: Runtime) -> None:
    program = (
        "import sys; from pathlib import Path; from core.settings import Settings; from core.runtime import Runtime\n"
        "Runtime.open(Settings(state_dir=Path(sys.argv[1]))).close()\n"
        "print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(runtime.settings.state_dir)]
    assert subprocess.run(command, capture_output=True, check=True, timeout=30).stdout == b"False\n"


def test_upgrade_is_done_once(settings: Settings) -> None:
    assert migrations.current_revision(settings) is None
    assert migrations.upgrade(settings)
    assert migrations.current_revision(settings) == migrations.head_revision()
    assert not migrations.upgrade(settings)


def test_database_file_is_private(settings: Settings) -> None:
    migrations.upgrade(settings)
    assert settings.state_dir.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o077 for path in settings.state_dir.iterdir()} == {
        "ostiary.db": 0,
        "ostiary.db.migration-lock": 0,
    }


def test_first_migration_makes_the_row_that_writers_of_the_log_lock(runtime: Runtime) -> None:
    with runtime.database.reading() as session:
        head = session.get_one(AuditHead, 1)
        assert (head.event_id, head.hash) == (None, bytes(32))


@pytest.mark.slow
def test_processes_that_start_together_wait_for_the_one_that_migrates(settings: Settings) -> None:
    program = (
        "import sys; from pathlib import Path; from core.settings import Settings; from core.runtime import Runtime\n"
        "with Runtime.open(Settings(state_dir=Path(sys.argv[1]))) as runtime, runtime.database.reading(): pass"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(settings.state_dir)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert errors == [""] * 3
    assert migrations.current_revision(settings) == migrations.head_revision()


def test_failed_migration_leaves_the_database_as_it_was(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real_upgrade = command.upgrade

    def upgrade_then_fail(*arguments: Any) -> None:
        real_upgrade(*arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(command, "upgrade", upgrade_then_fail)
    with pytest.raises(ZeroDivisionError):
        migrations.upgrade(settings)
    engine = make_engine(settings)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_database_of_a_newer_version_is_refused(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="newer version"):
        migrations.upgrade(runtime.settings)
    assert not migrations.is_known("9999")


def test_unreachable_database_is_explained_without_its_password(settings: Settings) -> None:
    url = "postgresql://ostiary:hunter2@/ostiary?host=/nonexistent"
    elsewhere = settings.model_copy(update={"database": settings.database.model_copy(update={"url": url})})
    for function in (migrations.upgrade, migrations.current_revision):
        with pytest.raises(DatabaseError, match=r"database\.url") as caught:
            function(elsewhere)
        assert "hunter2" not in str(caught.value)


def test_state_directory_that_can_not_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="state_dir"):
        Database.open(Settings(state_dir=tmp_path / "file" / "state"))


def test_new_step_is_written_from_the_models(tmp_path: Path) -> None:
    table = Table("brand_new", Base.metadata, Column("id", Integer, primary_key=True))
    try:
        path = make_revision("add a table", folder=tmp_path)
    finally:
        Base.metadata.remove(table)
    number = int(migrations.head_revision() or 0) + 1
    assert path == tmp_path / f"{number:04}_add_a_table.py"
    written = path.read_text()
    assert "brand_new" in written
    assert "audit_event" not in written
    assert written.startswith('"""Add a table."""')
    compile(written, str(path), "exec")
