"""Starts `ostiary web` for real, on loopback, with a state directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from core.ready import READY_VARIABLE
from core.settings import Settings, WebSettings

READY_S = 30.0
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Portal:
    """A running portal."""

    url: str
    first_run_link: str
    settings: Settings
    process: subprocess.Popen[bytes]


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_portal(state_dir: Path, *, port: int | None = None) -> Iterator[Portal]:
    """A portal that listens, until the block ends.

    Raises:
        AssertionError: it did not become ready, or did not end when asked.
    """
    port = port or free_port()
    web = WebSettings(host=IPv4Address("127.0.0.1"), port=port)
    settings = Settings(state_dir=state_dir, web=web)
    ready_read, ready_write = os.pipe()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OSTIARY_")}
    environment |= {
        READY_VARIABLE: str(ready_write),
        "OSTIARY_STATE_DIR": str(state_dir),
        "OSTIARY_WEB__HOST": "127.0.0.1",
        "OSTIARY_WEB__PORT": str(port),
    }
    log = (state_dir.parent / "portal.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "core.cli", "web"],
        env=environment,
        pass_fds=[ready_write],
        stdout=log,
        stderr=log,
        cwd=Path(__file__).parents[2],
    )
    os.close(ready_write)
    try:
        lines = _announcement(ready_read)
        assert lines is not None, Path(log.name).read_text(encoding="utf-8")
        yield Portal(lines["Portal"], lines["First administrator"], settings, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the portal did not end when asked") from None
        finally:
            log.close()


def _announcement(descriptor: int) -> dict[str, str] | None:
    """What the portal announces, by label; None when it ends or takes too long."""
    import select

    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        if not select.select([pipe], [], [], READY_S)[0]:
            return None
        line = pipe.read(65536)
    if not line:
        return None
    return dict(text.split(": ", 1) for text in json.loads(line)["lines"])
