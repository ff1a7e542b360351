"""`ostiary up`: starts the processes of one machine, shows their output, restarts them, and stops them in order.

It knows nothing of what they do. Each says by itself when it is ready and what to tell the person at the
terminal (`core.ready`). A process that ends before it was ready the first time ends everything, since its
message says what to correct; one that dies later is started again, after a wait that doubles.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from core.ready import READY_VARIABLE
from core.text import escape_control

FIRST_RESTART_S = 1.0
LONGEST_RESTART_S = 30.0
STEADY_S = 60.0
"""A process that ran this long starts the waits from the beginning."""
GRACE_S = 6.0
"""From SIGTERM to SIGKILL."""
IMPATIENT_S = 30.0
"""After this, the person is told what is not ready yet."""
LINE_BYTES = 64 * 1024
ANNOUNCEMENT_BYTES = 64 * 1024
TAIL_LINES = 15
RULE_WIDTH = 100
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Command:
    """One process to run."""

    name: str
    argv: tuple[str, ...]


@dataclass(slots=True)
class _Child:
    command: Command
    process: asyncio.subprocess.Process | None = None
    started_at: float = 0.0
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)


class Supervisor:
    """Runs commands until SIGINT, SIGTERM or SIGHUP.

    Args:
        commands: in the order in which they are stopped, which is also that of their lines in the banner.
        out: where the banner goes.
        err: where the processes' output goes, each line with its process's name.
        title: the banner's first line.
        footer: the last lines of the banner.
    """

    def __init__(
        self, commands: Sequence[Command], *, out: TextIO, err: TextIO, title: str = "", footer: str = ""
    ) -> None:
        self._children = [_Child(command) for command in commands]
        self._out = out
        self._err = err
        self._title = title
        self._footer = footer
        self._width = max((len(command.name) for command in commands), default=0)
        self._stop = asyncio.Event()
        self._failed: _Child | None = None

    async def run(self) -> int:
        """Start all, watch them, stop them; return the exit code: 0 after a signal, 1 where one could not start."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop.set)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        banner = asyncio.create_task(self._show_banner())
        try:
            await self._stop.wait()
        finally:
            await self._stop_all([banner, *keepers])
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
        if self._failed is None:
            return 0
        self._explain(self._failed)
        return 1

    async def _keep(self, child: _Child) -> None:
        """Run a child, again and again."""
        wait_s = FIRST_RESTART_S
        while not self._stop.is_set():
            code = await self._run_once(child)
            if self._stop.is_set():
                return
            if not child.was_ready.is_set():
                self._failed = self._failed or child
                self._stop.set()
                return
            if time.monotonic() - child.started_at > STEADY_S:
                wait_s = FIRST_RESTART_S
            self._say(child, f"ended ({_describe(code)}); starts again in {wait_s:.0f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_s)
            wait_s = min(wait_s * 2, LONGEST_RESTART_S)

    async def _run_once(self, child: _Child) -> int:
        ready_read, ready_write = os.pipe()
        child.tail.clear()
        child.started_at = time.monotonic()
        try:
            child.process = await asyncio.create_subprocess_exec(
                *child.command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(ready_write,),
                env=self._environment(ready_write),
                # A session of its own: Ctrl-C at the terminal reaches only the supervisor, which keeps the order.
                start_new_session=True,
            )
        except OSError as error:
            os.close(ready_read)
            child.tail.append(f"{child.command.argv[0]}: {error.strerror}")
            return 127
        finally:
            os.close(ready_write)
        assert child.process.stdout is not None  # noqa: S101  # it was asked for above
        listener = asyncio.create_task(self._listen(child, ready_read))
        output = asyncio.create_task(self._copy_output(child, child.process.stdout))
        code = await child.process.wait()
        # What the child wrote last is still in the pipe; a grandchild that holds it open is not waited for.
        await asyncio.wait([output], timeout=0.5)
        for task in (output, listener):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return code

    def _environment(self, ready_descriptor: int) -> dict[str, str]:
        environment = {**os.environ, READY_VARIABLE: str(ready_descriptor), "PYTHONUNBUFFERED": "1"}
        if self._err.isatty():
            environment.setdefault("FORCE_COLOR", "1")
        return environment

    async def _listen(self, child: _Child, descriptor: int) -> None:
        """Wait for the child's one line on the ready pipe."""
        reader = asyncio.StreamReader(limit=ANNOUNCEMENT_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
        )
        try:
            announcement = json.loads(await reader.readline() or b"{}")
            if announcement.get("ready") is True:
                child.lines = [escape_control(str(line)) for line in announcement.get("lines", [])]
                if child.was_ready.is_set():
                    self._say(child, "is back")
                child.was_ready.set()
        except (ValueError, AttributeError):
            self._say(child, "said something on the ready pipe that is not an announcement")
        finally:
            transport.close()

    async def _copy_output(self, child: _Child, stream: asyncio.StreamReader) -> None:
        """Copy the child's lines with its name before each; a line without end is cut into pieces."""
        rest = b""
        while chunk := await stream.read(LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._say(child, line.decode(errors="replace").rstrip("\r"))
        self._say(child, rest.decode(errors="replace"))

    def _say(self, child: _Child, line: str) -> None:
        if not line:
            return
        child.tail.append(line)
        del child.tail[:-TAIL_LINES]
        with contextlib.suppress(OSError, ValueError):
            print(f"{child.command.name:<{self._width}} | {line}", file=self._err, flush=True)

    async def _show_banner(self) -> None:
        everyone = asyncio.create_task(self._everyone_is_ready())
        try:
            await asyncio.wait({everyone}, timeout=IMPATIENT_S)
            if not everyone.done():
                late = ", ".join(child.command.name for child in self._children if not child.was_ready.is_set())
                print(f"still waiting for: {late}", file=self._err, flush=True)
            await everyone
        finally:
            everyone.cancel()
        lines = [line for child in self._children for line in child.lines]
        labelled = [line.partition(": ") for line in lines]
        width = max((len(label) for label, colon, _ in labelled if colon), default=0)
        body = [f"{label + ':':<{width + 1}}  {text}" if colon else label for label, colon, text in labelled]
        shown = [f"  {line}".rstrip() for line in (self._title, "", *body, "", *self._footer.splitlines())]
        rule = "=" * min(max(map(len, shown)), RULE_WIDTH)
        print("\n".join(["", rule, *shown, rule, ""]), file=self._out, flush=True)

    async def _everyone_is_ready(self) -> None:
        for child in self._children:
            await child.was_ready.wait()

    async def _stop_all(self, tasks: list[asyncio.Task[None]]) -> None:
        """Stop the children one after the other, then the tasks that watch them."""
        for child in self._children:
            await _end(child)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _explain(self, child: _Child) -> None:
        print(f"\n{child.command.name} did not start, so everything was stopped. Its last words:", file=self._err)
        for line in child.tail:
            print(f"  {line}", file=self._err)
        self._err.flush()


async def _end(child: _Child) -> None:
    process = child.process
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), GRACE_S)
    except TimeoutError:
        # The whole session of the child: what it started itself must not stay behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _describe(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
