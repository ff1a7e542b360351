"""What needs Alembic: running the steps, and writing a new one. Imported only then, for it takes its time."""

from __future__ import annotations

import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import Script
from sqlalchemy import Connection

from core.database import DatabaseError, make_engine
from core.migrations.migrate import STEPS_FOLDER, head_revision, upgrade
from core.settings import DatabaseSettings, Settings


def run_steps(connection: Connection) -> None:
    """Run what the database has not had yet, in the caller's transaction."""
    command.upgrade(_config(connection), "head")


def make_revision(message: str, *, folder: Path = STEPS_FOLDER) -> Path:
    """Write the step from the newest migration to today's models, to be read by a person before it is kept.

    Args:
        message: what the step does; also the file's name.
        folder: where to.

    The models are compared with an empty database at head, never with the installation's own.
    """
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(state_dir=Path(scratch), database=DatabaseSettings(url=f"sqlite:///{scratch}/new.db"))
        number = int(head_revision() or 0) + 1
        if number > 1:
            upgrade(settings)
        engine = make_engine(settings)
        with engine.connect() as connection:
            written = command.revision(
                _config(connection, folder),
                message=message,
                autogenerate=True,
                rev_id=f"{number:04}",
                version_path=str(folder),
            )
        engine.dispose()
    if not isinstance(written, Script):
        raise DatabaseError("Alembic wrote no migration")
    return Path(written.path)


def _config(connection: Connection, folder: Path = STEPS_FOLDER) -> Config:
    config = Config()
    config.set_main_option("script_location", "core:migrations")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(dict.fromkeys((str(STEPS_FOLDER), str(folder)))))
    config.attributes["connection"] = connection
    return config
