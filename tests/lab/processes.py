"""Processes of the lab: output in a file, every wait bounded, ended for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""A test run that is killed takes its daemons along."""


class LabError(Exception):
    """The lab can't be built, or something in it did not happen in time."""


def wait_for(probe: Callable[[], T | None], timeout_s: float, what: str, interval_s: float = 0.02) -> T:
    """Call `probe` until it returns something other than None or False.

    Raises:
        LabError: it did not within `timeout_s`; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(interval_s)


class Process:
    """A child process whose output goes to `log_file`.

    Only the thread that started it may be the one that outlives it: the kernel ends it when that thread ends.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.command = tuple(command)
        self.log_file = log_file
        with log_file.open("ab") as output:
            self._popen = subprocess.Popen(
                [*_DIE_WITH_PARENT, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, None while it runs; negative is the signal that ended it."""
        return self._popen.poll()

    def log(self) -> str:
        """Everything written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where the process is gone already."""
        if self.returncode is None:
            self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """The exit status.

        Raises:
            LabError: it still runs after `timeout_s`.
        """
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.command[0]} (pid {self.pid}) still runs after {timeout_s:g} s") from None

    def stop(self, timeout_s: float = 5.0) -> int:
        """SIGTERM, and SIGKILL to its whole session where that is not enough; the exit status."""
        self.send(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except LabError:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, to it and to the children that stayed in its session."""
        for pid in process_tree(self.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return self.wait(5.0)

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of the process and all its descendants so far."""
        return sum(_cpu_s(pid) for pid in process_tree(self.pid))


def process_tree(root: int) -> list[int]:
    """`root` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat_fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _stat_fields(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` from the third on (state, parent, ...); none where the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    fields = _stat_fields(pid)
    # utime, stime, and the same of children that were waited for.
    return sum(int(field) for field in fields[11:15]) / CLOCK_TICKS_PER_S if fields else 0.0
