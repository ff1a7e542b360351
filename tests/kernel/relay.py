"""Runs the tests of `guest/` in a guest, and reports each as a test of its own to the pytest that collected it.

The pytest of this machine collects the modules of `guest/` as it does any others, so that names, parameters and `-k`
work as everywhere. It runs none of them: for the first one of its kind it boots a guest with all that are wanted,
whose own pytest writes its reports, one a line, into a file that both see. They are passed on as they come.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.errors import OstiaryError
from tests.kernel.build import ensure_kernel
from tests.kernel.machine import Guest, in_time_travel

FOLDER = Path(__file__).with_name("guest")
MARK = "guest"
DEFAULT_LIMIT_S = 120.0
"""For a test without a timeout."""
GRACE_S = 5.0
"""For a guest to end by itself what took too long, and to tell where it hung, before all of it is killed."""
START_LIMIT_S = 60.0
"""For booting and importing, on top of the first test's own time."""
_REPORTS = "reports.jsonl"
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Kind:
    """Tests of one kind share a guest: what `pytest.mark.guest(...)` of their module says."""

    name: str = ""
    """Tells guests apart that are otherwise alike: two run side by side."""
    time_travel: bool = False


class GuestReporter:
    """In the guest: writes every report down at once, so that none is lost where the guest dies."""

    def __init__(self, config: pytest.Config, results: Path) -> None:
        self._config = config
        self._file = (results / _REPORTS).open("w", encoding="utf-8")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test is done."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + "\n")
        self._file.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self) -> bool | None:
        """Where time jumps, a timeout would be over at once; the host's clock still limits the test."""
        return True if in_time_travel() else None


@dataclass(slots=True)
class _Run:
    """A guest, and what it has reported so far."""

    guest: Guest
    cpu: int
    read_characters: int = 0
    reports: dict[str, list[pytest.TestReport]] = field(default_factory=dict)
    """By node id, the phases that are done."""

    def finished(self, node_id: str) -> bool:
        """Whether the last phase of this test is reported."""
        return any(report.when == "teardown" for report in self.reports.get(node_id, ()))


class HostRelay:
    """On the machine: the tests' place in the run, filled by what the guest reports."""

    def __init__(self, config: pytest.Config, folder: Path = FOLDER) -> None:
        """
        Args:
            config: of this pytest.
            folder: the tests in it run in a guest.
        """
        self._config = config
        self._folder = folder
        self._wanted: dict[Kind, list[str]] = {}
        self._limits: dict[str, float] = {}
        self._runs: dict[Kind, _Run] = {}
        self._started: set[Kind] = set()
        self._hopeless: dict[Kind, str] = {}
        """Kinds whose guest ended before any test, and why: none of them will do better."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember what each kind of guest is to run; have the kernel built before the time of any test begins."""
        for item in session.items:
            if self._runs_in_guest(item):
                self._wanted.setdefault(_kind(item), []).append(item.nodeid)
        if self._wanted and not self._config.option.collectonly:
            capture = self._config.pluginmanager.getplugin("capturemanager")
            # Where it can't be built, each test says so.
            with capture.global_and_fixture_disabled(), contextlib.suppress(OstiaryError):
                ensure_kernel()

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """The timeout is the guest's affair, and ours where the guest is stuck altogether."""
        if not self._runs_in_guest(item):
            return None
        self._limits[item.nodeid] = settings.timeout
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Report what happened to this test in its guest."""
        if not self._runs_in_guest(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._results(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_unconfigure(self) -> None:
        """End guests that still run: the run was interrupted."""
        for run in self._runs.values():
            run.guest.__exit__(None, None, None)
        self._runs.clear()

    def _runs_in_guest(self, item: pytest.Item) -> bool:
        return item.path.is_relative_to(self._folder) and item.get_closest_marker("skip") is None

    def _results(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        kind = _kind(item)
        if reason := self._hopeless.get(kind):
            yield _failure(item, reason)
            return
        limit_s = self._limits.get(item.nodeid, DEFAULT_LIMIT_S) + GRACE_S
        run = self._runs.get(kind) or self._start(kind, item.nodeid)
        if not run.reports:
            limit_s += START_LIMIT_S
        deadline = time.monotonic() + limit_s
        while not run.finished(item.nodeid) and run.guest.running and time.monotonic() < deadline:
            self._start_more()
            time.sleep(_POLL_S)
            self._read(run)
        self._read(run)
        yield from run.reports.get(item.nodeid, ())
        if not run.finished(item.nodeid):
            what = "ended" if not run.guest.running else f"was killed after {limit_s:g} s"
            reason = f"The guest {what} before this test did. It printed:\n{run.guest.console()}"
            if not run.reports:
                self._hopeless[kind] = reason
            self._end(kind)
            yield _failure(item, reason)
        elif item.nodeid == self._wanted[kind][-1]:
            self._end(kind)

    def _start_more(self) -> None:
        """Boot guests of kinds whose turn comes later, while there is a CPU for each."""
        for kind, wanted in self._wanted.items():
            if kind not in self._started and self._guests_by_cpu()[0][0] == 0:
                self._start(kind, wanted[0])

    def _start(self, kind: Kind, first: str) -> _Run:
        """Boot a guest for this test and those of its kind that come after it."""
        self._started.add(kind)
        wanted = self._wanted[kind]
        root = self._config.rootpath
        options = ["-q", "-p", "no:cacheprovider", f"--rootdir={root}", "-c", str(self._config.inipath)]
        tests = [str(root / node_id) for node_id in wanted[wanted.index(first) :]]
        _, cpu = self._guests_by_cpu()[0]
        guest = Guest(
            [sys.executable, "-P", "-m", "pytest", *options, *tests],
            time_travel=kind.time_travel,
            shown=[root],
            cpu=cpu,
        )
        guest.__enter__()
        run = self._runs[kind] = _Run(guest, cpu)
        return run

    def _guests_by_cpu(self) -> list[tuple[int, int]]:
        """How many guests run on each CPU, and which one it is; the idlest first."""
        taken = [run.cpu for run in self._runs.values() if run.guest.running]
        return sorted((taken.count(cpu), cpu) for cpu in os.sched_getaffinity(0))

    def _read(self, run: _Run) -> None:
        file = run.guest.results / _REPORTS
        if not file.exists():
            return
        with file.open(encoding="utf-8") as lines:
            lines.seek(run.read_characters)
            while (line := lines.readline()).endswith("\n"):
                run.read_characters = lines.tell()
                report = self._config.hook.pytest_report_from_serializable(config=self._config, data=json.loads(line))
                if isinstance(report.longrepr, list):  # a skipped test's place and reason; JSON has no tuples
                    report.longrepr = tuple(report.longrepr)
                run.reports.setdefault(report.nodeid, []).append(report)

    def _end(self, kind: Kind) -> None:
        self._runs.pop(kind).guest.__exit__(None, None, None)


def _kind(item: pytest.Item) -> Kind:
    mark = item.get_closest_marker(MARK)
    return Kind(**mark.kwargs) if mark else Kind()


def _failure(item: pytest.Item, reason: str) -> pytest.TestReport:
    return pytest.TestReport(
        item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", reason, "call", duration=0.0
    )
