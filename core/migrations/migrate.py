"""Brings the schema up to date, one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, String, column, inspect, select, table, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from core.database import DatabaseError, make_engine
from core.settings import Settings

# Any 64-bit number that nobody else is likely to lock in the same PostgreSQL database.
_ADVISORY_LOCK = 0x4F53_5449_4152_5901
STEPS_FOLDER = Path(__file__).parent / "versions"
# Alembic's own table.
_VERSION_TABLE = table("alembic_version", column("version_num", String(32)))


def upgrade(settings: Settings) -> bool:
    """Bring the database to the newest schema; processes that start together wait for the one that does it.

    Returns:
        Whether anything was to do.

    Raises:
        DatabaseError: unreachable, or made by a newer Ostiary than this one.
    """
    try:
        with _engine(settings) as engine, _one_at_a_time(settings):
            current = _revision_of(engine)
            if current == head_revision():
                return False
            if not is_known(current):
                raise DatabaseError(
                    f"the database has schema {current}, which this Ostiary does not know",
                    fix="it was used by a newer version: install that one, or restore the backup from before",
                )
            with engine.connect() as connection:
                _upgrade_locked(connection)
            return True
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


def head_revision() -> str | None:
    """The schema revision that this code works with: that of the newest step."""
    return max(_known_revisions(), default=None)


def is_known(revision: str | None) -> bool:
    """Whether this code has a step of that name; None is the empty database, which it knows."""
    return revision is None or revision in _known_revisions()


def _known_revisions() -> set[str]:
    # The steps are numbered, each stands on the one before it, and Alembic's own way to know them takes longer
    # than most commands do. A test holds both ways together.
    return {path.name.partition("_")[0] for path in STEPS_FOLDER.glob("[0-9]*_*.py")}


def _upgrade_locked(connection: Connection) -> None:
    from core.migrations.steps import run_steps  # late: see there

    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        # A table that is copied must not set off the foreign keys that point at it; SQLite takes this only
        # outside a transaction, so it goes round SQLAlchemy.
        _raw(connection).execute("PRAGMA foreign_keys=OFF")
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        run_steps(connection)
        if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise DatabaseError(f"a migration would break a foreign key of table {broken[0]}")


def _raw(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _revision_of(engine: Engine) -> str | None:
    with engine.execution_options(ostiary_readonly=True).connect() as connection:
        if not inspect(connection).has_table(_VERSION_TABLE.name):
            return None
        return connection.scalar(select(_VERSION_TABLE.c.version_num))


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
