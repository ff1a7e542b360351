"""Debian's strongSwan as a peer: a charon of its own in a namespace, driven by swanctl."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.lab.namespaces import Namespace
from tests.lab.processes import LabError, Process, wait_for
from tests.lab.strongswan_config import (
    CHILD,
    CONNECTION,
    ClientConfig,
    GatewayConfig,
    client_conf,
    gateway_conf,
    strongswan_conf,
    vici_uri,
)
from tests.lab.vici_text import RawSection, parse_raw

CHARON = "/usr/lib/ipsec/charon"
READY_TIMEOUT_S = 10.0
# The daemon writes its pid to a fixed path under /run; `ip netns exec` has given it mounts of its own already.
_WITH_PRIVATE_RUN = ("sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$0" "$@"')


@dataclass(frozen=True, slots=True)
class SaView:
    """One IKE SA with its first child, as `swanctl --list-sas` tells it."""

    spis: str
    """Of the IKE SA: initiator's and responder's; others after a rekeying."""
    state: str
    remote_address: str
    virtual_addresses: tuple[str, ...]
    ike_suite: str
    child_spi_in: str
    """Of the client's inbound SA; another after a rekeying."""
    child_count: int
    """How many there are, those that are being replaced included, those that were deleted not."""
    child_state: str
    esp_suite: str
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    remote_selectors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InitiateResult:
    """How an attempt to connect went."""

    ok: bool
    output: str
    """What swanctl printed: the daemon's log of this attempt."""
    elapsed_s: float

    @property
    def virtual_ipv4(self) -> str:
        """The address that the gateway gave."""
        return self._virtual_address(r"[0-9.]+")

    @property
    def virtual_ipv6(self) -> str:
        """The IPv6 address that the gateway gave."""
        return self._virtual_address(r"[0-9a-f]*:[0-9a-f:]+")

    def _virtual_address(self, pattern: str) -> str:
        found = re.search(rf"installing new virtual IP ({pattern})\n", self.output)
        if not found:
            raise LabError(f"the gateway gave no virtual address:\n{self.output}")
        return found[1]


class StrongSwan:
    """A running charon."""

    def __init__(self, namespace: Namespace, config: ClientConfig | GatewayConfig, directory: Path) -> None:
        self.namespace = namespace
        self.config = config
        self.directory = directory
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> Process:
        """The daemon's process.

        Raises:
            LabError: it was not started.
        """
        if self._process is None:
            raise LabError("charon was not started")
        return self._process

    def start(self) -> None:
        """Write the configuration, start the daemon and load it all.

        Raises:
            LabError: it did not come up; the message holds its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._log_file.unlink(missing_ok=True)
        Path(vici_uri(self.directory).removeprefix("unix://")).unlink(missing_ok=True)
        settings = self.directory / "strongswan.conf"
        settings.write_text(strongswan_conf(self.directory, config=self.config), encoding="utf-8")
        if isinstance(self.config, ClientConfig):
            text = client_conf(self.directory, self.config)
        else:
            text = gateway_conf(self.directory, self.config)
        (self.directory / "swanctl.conf").write_text(text, encoding="utf-8")
        self._process = self.namespace.start(
            *_WITH_PRIVATE_RUN, CHARON, log_file=self.directory / "output.log", env=self._environment()
        )
        wait_for(self._listens, READY_TIMEOUT_S, f"charon in {self.namespace.name}")
        loaded = self._swanctl("--load-all", "--noprompt", "--file", str(self.directory / "swanctl.conf"))
        if loaded.returncode != 0:
            raise LabError(f"swanctl --load-all failed:\n{loaded.stdout}\n{self.log()}")

    def stop(self) -> None:
        """Stop in order: the daemon sends its Deletes first."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: the gateway hears nothing of it."""
        self.process.kill()

    def log(self) -> str:
        """The daemon's log so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace") if self._log_file.exists() else ""

    def wait_for_log(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Wait until the log holds the regular expression."""
        return wait_for(lambda: re.search(pattern, self.log()), timeout_s, f"{pattern!r} in charon's log")

    def wait_until_told(self, message: str, timeout_s: float) -> float:
        """Wait until a log line holds `message`; when that was, in seconds since 1970."""
        return float(self.wait_for_log(rf"(\d+\.\d{{3}}) .*{re.escape(message)}", timeout_s)[1])

    def list_sas(self) -> list[SaView]:
        """The IKE SAs now."""
        result = self._swanctl("--list-sas", "--raw")
        if result.returncode != 0:
            raise LabError(f"swanctl --list-sas failed:\n{result.stdout}")
        return [
            _sa_view(body)
            for event, content in parse_raw(result.stdout)
            if event == "list-sa event"
            for body in content.values()
            if isinstance(body, dict)
        ]

    def _swanctl(self, *arguments: str, timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
        command = ["swanctl", arguments[0], "--uri", vici_uri(self.directory), *arguments[1:]]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment(),
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{' '.join(command)}: not finished after {timeout_s:g} s\n{self.log()}") from None

    @property
    def _log_file(self) -> Path:
        return self.directory / "charon.log"

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "STRONGSWAN_CONF": str(self.directory / "strongswan.conf"),
            "SWANCTL_DIR": str(self.directory),
        }

    def _listens(self) -> bool:
        if self.process.returncode is not None:
            raise LabError(f"charon ended with status {self.process.returncode}:\n{self.process.log()}\n{self.log()}")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.directory / "charon.vici")) == 0


class StrongSwanGateway(StrongSwan):
    """strongSwan as the gateway: the yardstick of the benchmarks."""

    def __init__(self, namespace: Namespace, config: GatewayConfig, directory: Path) -> None:
        super().__init__(namespace, config, directory)


class StrongSwanClient(StrongSwan):
    """strongSwan as the client."""

    def __init__(self, namespace: Namespace, config: ClientConfig, directory: Path) -> None:
        super().__init__(namespace, config, directory)

    def initiate(self, timeout_s: float = 15.0, *, child: str = CHILD) -> InitiateResult:
        """Connect, or begin a child SA of an IKE SA that is up; a refusal is a result, not an error."""
        started = time.monotonic()
        result = self._swanctl(
            "--initiate", "--child", child, "--timeout", str(int(timeout_s)), timeout_s=timeout_s + 5
        )
        return InitiateResult(result.returncode == 0, result.stdout, time.monotonic() - started)

    def connect(self, timeout_s: float = 15.0, *, child: str = CHILD) -> InitiateResult:
        """The same, where it has to succeed.

        Raises:
            LabError: the gateway refused or did not answer; the message holds the client's log.
        """
        result = self.initiate(timeout_s, child=child)
        if not result.ok:
            raise LabError(f"no connection:\n{result.output}")
        return result

    def rekey_child(self, timeout_s: float = 10.0) -> SaView:
        """Have the client rekey its child SA, and wait until the old one is gone; what is then.

        Raises:
            LabError: it is not done in time.
        """
        return self._rekey("--child", CHILD, lambda sa: sa.child_spi_in, timeout_s)

    def rekey_ike(self, timeout_s: float = 10.0) -> SaView:
        """Have the client rekey its IKE SA, and wait until the old one is gone; what is then.

        Raises:
            LabError: it is not done in time.
        """
        return self._rekey("--ike", CONNECTION, lambda sa: sa.spis, timeout_s)

    def begin_rekeying(self, what: Literal["child", "ike"]) -> None:
        """Have the client begin to rekey, and wait for nothing."""
        self._swanctl("--rekey", f"--{what}", {"child": CHILD, "ike": CONNECTION}[what])

    def _rekey(self, option: str, name: str, identity: Callable[[SaView], str], timeout_s: float) -> SaView:
        [before] = self.list_sas()
        self._swanctl("--rekey", option, name)

        def renewed() -> SaView | None:
            sas = self.list_sas()
            if len(sas) != 1 or sas[0].child_count != 1 or identity(sas[0]) == identity(before):
                return None
            return sas[0]

        return wait_for(renewed, timeout_s, f"{name}, rekeyed by the client\n{self.log()[-4000:]}", interval_s=0.05)

    def terminate_child(self, timeout_s: float = 10.0, *, child: str = CHILD) -> str:
        """Delete the child SA and keep the IKE SA; what swanctl printed."""
        return self._swanctl(
            "--terminate", "--child", child, "--timeout", str(int(timeout_s)), timeout_s=timeout_s + 5
        ).stdout

    def terminate(self, timeout_s: float = 10.0) -> str:
        """Disconnect with a Delete; what swanctl printed."""
        return self._swanctl(
            "--terminate", "--ike", CONNECTION, "--timeout", str(int(timeout_s)), timeout_s=timeout_s + 5
        ).stdout


def _sa_view(body: RawSection) -> SaView:
    section = body.get("child-sas")
    children = [
        child
        for child in (section.values() if isinstance(section, dict) else ())
        # What was deleted after a rekeying still receives for some seconds.
        if isinstance(child, dict) and child.get("state") != "DELETED"
    ]
    first: RawSection = children[0] if children else {}
    return SaView(
        spis=f"{_text(body, 'initiator-spi')}/{_text(body, 'responder-spi')}",
        state=_text(body, "state"),
        remote_address=f"{_text(body, 'remote-host')}:{_text(body, 'remote-port')}",
        virtual_addresses=_list(body, "local-vips"),
        ike_suite=_suite(body),
        child_spi_in=_text(first, "spi-in"),
        child_count=len(children),
        child_state=_text(first, "state"),
        esp_suite=_suite(first),
        packets_in=int(_text(first, "packets-in") or 0),
        packets_out=int(_text(first, "packets-out") or 0),
        bytes_in=int(_text(first, "bytes-in") or 0),
        bytes_out=int(_text(first, "bytes-out") or 0),
        remote_selectors=_list(first, "remote-ts"),
    )


def _text(section: RawSection, key: str) -> str:
    value = section.get(key, "")
    return value if isinstance(value, str) else ""


def _list(section: RawSection, key: str) -> tuple[str, ...]:
    value = section.get(key, [])
    return tuple(value) if isinstance(value, list) else ()


def _suite(section: RawSection) -> str:
    keys = ("encr-alg", "encr-keysize", "integ-alg", "prf-alg", "dh-group", "esn")
    return "/".join(text for key in keys if (text := _text(section, key)))
