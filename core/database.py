"""The database: typed SQLAlchemy models, one session factory, SQLite (WAL) or PostgreSQL by URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import Any, ClassVar

from sqlalchemy import DateTime, Dialect, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

from core.errors import OstiaryError
from core.settings import Settings
from core.text import hide_url_password

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for the other writers of SQLite."""
CONNECT_TIMEOUT_S = 5


class DatabaseError(OstiaryError):
    """The database can't be reached or used."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of every table; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime()}


def load_models() -> None:
    """Import every module that defines tables, so that foreign keys between parts resolve."""
    import core.audit
    import core.outbox
    import core.secrets  # noqa: F401

    for entry in entry_points(group="ostiary.models"):
        entry.load()


def make_engine(settings: Settings) -> Engine:
    """An engine for the configured database. An SQLite file is made, readable by this user only.

    Its errors show statements without their values, for an error is logged, and a value may be a hash or a key.

    Raises:
        DatabaseError: the URL is not usable, or the file can't be made.
    """
    try:
        url = make_url(settings.database_url)
        if url.get_backend_name() == "sqlite":
            _create_sqlite_file(settings, url.database)
            engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000}, hide_parameters=True)
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_immediate)
            return engine
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    except OSError as error:
        raise DatabaseError(
            f"{settings.shown_database_url}: {error.strerror}: {error.filename}",
            fix="run as a user that may write there, or name another place (state_dir, database.url)",
        ) from error
    except ArgumentError as error:
        raise DatabaseError(
            f"database.url can't be used: {hide_url_password(str(error))}",
            fix="set it to sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME",
        ) from error


def _create_sqlite_file(settings: Settings, database: str | None) -> None:
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if database and database != ":memory:":
        # SQLite would make it with the umask's permissions, and its WAL files take over the mode.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # SQLAlchemy's own BEGIN (below) replaces the driver's, which starts transactions too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _leave_syncing_to_checkpoints(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_immediate(connection: Any) -> None:
    """Take the write lock at the start of a writing transaction, so that two of them queue and never fail.

    A read that turns into a write halfway is refused by SQLite at once, whatever the busy timeout.
    """
    readonly = connection.get_execution_options().get("ostiary_readonly", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")


class Database:
    """The one session factory.

    `transaction()` is for changes: it commits at the end or rolls all back. `reading()` takes no write lock.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writers = sessionmaker(engine, expire_on_commit=False)
        self._readers = sessionmaker(
            engine.execution_options(ostiary_readonly=True), expire_on_commit=False, autoflush=False
        )

    @classmethod
    def open(cls, settings: Settings) -> Database:
        """Open the configured database with every part's tables known."""
        load_models()
        return cls(make_engine(settings))

    def favour_speed(self) -> None:
        """Let a power failure undo the last commits of this process, as long as no other one has committed since.

        For the gateway, which commits at every sign-in, and whose sessions end with the power. What must not be
        undone (a revocation, a used code) is written by the others, and their commits make those before them last
        as well. A killed process undoes nothing. PostgreSQL stays as it is set up.
        """
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _leave_syncing_to_checkpoints)
            # The connections that are open already would stay as they are.
            self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose changes are committed together, or not at all."""
        with self._writers.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for queries; what it is asked to change is thrown away, what it read can be used afterwards."""
        with self._readers() as session:
            yield session

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()
