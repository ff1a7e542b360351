"""The same tables, audit chain, outbox and migrations on a real PostgreSQL server of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from core import audit, jobs, migrations, outbox
from core.audit import SYSTEM, Actor, AuditError, Entry
from core.checks import core_checks
from core.database import Base, DatabaseError
from core.outbox import OutboxItem
from core.rotation import rotate_keys
from core.runtime import Runtime
from core.secrets import SecretBox, StoredSecret, get_or_create_secret
from core.settings import DatabaseSettings, Settings

pytestmark = pytest.mark.interop

ALICE = Actor("user", "alice")
_database_number = count(1)


def _programs() -> Path:
    """Where Debian keeps the server's programs; the newest version counts."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if not found:
        message = "no PostgreSQL server here: deploy/setup/install-packages postgresql"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found[-1].parent


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server on a Unix socket in a folder of its own; gives the folder. It refuses to run as root."""
    programs = _programs()
    as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    # A short path: that of a Unix socket is limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ostiary-pg-"))
    shutil.chown(folder, "postgres", "postgres")
    try:
        subprocess.run(
            [*as_postgres, programs / "initdb", "-D", folder / "data", "-U", "ostiary", "-A", "trust",
             "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*as_postgres, programs / "postgres", "-D", folder / "data", "-k", folder,
                 "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            _wait_for_server(folder, process)
            yield str(folder)
        finally:
            process.terminate()
            process.wait(timeout=20)
    finally:
        shutil.rmtree(folder)


def _wait_for_server(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(host=str(folder), user="ostiary", dbname="postgres").close()
        except psycopg.OperationalError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def settings(server: str, tmp_path: Path) -> Settings:
    """A database of the test's own on the module's server."""
    name = f"ostiary{next(_database_number)}"
    with psycopg.connect(host=server, user="ostiary", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = f"postgresql://ostiary@/{name}?host={server}"
    return Settings(state_dir=tmp_path / "state", database=DatabaseSettings(url=url))


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    with Runtime.open(settings) as runtime:
        yield runtime


def in_threads(work: Callable[[], object], threads: int) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(timeout=60)
    assert errors == []


def verify(runtime: Runtime) -> int:
    with runtime.database.reading() as session:
        return audit.verify_chain(session)


def test_models_and_migrations_agree(runtime: Runtime) -> None:
    with runtime.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_processes_that_start_together_wait_for_the_one_that_migrates(settings: Settings) -> None:
    program = (
        "import sys; from pathlib import Path; from core.settings import *; from core.runtime import Runtime\n"
        "database = DatabaseSettings(url=sys.argv[2])\n"
        "Runtime.open(Settings(state_dir=Path(sys.argv[1]), database=database)).close()"
    )
    arguments = [str(settings.state_dir), str(settings.database.url)]
    processes = [
        subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE) for _ in range(4)
    ]
    errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert errors == [""] * 4
    assert migrations.current_revision(settings) == migrations.head_revision()


def test_failed_migration_leaves_the_database_as_it_was(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    real_upgrade = command.upgrade

    def upgrade_then_fail(*arguments: Any) -> None:
        real_upgrade(*arguments)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", upgrade_then_fail)
        with pytest.raises(ZeroDivisionError):
            migrations.upgrade(settings)
    assert migrations.current_revision(settings) is None
    assert migrations.upgrade(settings)


def test_database_of_a_newer_version_is_refused(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="newer version"):
        migrations.upgrade(runtime.settings)


def test_first_writers_of_the_log_do_not_fork_it(runtime: Runtime) -> None:
    def work() -> None:
        for number in range(10):
            with runtime.database.transaction() as session:
                audit.record(session, ALICE, "device.revoke", f"device:{number}", detail={"ü": [1, 2.5, None]})
            with runtime.database.transaction() as session:
                audit.record_many(session, [Entry(SYSTEM, "sign-in.allow", "user:alice")] * 3)

    in_threads(work, 6)
    assert verify(runtime) == 6 * 10 * 4


def test_what_a_client_wrote_is_stored_and_verifies(runtime: Runtime) -> None:
    hostile = "a\0b\ud800\x1b[31m" + "x" * 2000
    with runtime.database.transaction() as session:
        audit.record(session, Actor("user", hostile), "a.b", hostile, reason=hostile, detail={hostile: hostile})
    assert verify(runtime) == 1


def test_tampering_shows(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        audit.record_many(session, [Entry(SYSTEM, "sign-in.allow", "user:alice")] * 3)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE audit_event SET reason = 'none' WHERE id = 2"))
    with pytest.raises(AuditError, match="audit event 2 was changed"):
        verify(runtime)


def test_a_log_that_grows_while_it_is_checked_is_whole(runtime: Runtime) -> None:
    """Each statement sees what was committed before it, so the end moves under the check."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with runtime.database.transaction() as session:
                audit.record(session, audit.SYSTEM, "test.write", "test:log")

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        counts = []
        for _ in range(30):
            with runtime.database.reading() as session:
                counts.append(audit.verify_chain(session))
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_two_workers_never_do_an_item_at_the_same_time(runtime: Runtime) -> None:
    calls: list[dict[str, Any]] = []
    lock = threading.Lock()

    def handler(_runtime: Runtime, payload: dict[str, Any]) -> None:
        with lock:
            calls.append(payload)
        time.sleep(0.05)

    with runtime.database.transaction() as session:
        ids = [outbox.add(session, "x", {"n": number}).id for number in range(5)]

    def work() -> None:
        for item_id in ids:
            jobs.deliver_item(runtime, {"x": handler}, item_id)

    in_threads(work, 4)
    assert sorted(call["n"] for call in calls) == [0, 1, 2, 3, 4]
    with runtime.database.reading() as session:
        assert all(session.get_one(OutboxItem, item_id).done_at for item_id in ids)


def test_what_recurs_is_told_apart_by_its_payload(runtime: Runtime) -> None:
    def recur(at: str) -> int | None:
        with runtime.database.transaction() as session:
            item = outbox.add_recurring(session, "look", {"at": at}, 60)
        return item.id if item is not None else None

    assert recur("a") is not None
    assert recur("b") is not None
    assert (recur("a"), recur("b")) == (None, None)


def test_keys_rotate(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        secret = get_or_create_secret(session, runtime.box, "gateway:a")
    assert rotate_keys(runtime, SYSTEM) == 1
    newest_only = SecretBox(runtime.settings.secret_key_path.read_bytes().split()[:1])
    with runtime.database.reading() as session:
        assert newest_only.decrypt(session.get_one(StoredSecret, "gateway:a").token) == secret


def test_checks_are_good(runtime: Runtime) -> None:
    assert [check for check in core_checks(runtime.settings) if check.ok is False] == []


def test_connection_that_the_server_dropped_is_made_anew(server: str, runtime: Runtime) -> None:
    with runtime.database.reading() as session:
        session.execute(text("SELECT 1"))
    with psycopg.connect(host=server, user="ostiary", dbname="postgres", autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [runtime.database.engine.url.database],
        )
    with runtime.database.transaction() as session:
        audit.record(session, ALICE, "a.b", "c:d")
    assert verify(runtime) == 1
