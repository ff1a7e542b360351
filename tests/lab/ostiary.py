"""The product under test: its processes in a namespace, its state in a directory of the lab."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import select as sql_select

from aaa.models import TunnelSession
from core.audit import AuditEvent, verify_chain
from core.runtime import Runtime
from core.settings import load_settings
from tests.lab.namespaces import Namespace
from tests.lab.processes import LabError, Process, wait_for
from tests.lab.topology import GATEWAY_IPV4, GATEWAY_IPV6, INSIDE_NETWORKS

Part = Literal["gateway", "radius", "web", "worker", "up"]
TomlValue = str | int | float | bool | Sequence["TomlValue"] | Mapping[str, "TomlValue"]

EXECUTABLE = Path(sys.executable).with_name("ostiary")
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
POOL = {"name": "staff", "ipv4": "10.99.0.0/24", "ipv6": "fd99::/112"}
DNS = "10.1.0.53"
_BANNER = re.compile(r"^=+\n(.*?)\n=+$", re.DOTALL | re.MULTILINE)

_DEFAULTS: dict[str, dict[str, TomlValue]] = {
    "log": {"level": "info", "format": "json"},
    "gateway": {
        "public_addresses": [GATEWAY_IPV4, GATEWAY_IPV6],
        "networks": list(INSIDE_NETWORKS),
        "pools": [POOL],
        "dns": [DNS],
    },
    "aaa": {"interim_interval_s": 1.0, "sign_in_failures_per_minute": 1000},
    "pki": {"gateway_key_type": "ecdsa-p256"},
}


class Ostiary:
    """A deployment: `with Ostiary(namespace, directory) as ostiary` runs its gateway, and the parts asked for."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        *,
        settings: Mapping[str, Mapping[str, TomlValue]] | None = None,
        parts: Sequence[Part] = ("gateway",),
    ) -> None:
        """
        Args:
            namespace: where its processes run.
            directory: for configuration, state and logs; kept between two starts.
            settings: over the lab's own, by section and key.
            parts: the processes, `up` alone for all of them under the supervisor.
        """
        self.namespace = namespace
        self.directory = directory
        self.parts = tuple(parts)
        directory.mkdir(parents=True, exist_ok=True)
        self.config_file = directory / "ostiary.toml"
        sections = {name: {**_DEFAULTS.get(name, {}), **(settings or {}).get(name, {})} for name in _DEFAULTS}
        sections |= {name: dict(values) for name, values in (settings or {}).items() if name not in sections}
        self.config_file.write_text(_toml(directory / "state", sections), encoding="utf-8")
        self.settings = load_settings(self.config_file)
        self.runtime = Runtime.open(self.settings)
        self.ready_lines: dict[Part, list[str]] = {}
        self._processes: dict[Part, Process] = {}
        self._before: dict[str, set[str]] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            self.runtime.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.stop()
            else:
                self.kill()
        finally:
            self.runtime.close()

    def start(self) -> None:
        """Start the parts and wait until each one says that it is ready.

        Raises:
            LabError: one did not; the message holds its log.
        """
        self._before = self._traces()
        for part in self.parts:
            self._start(part)

    def stop(self) -> None:
        """SIGTERM to each part, last one first.

        Raises:
            LabError: one failed, hung, or left a device, a route or a process behind.
        """
        for part, process in reversed(self._processes.items()):
            if process.returncode is None:
                status = process.stop(STOP_TIMEOUT_S)
                if status != 0:
                    raise LabError(f"ostiary {part} ended with status {status}:\n{process.log()[-8000:]}")
        self._processes.clear()
        after = self._traces()
        for what, before in self._before.items():
            if left := after[what] - before:
                raise LabError(f"ostiary left {what} behind: {left}")

    def kill(self) -> None:
        """SIGKILL to every part."""
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
        self._processes.clear()

    def process(self, part: Part = "gateway") -> Process:
        """The running process of a part."""
        return self._processes[part]

    def log(self, part: Part | None = None) -> str:
        """What the parts, or one of them, wrote so far."""
        parts = [part] if part else list(self.parts)
        return "\n".join(
            file.read_text(encoding="utf-8", errors="replace")
            for name in parts
            if (file := self._log_file(name)).exists()
        )

    def command(self, *arguments: str, timeout_s: float = 30.0, stdin: str | None = None) -> str:
        """Run `ostiary ARGUMENTS` in the namespace; its standard output.

        Raises:
            LabError: it failed; the message holds what it printed.
        """
        result = subprocess.run(
            self.namespace.inside(str(EXECUTABLE), *arguments),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self._environment(),
            check=False,
        )
        if result.returncode != 0:
            raise LabError(
                f"ostiary {' '.join(arguments)}: exit status {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result.stdout

    def command_json(self, *arguments: str, timeout_s: float = 30.0) -> Any:
        """Run `ostiary ARGUMENTS --json`; what it printed, parsed."""
        return json.loads(self.command(*arguments, "--json", timeout_s=timeout_s))

    def sessions(self, *, live: bool | None = None) -> list[TunnelSession]:
        """The accounting records, oldest first; only live or only ended ones where `live` is given."""
        with self.runtime.database.reading() as session:
            rows = list(session.scalars(sql_select(TunnelSession).order_by(TunnelSession.started_at)))
        return [row for row in rows if live is None or (row.ended_at is None) == live]

    def wait_for_session(
        self, condition: Callable[[TunnelSession], bool], what: str, timeout_s: float = 10.0
    ) -> TunnelSession:
        """Wait for an accounting record of which `condition` holds; the newest of them."""
        return wait_for(
            lambda: next((row for row in reversed(self.sessions()) if condition(row)), None),
            timeout_s,
            f"a session {what}; there are {[_describe(row) for row in self.sessions()]}",
            interval_s=0.05,
        )

    def live_session(self, device_id: str) -> TunnelSession:
        """The session of this device that is up now; its record may come a moment after the tunnel."""
        return self.wait_for_session(
            lambda row: row.device_id == device_id and row.ended_at is None, f"of device {device_id} that is up"
        )

    def audit_mark(self) -> int:
        """The id of the newest audit event, for `audit_since`."""
        return max((event.id for event in self.audit_since(0)), default=0)

    def audit_since(self, mark: int) -> list[AuditEvent]:
        """The audit events after `mark`, oldest first."""
        with self.runtime.database.reading() as session:
            return list(session.scalars(sql_select(AuditEvent).where(AuditEvent.id > mark).order_by(AuditEvent.id)))

    def wait_for_audit(
        self, mark: int, condition: Callable[[AuditEvent], bool], what: str, timeout_s: float = 10.0
    ) -> AuditEvent:
        """Wait for an audit event after `mark` of which `condition` holds."""
        try:
            return wait_for(
                lambda: next((event for event in self.audit_since(mark) if condition(event)), None),
                timeout_s,
                f"an audit event {what}",
                interval_s=0.05,
            )
        except LabError as error:
            seen = [
                f"{event.action} {event.outcome} {event.reason} {event.detail}" for event in self.audit_since(mark)
            ]
            raise LabError(f"{error}; there are {seen}") from None

    def verify_audit_chain(self) -> int:
        """Check the hash chain of the audit log; how many events it has."""
        with self.runtime.database.reading() as session:
            return verify_chain(session)

    def _start(self, part: Part) -> None:
        if part == "up":
            self._start_all()
        else:
            self._start_one(part)

    def _start_all(self) -> None:
        """The supervisor tells a person, not a program, when all is ready."""
        process = self.namespace.start(str(EXECUTABLE), "up", log_file=self._log_file("up"), env=self._environment())
        self._processes["up"] = process

        def banner() -> list[str] | None:
            log = process.log()
            if process.returncode is not None:
                raise LabError(f"ostiary up ended:\n{log[-8000:]}")
            found = _BANNER.search(log)
            return [line.strip() for line in found[1].splitlines() if line.strip()] if found else None

        self.ready_lines["up"] = wait_for(banner, READY_TIMEOUT_S, "the banner of ostiary up", interval_s=0.05)

    def _start_one(self, part: Part) -> None:
        receive, send = os.pipe()
        try:
            process = self.namespace.start(
                str(EXECUTABLE),
                part,
                log_file=self._log_file(part),
                env={**self._environment(), "OSTIARY_READY_FD": str(send)},
                pass_fds=(send,),
            )
            self._processes[part] = process
            os.close(send)
            send = -1
            self.ready_lines[part] = self._wait_until_ready(part, process, receive)
        finally:
            os.close(receive)
            if send >= 0:
                os.close(send)

    def _wait_until_ready(self, part: Part, process: Process, descriptor: int) -> list[str]:
        received = b""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not received.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 65536) if readable else b""
            if not chunk:
                state = "ended without a word" if readable else "is not ready in time"
                raise LabError(f"ostiary {part} {state}:\n{process.log()[-8000:]}")
            received += chunk
        return [str(line) for line in json.loads(received)["lines"]]

    def _traces(self) -> dict[str, set[str]]:
        """What a stopped gateway must not leave in the namespace."""
        return {
            "links": self.namespace.links(),
            "routes": self.namespace.routes(),
            "processes": {str(pid) for pid in self.namespace.pids()},
        }

    def _log_file(self, part: Part) -> Path:
        return self.directory / f"{part}.log"

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "OSTIARY_CONFIG": str(self.config_file), "NO_COLOR": "1"}


def _describe(row: TunnelSession) -> str:
    return f"{row.device_name} {row.method} in={row.packets_in} out={row.packets_out} ended={row.terminate_cause!r}"


def _toml(state_dir: Path, sections: Mapping[str, Mapping[str, TomlValue]]) -> str:
    lines = [f"state_dir = {_toml_value(str(state_dir))}"]
    for name, values in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: TomlValue) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str | bool | int | float):
        # JSON's strings, numbers and booleans are TOML's too.
        return json.dumps(value)
    return "[" + ", ".join(_toml_value(item) for item in value) + "]"
