"""Applies the steps, one process at a time, and writes new ones."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from core.database import DatabaseError, make_engine
from core.settings import DatabaseSettings, Settings

# Any 64-bit number that nobody else is likely to lock in the same PostgreSQL database.
_ADVISORY_LOCK = 0x4F53_5449_4152_5901


def upgrade(settings: Settings) -> bool:
    """Bring the database to the newest schema; processes that start together wait for the one that does it.

    Returns:
        Whether anything was to do.

    Raises:
        DatabaseError: unreachable, or made by a newer Ostiary than this one.
    """
    head = head_revision()
    try:
        with _engine(settings) as engine, _one_at_a_time(settings):
            if _revision_of(engine) == head:
                return False
            with engine.connect() as connection:
                _upgrade_locked(connection)
            return True
    except CommandError as error:
        raise DatabaseError(
            f"the database has a schema that this Ostiary does not know: {error}",
            fix="it was used by a newer version: install that one, or restore the backup made before its upgrade",
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseError(
            f"the database can't be used: {error.args[0] if error.args else error}",
            fix="check database.url, that the server runs, and that the state directory can be written",
        ) from error


def current_revision(settings: Settings) -> str | None:
    """The schema revision that the database has; None for an empty one.

    Raises:
        DatabaseError: unreachable.
    """
    try:
        with _engine(settings) as engine:
            return _revision_of(engine)
    except SQLAlchemyError as error:
        raise DatabaseError(
            f"the database can't be reached: {error.args[0] if error.args else error}", fix="check database.url"
        ) from error


def head_revision() -> str:
    """The schema revision that this code works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise DatabaseError("this installation has no migrations", fix="install Ostiary again")
    return head


def is_known(revision: str | None) -> bool:
    """Whether this code has a step of that name; None is the empty database, which it knows."""
    known = {step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()}
    return revision is None or revision in known


def make_revision(message: str, *, folder: Path | None = None) -> Path:
    """Write the step from the newest migration to today's models, to be read by a person before it is kept.

    Args:
        message: what the step does; also the file's name.
        folder: the package's own `versions` folder unless a test names another one.

    The models are compared with an empty database at head, never with the installation's own.
    """
    script = ScriptDirectory.from_config(_config())
    number = max((int(revision.revision) for revision in script.walk_revisions()), default=0) + 1
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(state_dir=Path(scratch), database=DatabaseSettings(url=f"sqlite:///{scratch}/new.db"))
        if number > 1:
            upgrade(settings)
        with _engine(settings) as engine, engine.connect() as connection:
            written = command.revision(
                _config(connection, folder),
                message=message,
                autogenerate=True,
                rev_id=f"{number:04}",
                version_path=None if folder is None else str(folder),
            )
    if not isinstance(written, Script):
        raise DatabaseError("Alembic wrote no migration")
    return Path(written.path)


def _config(connection: Connection | None = None, folder: Path | None = None) -> Config:
    config = Config()
    if folder is not None:
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{Path(__file__).parent / 'versions'}\n{folder}")
    config.set_main_option("script_location", "core:migrations")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def _upgrade_locked(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        # A table that is copied must not set off the foreign keys that point at it; SQLite takes this only
        # outside a transaction, so it goes round SQLAlchemy.
        _raw(connection).execute("PRAGMA foreign_keys=OFF")
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        command.upgrade(_config(connection), "head")
        if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise DatabaseError(f"a migration would break a foreign key of table {broken[0]}")


def _raw(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _revision_of(engine: Engine) -> str | None:
    with engine.execution_options(ostiary_readonly=True).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    engine = make_engine(settings)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """SQLite: a lock file beside the database. PostgreSQL takes its advisory lock in the transaction."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        yield
        return
    path = f"{url.database}.migration-lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseError(
            f"{path}: {error.strerror}", fix="make the state directory writable for this user (state_dir)"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
