"""Boots the test kernel and runs one command in it.

The guest's root is this machine's, read-only, so that the checkout and everything installed are there; one folder is
written through, and what the command leaves in it is all that comes back. Root in the guest is root of this machine
to the files that it may write, so it may write no others.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kernel.build import ensure_kernel
from tests.lab.cache import CACHE_VARIABLE, cache_directory
from tests.lab.processes import LabError, Process, process_tree

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS_VARIABLE = "GUEST_RESULTS"
TIME_TRAVEL_VARIABLE = "GUEST_TIME_TRAVEL"
MEMORY_BYTES = 1 << 30
_INIT = Path(__file__).with_name("init")
_SHARED_MEMORY = Path("/dev/shm")
_KILL_TIMEOUT_S = 10.0
_numbers = itertools.count()
_turns = itertools.count(os.getpid())

# The guest's processes are processes of this machine which the kernel's traces. Were it killed alone, they would run
# on, their system calls no longer caught: so all are in a PID namespace of their own, and end with its process 1, the
# shell, at the same instant.
_CONTAINED = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--", "sh", "-c", '"$@"; exit $?', "sh")


class Guest:
    """One run of the kernel with one command: `with Guest(command) as guest: guest.wait(60)`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        time_travel: bool = False,
        memory_bytes: int = MEMORY_BYTES,
        shown: Sequence[Path] = (),
        cpu: int | None = None,
    ) -> None:
        """
        Args:
            command: run as root, in the folder of the checkout.
            environment: for the command, beside a small one of the guest's own.
            time_travel: the guest's clock jumps ahead whenever all of its processes wait. For lifetimes, not for
                latencies; whatever polls makes it slow.
            memory_bytes: of the guest.
            shown: folders below `/tmp` or `/run` that the command needs; the guest's own are empty.
            cpu: the one on which it runs; the guests of a process take turns where it is not given.
        """
        self._command = tuple(command)
        self._environment = {CACHE_VARIABLE: str(cache_directory()), **(environment or {})}
        self._time_travel = time_travel
        self._memory_bytes = memory_bytes
        self._shown = {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), cache_directory(), *shown}
        self._cpu = _next_cpu() if cpu is None else cpu
        self._stack = contextlib.ExitStack()
        self._process: Process | None = None
        self.results = Path()
        """The folder that is written through, empty at first; the same path on both sides."""

    def __enter__(self) -> Self:
        kernel = ensure_kernel()
        self.results = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ost-guest-")))
        try:
            self._boot(kernel)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.kill()
        finally:
            self._stack.close()

    @property
    def running(self) -> bool:
        """Whether it is not switched off yet."""
        return self._started.returncode is None

    @property
    def pid(self) -> int:
        """The process on this machine in which all of the guest is contained."""
        return self._started.pid

    @property
    def status(self) -> int | None:
        """The exit status of the command; None where it has not ended, or the guest died before it did."""
        file = self.results / "status"
        return int(file.read_text(encoding="ascii")) if file.exists() else None

    def wait(self, timeout_s: float) -> int:
        """Wait until the guest is switched off; the exit status of its command.

        Raises:
            LabError: it is not in time, and was killed; or it died before the command ended. The message ends with
                what the guest printed last.
        """
        try:
            ended = self._started.wait(timeout_s)
        except LabError:
            self.kill()
            raise LabError(
                f"the guest was not done after {timeout_s:g} s, and was killed\n{self.console()}"
            ) from None
        status = self.status
        if status is None:
            raise LabError(f"the guest ended (with {ended}) before its command did\n{self.console()}")
        return status

    def kill(self) -> None:
        """End it at once, with all its processes."""
        if self._process is None or self._process.returncode is not None:
            return
        # Process 1 of the namespace takes all others along and is gone after them; `unshare` then ends by itself.
        unshare, *contained = process_tree(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(contained[0] if contained else unshare, signal.SIGKILL)
        self._process.wait(_KILL_TIMEOUT_S)

    def console(self, characters: int = 8000) -> str:
        """The end of what kernel and command printed."""
        return self._started.log()[-characters:]

    @property
    def _started(self) -> Process:
        if self._process is None:
            raise LabError("the guest was not started")
        return self._process

    def _boot(self, kernel: Path) -> None:
        script = [f"cd {shlex.quote(str(CHECKOUT))}"]
        script += [f"export {name}={shlex.quote(value)}" for name, value in self._environment.items()]
        script.append(f"exec {shlex.join(self._command)}")
        (self.results / "command.sh").write_text("\n".join(script) + "\n", encoding="utf-8")
        arguments = [
            f"mem={self._memory_bytes}",
            f"umid=ostiary-{os.getpid()}-{next(_numbers)}",
            f"uml_dir={self.results}",
            *("root=machine", "rootfstype=hostfs", "rootflags=/", "ro", f"init={_INIT}"),
            *("con=null", "con0=fd:0,fd:1", "ssl=null", "quiet"),
            f"{RESULTS_VARIABLE}={self.results}",
            f"GUEST_SHOWN={':'.join(sorted(str(path) for path in self._shown if _is_hidden(path)))}",
        ]
        if self._time_travel:
            arguments += ["time-travel", f"{TIME_TRAVEL_VARIABLE}=1"]
        self._process = Process(
            # On one CPU: kernel and process hand over to each other at each system call, twice as fast on the same.
            [*_CONTAINED, "taskset", "--cpu-list", str(self._cpu), str(kernel), *arguments],
            log_file=self.results / "console.log",
            env={"PATH": os.environ["PATH"], "TMPDIR": str(self._memory_folder())},
        )

    def _memory_folder(self) -> Path:
        """Where the guest's memory lies as a file; containers often have little shared memory."""
        with contextlib.suppress(OSError):
            if shutil.disk_usage(_SHARED_MEMORY).free > self._memory_bytes:
                return _SHARED_MEMORY
        return self.results


def in_guest() -> bool:
    """Whether this process runs in a guest."""
    return RESULTS_VARIABLE in os.environ


def in_time_travel() -> bool:
    """Whether this process runs in a guest whose clock jumps."""
    return TIME_TRAVEL_VARIABLE in os.environ


def _is_hidden(path: Path) -> bool:
    """Whether the guest has memory of its own there."""
    return path.is_relative_to("/tmp") or path.is_relative_to("/run")


def _next_cpu() -> int:
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[next(_turns) % len(cpus)]
