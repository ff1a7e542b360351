"""The Celery application on its filesystem broker, with a real worker process for the whole way."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.connection import Connection

from core import file_queue, jobs, outbox
from core.outbox import OutboxItem
from core.ready import READY_VARIABLE
from core.runtime import Runtime
from core.settings import JobSettings, Settings

# A worker as `ostiary worker` starts it, but with one handler of the test's.
WORKER = """
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from core import log, worker
from core.runtime import Runtime
from core.settings import JobSettings, Settings

state, seen = map(Path, sys.argv[1:3])

def write_down(runtime, payload):
    with seen.open("a") as file:
        file.write(payload["word"] + chr(10))
    if payload["word"] == "fail":
        raise ConnectionError("not yet")

worker.load_handlers = lambda: {"write": write_down}
settings = Settings(state_dir=state, jobs=JobSettings(sweep_interval_s=float(sys.argv[3])))
log.configure(settings)
with Runtime.open(settings) as runtime:
    sys.exit(worker.run(runtime))
"""


@contextmanager
def running_worker(settings: Settings, seen: Path, sweep_interval_s: float) -> Iterator[subprocess.Popen[str]]:
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(settings.state_dir), str(seen), str(sweep_interval_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=(write,),
        env={**os.environ, READY_VARIABLE: str(write)},
    )
    os.close(write)
    try:
        with os.fdopen(read) as ready:
            assert select.select([ready], [], [], 30)[0], "the worker did not become ready"
            assert json.loads(ready.readline()) == {"ready": True, "lines": []}
        yield process
    finally:
        process.kill()
        process.communicate()


def add(runtime: Runtime, word: str) -> int:
    with runtime.database.transaction() as session:
        return outbox.add(session, "write", {"word": word}).id


def wait_until(condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_done(runtime: Runtime, item_id: int) -> bool:
    with runtime.database.reading() as session:
        return session.get_one(OutboxItem, item_id).done_at is not None


@pytest.mark.slow
def test_worker_does_what_it_is_woken_for_and_stops_cleanly(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, working_directory = tmp_path / "seen", tmp_path / "here"
    working_directory.mkdir()
    monkeypatch.chdir(working_directory)
    due_before_start = add(runtime, "early")
    with running_worker(runtime.settings, seen, sweep_interval_s=3600) as process:
        wait_until(lambda: is_done(runtime, due_before_start))
        item_id = add(runtime, "woken")
        started = time.monotonic()
        assert jobs.wake(runtime.settings, item_id)
        assert jobs.wake(runtime.settings, item_id)
        wait_until(lambda: is_done(runtime, item_id))
        assert time.monotonic() - started < 2
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert seen.read_text().split() == ["early", "woken"]
    assert "superuser" not in output
    assert "Traceback" not in output
    assert list(working_directory.iterdir()) == []


@pytest.mark.slow
def test_sweep_finds_what_nobody_woke_and_what_failed(runtime: Runtime, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with running_worker(runtime.settings, seen, sweep_interval_s=0.2):
        failing = add(runtime, "fail")
        silent = add(runtime, "silent")
        wait_until(lambda: is_done(runtime, silent))
        wait_until(lambda: seen.read_text().count("fail") >= 2)
    with runtime.database.reading() as session:
        item = session.get_one(OutboxItem, failing)
    assert item.done_at is None
    assert item.last_error == "ConnectionError: not yet"
    assert item.attempts >= 1


def test_wake_that_can_not_write_its_queue_does_no_harm(settings: Settings) -> None:
    blocked = settings.model_copy(update={"state_dir": Path("/proc/nowhere")})
    assert not jobs.wake(blocked, 1)


def test_messages_are_private_json(settings: Settings, tmp_path: Path) -> None:
    assert jobs.wake(Settings(state_dir=tmp_path / "another"), 6)
    assert jobs.wake(settings, 7)
    folder = settings.state_dir / "queue" / "messages"
    assert folder.stat().st_mode & 0o777 == 0o700
    (message,) = folder.iterdir()
    assert json.loads(message.read_text())["content-type"] == "application/json"
    app = jobs.make_celery(settings)
    assert app.conf.accept_content == ["json"]


def queue(folder: Path) -> Any:
    connection: Any = Connection(  # type: ignore[no-untyped-call]
        file_queue.URL, transport_options=file_queue.transport_options(folder)
    )
    return connection.SimpleQueue("jobs")


def test_message_goes_through_the_file_queue_once(tmp_path: Path) -> None:
    sender, receiver = queue(tmp_path / "q"), queue(tmp_path / "q")
    sender.put({"n": 1})
    sender.put({"n": 2})
    received = []
    for _ in range(2):
        message = receiver.get(timeout=2)
        message.ack()
        received.append(message.payload["n"])
    assert sorted(received) == [1, 2]
    with pytest.raises(Empty):
        receiver.get(timeout=0.3)
    assert list((tmp_path / "q" / "messages").iterdir()) == []


def test_message_cut_short_by_a_power_failure_is_dropped(tmp_path: Path) -> None:
    receiver = queue(tmp_path / "q")
    (tmp_path / "q" / "messages" / "1_x.jobs.msg").write_text('{"body": "eyJ')
    with pytest.raises(Empty):
        receiver.get(timeout=0.3)
    queue(tmp_path / "q").put({"n": 3})
    assert receiver.get(timeout=2).payload == {"n": 3}


def test_installed_handlers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("part", "tests.unit.core.test_jobs", "ostiary.tasks")
    monkeypatch.setattr(jobs, "entry_points", lambda group: [entry] if group == "ostiary.tasks" else [])
    monkeypatch.setattr(EntryPoint, "load", lambda _entry: SimpleNamespace(HANDLERS={"a": print}))
    assert jobs.load_handlers() == {"a": print}


def test_what_recurs_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    work = jobs.Recurring("look", {}, settings.jobs.sweep_interval_s)
    entry = EntryPoint("part", "tests.unit.core.test_jobs", "ostiary.tasks")
    monkeypatch.setattr(jobs, "entry_points", lambda group: [entry] if group == "ostiary.tasks" else [])
    for module, found in ((SimpleNamespace(), []), (SimpleNamespace(recurring=lambda _settings: [work]), [work])):
        monkeypatch.setattr(EntryPoint, "load", lambda _entry, module=module: module)
        assert jobs.load_recurring(settings) == found


def test_url_of_the_queue_is_shown_without_its_password(settings: Settings) -> None:
    assert jobs.shown_queue(settings) == f"files in {settings.state_dir}/queue"
    remote = settings.model_copy(update={"jobs": JobSettings(broker_url="amqp://ostiary:hunter2@queue//")})
    assert jobs.shown_queue(remote) == "amqp://ostiary:***@queue//"
