"""The supervisor with small real processes in the place of Ostiary's own."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from core import supervisor as module
from core.supervisor import Command, Supervisor

READY = "from core.ready import announce; announce({lines!r}); "
FOREVER = "import signal; signal.pause()"


def python(name: str, program: str) -> Command:
    return Command(name, (sys.executable, "-c", program))


def steady(name: str, *lines: str, before: str = "", after: str = FOREVER) -> Command:
    return python(name, before + READY.format(lines=list(lines)) + after)


class Terminal(io.StringIO):
    """Collects what is shown, and tells when something was."""

    async def shows(self, text: str, *, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.getvalue().count(text) < times:
                await asyncio.sleep(0.01)


def supervise(
    commands: list[Command], act: Callable[[Terminal, Terminal], Awaitable[None]] | None = None
) -> tuple[int, str, str]:
    """Run the supervisor, let `act` (a coroutine function) look on, and end it with SIGTERM."""
    out, err = Terminal(), Terminal()

    async def run() -> int:
        supervisor = Supervisor(commands, out=out, err=err, title="All is up", footer="Ctrl-C ends.")
        running = asyncio.create_task(supervisor.run())
        if act is not None:
            await asyncio.sleep(0)
            await act(out, err)
            os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(running, 30)

    return asyncio.run(run()), out.getvalue(), err.getvalue()


def test_banner_shows_what_the_processes_tell_in_the_order_given() -> None:
    async def act(out: Terminal, _err: Terminal) -> None:
        await out.shows("Ctrl-C ends.")

    code, out, err = supervise(
        [
            steady("web", "Portal: https://localhost:8443/", before="import time; time.sleep(0.3); "),
            steady("gateway", "Gateway: 192.0.2.1, userspace data plane", "Try \x1b[2J this"),
            steady("worker"),
        ],
        act,
    )
    assert code == 0
    assert [line.strip() for line in out.strip().splitlines()] == [
        "=" * 43,
        "All is up",
        "",
        "Portal:   https://localhost:8443/",
        "Gateway:  192.0.2.1, userspace data plane",
        "Try \\x1b[2J this",
        "",
        "Ctrl-C ends.",
        "=" * 43,
    ]
    assert err == ""


def test_output_of_each_process_carries_its_name() -> None:
    long_line = "x" * 200_000

    async def act(_out: Terminal, err: Terminal) -> None:
        await err.shows("the end")

    program = (
        f"import sys; print('one'); print('two', file=sys.stderr); print('x' * {len(long_line)}); print('the end'); "
    )
    _code, _out, err = supervise([steady("web", before=program), steady("gateway")], act)
    lines = err.splitlines()
    assert lines[:2] == ["web     | one", "web     | two"]
    assert lines[-1] == "web     | the end"
    pieces = [line.removeprefix("web     | ") for line in lines[2:-1]]
    assert "".join(pieces) == long_line
    assert len(pieces) > 1


def test_process_that_can_not_start_ends_everything_with_its_message(tmp_path: Path) -> None:
    marker = tmp_path / "stopped"
    good = steady(
        "web",
        after="import signal, sys, pathlib\n"
        "def stop(*_):\n"
        f"    pathlib.Path({str(marker)!r}).touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); signal.pause()",
    )
    bad = python("gateway", "import sys, time; time.sleep(0.5); print('noise'); sys.exit('Error: port 500 is taken')")
    code, out, err = supervise([good, bad])
    assert code == 1
    assert out == ""
    assert marker.exists()
    assert "gateway did not start, so everything was stopped" in err
    assert err.rstrip().endswith("Error: port 500 is taken")


def test_slow_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMPATIENT_S", 0.1)

    async def act(out: Terminal, _err: Terminal) -> None:
        await out.shows("Ctrl-C ends.")

    code, _out, err = supervise([steady("web"), steady("gateway", before="import time; time.sleep(0.6); ")], act)
    assert code == 0
    assert err.splitlines()[0].endswith("gateway")
    assert err.startswith("still waiting for: ")


def test_command_that_does_not_exist_ends_everything(caplog: pytest.LogCaptureFixture) -> None:
    code, _out, err = supervise([steady("web"), Command("gateway", ("/nonexistent/program",))])
    assert code == 1
    assert "/nonexistent/program: No such file or directory" in err
    assert caplog.records == []


def test_process_that_ends_with_code_0_before_it_was_ready_counts_as_not_started() -> None:
    code, _out, err = supervise([steady("web"), python("gateway", "pass")])
    assert code == 1
    assert "gateway did not start" in err


def test_process_that_dies_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RESTART_S", 0.05)
    pids = tmp_path / "pids"
    record = f"import os; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); "

    async def act(out: Terminal, err: Terminal) -> None:
        await out.shows("Ctrl-C ends.")
        for count in (1, 2):
            os.kill(int(pids.read_text().split()[-1]), signal.SIGKILL)
            await err.shows("is back", times=count)

    code, out, err = supervise([steady("web", "Portal: x", before=record), steady("gateway")], act)
    assert code == 0
    assert out.count("Portal:") == 1
    assert err.count("ended (killed by SIGKILL); starts again in") == 2
    assert len(pids.read_text().split()) == 3


def test_process_that_fails_when_started_again_is_tried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RESTART_S", 0.05)
    monkeypatch.setattr(module, "LONGEST_RESTART_S", 0.1)
    marker = tmp_path / "first"
    before = (
        f"import pathlib, sys; m = pathlib.Path({str(marker)!r})\nif m.exists(): sys.exit('no luck')\nm.touch()\n"
    )

    async def act(_out: Terminal, err: Terminal) -> None:
        await err.shows("ended (exit code 1)", times=3)

    code, _out, err = supervise([steady("web", before=before, after="raise SystemExit(3)")], act)
    assert code == 0
    assert "ended (exit code 3)" in err


def test_processes_are_stopped_one_after_the_other(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def slow(name: str) -> Command:
        return steady(
            name,
            after="import signal, sys, time\n"
            f"log = lambda text: open({str(log)!r}, 'a').write(text + chr(10))\n"
            "def stop(*_):\n"
            f"    log('{name} stops'); time.sleep(0.1); log('{name} has stopped'); sys.exit()\n"
            "signal.signal(signal.SIGTERM, stop)\n"
            "signal.signal(signal.SIGINT, lambda *_: log('interrupted'))\n"
            "while True: signal.pause()",
        )

    async def act(out: Terminal, _err: Terminal) -> None:
        await out.shows("Ctrl-C ends.")

    code, _out, _err = supervise([slow("web"), slow("gateway"), slow("worker")], act)
    assert code == 0
    assert log.read_text().splitlines() == [
        f"{name} {what}" for name in ("web", "gateway", "worker") for what in ("stops", "has stopped")
    ]


def test_process_that_does_not_stop_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.2)
    pid_file = tmp_path / "pid"
    stubborn = steady(
        "web",
        before="import signal, subprocess, sys, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n",
        after="\nwhile True: signal.pause()",
    )

    async def act(out: Terminal, _err: Terminal) -> None:
        await out.shows("Ctrl-C ends.")

    started = time.monotonic()
    code, _out, _err = supervise([stubborn], act)
    assert code == 0
    assert time.monotonic() - started < 10
    wait_for_end(int(pid_file.read_text()))


def test_nonsense_on_the_ready_pipe_is_not_readiness() -> None:
    program = "import os, time; os.write(int(os.environ['OSTIARY_READY_FD']), b'hello\\n'); time.sleep(0.3)"
    code, out, err = supervise([python("web", program)])
    assert code == 1
    assert out == ""
    assert "not an announcement" in err


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = (
        "import os, pathlib, signal; from core.ready import announce, end_with_supervisor; end_with_supervisor(); "
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); announce(); signal.pause()"
    )
    program = (
        "import asyncio, sys; from core.supervisor import *\n"
        f"commands = [Command('web', (sys.executable, '-c', {child!r}))]\n"
        "asyncio.run(Supervisor(commands, out=sys.stdout, err=sys.stderr, title='up').run())"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "up" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
    wait_for_end(int(pid_file.read_text()))


def wait_for_end(pid: int) -> None:
    """A killed process is gone, or a zombie that nobody waits for, within a moment."""
    deadline = time.monotonic() + 5
    while _state(pid) not in {None, "Z"}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _state(pid: int) -> str | None:
    """The state letter of a process; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None
