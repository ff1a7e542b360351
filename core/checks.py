"""`ostiary check`: what this machine and this configuration can do, and what to do about what they can't.

Each part adds its own through the entry-point group `ostiary.checks`: a function that takes the settings and
returns checks. A check changes nothing on the machine.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path

from core.clock import utc_now
from core.errors import OstiaryError
from core.settings import Settings

OLDEST_PYTHON = (3, 11)
# No machine that runs this code has a right clock before the year the code is from.
EARLIEST_TIME = datetime(2026, 1, 1, tzinfo=UTC)
LEAST_FREE_BYTES = 100 * 1024**2
FEW_FREE_BYTES = 1024**3
BROKER_TIMEOUT_S = 3.0
_TIME_ERROR = 5
# struct timex of <sys/timex.h> with room to spare; all zero means "only tell".
_TIMEX_BYTES = 512


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    """What was looked at, as `part: thing`."""
    ok: bool | None
    """None: it works but deserves a look, or it can't be told."""
    message: str
    fix: str = ""
    """What to do, where `ok` is not True."""


CheckFunction = Callable[[Settings], list[Check]]


def run_checks(settings: Settings) -> list[Check]:
    """All checks of all parts, core's first. A part whose check crashes is reported as a failed check."""
    checks = list(core_checks(settings))
    for entry in sorted(entry_points(group="ostiary.checks")):
        try:
            function: CheckFunction = entry.load()
            checks.extend(function(settings))
        except Exception as error:  # a broken check must not hide the others
            checks.append(
                Check(f"{entry.name}: check", False, f"failed: {type(error).__name__}: {error}", "report this defect")
            )
    return checks


def core_checks(settings: Settings) -> Iterable[Check]:
    """Python, state directory, key file, database, clock, disk and broker."""
    yield _python()
    yield _state_directory(settings)
    yield _key_file(settings)
    yield _database(settings)
    yield _clock()
    yield _clock_is_synchronised()
    yield _disk(settings)
    yield _broker(settings)


def nearest_existing(path: Path) -> Path:
    """The path itself, or the closest folder above it that exists."""
    for candidate in (path, *path.absolute().parents):
        if candidate.exists():
            return candidate
    return Path("/")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Check("core: Python", False, f"version {version}", "install Python 3.11 or newer")
    return Check("core: Python", True, f"version {version}")


def _state_directory(settings: Settings) -> Check:
    name, path = "core: state directory", settings.state_dir
    existing = nearest_existing(path)
    if not existing.is_dir():
        return Check(name, False, f"{existing} is not a folder", "name another one: state_dir")
    if not _writable(existing):
        return Check(name, False, f"{existing} can't be written", "run as its owner, or name another one: state_dir")
    if existing != path:
        return Check(name, True, f"{path} will be made at the first start")
    if path.stat().st_mode & 0o007:
        return Check(name, None, f"{path} is open to every user of this machine", f"chmod o= {path}")
    return Check(name, True, str(path))


def _writable(folder: Path) -> bool:
    # access(2) asks the kernel, which knows of read-only mounts and capabilities; permission bits don't tell.
    import os

    return os.access(folder, os.W_OK | os.X_OK, effective_ids=True)


def _key_file(settings: Settings) -> Check:
    from core.secrets import SecretBox

    name, path = "core: key for secrets", settings.secret_key_path
    if not path.exists():
        if _database_has_tables(settings):
            return Check(
                name, False, f"{path} is missing, and the database has secrets", "put the key file back from a backup"
            )
        return Check(name, True, f"{path} will be made at the first start")
    try:
        SecretBox.open(settings)
    except OstiaryError as error:
        return Check(name, False, error.message, error.fix or "")
    return Check(name, True, str(path))


def _database_has_tables(settings: Settings) -> bool:
    from core import migrations

    try:
        return not _sqlite_file_missing(settings) and migrations.current_revision(settings) is not None
    except OstiaryError:
        return False


def _sqlite_file_missing(settings: Settings) -> bool:
    """Looking at an SQLite database that is not there would make one."""
    from sqlalchemy.engine import make_url

    url = make_url(settings.database_url)
    return url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists())


def _database(settings: Settings) -> Check:
    from core import migrations

    name = "core: database"
    try:
        if _sqlite_file_missing(settings):
            return Check(name, True, f"{settings.shown_database_url} will be made at the first start")
        current, head = migrations.current_revision(settings), migrations.head_revision()
        known = migrations.is_known(current)
    except OstiaryError as error:
        return Check(name, False, error.message, error.fix or "")
    where = settings.shown_database_url
    if not known:
        return Check(
            name, False, f"{where} has schema {current}, unknown here", "install the newer Ostiary that made it"
        )
    if current != head:
        return Check(
            name,
            None,
            f"{where} has schema {current or 'none'}, to become {head} at the next start",
            "ostiary db upgrade",
        )
    return Check(name, True, f"{where}, schema {head}")


def _clock() -> Check:
    now = utc_now()
    if now < EARLIEST_TIME:
        return Check(
            "core: clock",
            False,
            f"says {now:%Y-%m-%d %H:%M} UTC, which is past",
            "set the clock: certificates depend on it",
        )
    return Check("core: clock", True, f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _clock_is_synchronised() -> Check:
    name, fix = "core: time synchronisation", "run chrony or systemd-timesyncd"
    state = _kernel_clock_state()
    if state is None:
        return Check(name, None, "the kernel does not tell", fix)
    if state == _TIME_ERROR:
        return Check(name, None, "the kernel says that nothing keeps the clock right", fix)
    return Check(name, True, "the kernel's clock is kept right")


def _kernel_clock_state() -> int | None:
    """What adjtimex(2) returns: 0 to 4 while synchronised, 5 while not; None where it may not be asked."""
    try:
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state


def _disk(settings: Settings) -> Check:
    name, folder = "core: disk space", nearest_existing(settings.state_dir)
    free = shutil.disk_usage(folder).free
    message = f"{free / 1024**2:,.0f} MiB free at {folder}"
    if free < LEAST_FREE_BYTES:
        return Check(name, False, message, "make room: the database stops when the disk is full")
    if free < FEW_FREE_BYTES:
        return Check(name, None, message, "make room: the audit log grows for ever")
    return Check(name, True, message)


def _broker(settings: Settings) -> Check:
    name = "core: job queue"
    if settings.jobs.broker_url is None:
        return Check(name, True, f"files in {settings.state_dir / 'queue'}")
    from kombu.connection import Connection

    with Connection(settings.jobs.broker_url, connect_timeout=BROKER_TIMEOUT_S) as connection:  # type: ignore[no-untyped-call]
        shown = connection.as_uri()
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_TIMEOUT_S)
        except Exception as error:  # each transport raises its own; the reason is what counts
            return Check(name, False, f"{shown}: {error}", "start the broker, or correct jobs.broker_url")
    return Check(name, True, shown)
