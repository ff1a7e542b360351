"""A broker that is down or silent: who wakes a worker goes on, and `ostiary check` says what is wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import jobs
from core.checks import core_checks
from core.settings import JobSettings, Settings

pytestmark = pytest.mark.interop


@pytest.fixture(params=["closed", "silent"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A broker's address where nothing listens, or where a connection is taken and never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen()
        port = listener.getsockname()[1]
        url = f"amqp://ostiary:hunter2@127.0.0.1:{port}//"
        yield Settings(state_dir=tmp_path, jobs=JobSettings(broker_url=url))


def test_wake_does_no_harm(settings: Settings) -> None:
    started = time.monotonic()
    assert not jobs.wake(settings, 1)
    assert time.monotonic() - started < 2 * jobs.PUBLISH_TIMEOUT_S


def test_check_says_so(settings: Settings) -> None:
    started = time.monotonic()
    (found,) = [check for check in core_checks(settings) if check.name == "core: job queue"]
    assert found.ok is False
    assert "jobs.broker_url" in found.fix
    assert "hunter2" not in found.message
    assert time.monotonic() - started < 10
