"""Network namespaces: links, addresses, a NAT between, processes inside, all removed at the end.

Every name starts with `ost-<pid>-`, so that parallel runs never meet, and what a killed run left behind is removed
by the next one, which sees that the process of that number is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.lab.processes import LabError, Process

PREFIX = "ost"
_OURS = re.compile(rf"^{PREFIX}-(\d+)-\d+-")
_NAMESPACES = Path("/run/netns")
_lab_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def run(command: Sequence[str], *, timeout_s: float = 15.0, check: bool = True, stdin: str | None = None) -> str:
    """Run a command to its end; standard output and error together.

    Raises:
        LabError: it failed (unless `check` is off) or took longer than `timeout_s`.
    """
    try:
        result = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)}: not finished after {timeout_s:g} s") from None
    if check and result.returncode != 0:
        raise LabError(f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}")
    return result.stdout


class Namespace:
    """One network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._processes: list[Process] = []

    def __repr__(self) -> str:
        return f"Namespace({self.name})"

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` in here; it also gets mounts of its own."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, timeout_s: float = 15.0, check: bool = True, stdin: str | None = None) -> str:
        """Run a command in here to its end; see `run`."""
        return run(self.inside(*command), timeout_s=timeout_s, check=check, stdin=stdin)

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in a thread whose network is this namespace; sockets that it makes stay in here."""
        with ThreadPoolExecutor(1, initializer=self._enter) as thread:
            return thread.submit(function).result()

    def ip(self, *arguments: str, check: bool = True) -> str:
        """`ip` in here."""
        return run(["ip", "-n", self.name, *arguments], check=check)

    def start(
        self,
        *command: str,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """Start a process in here; it is ended with the lab at the latest."""
        process = Process(self.inside(*command), log_file=log_file, env=env, pass_fds=pass_fds)
        self._processes.append(process)
        return process

    def sysctl(self, **values: int) -> None:
        """Set keys of this namespace, dots written as double underscores (`net__ipv4__ip_forward=1`)."""
        self.run("sysctl", "-q", *(f"{key.replace('__', '.')}={value}" for key, value in values.items()))

    def nft(self, rules: str) -> None:
        """Load nftables rules."""
        self.run("nft", "-f", "-", stdin=rules)

    def links(self) -> set[str]:
        """The names of the network devices, without `lo`."""
        return {line.split()[0].partition("@")[0] for line in self.ip("-br", "link").splitlines()} - {"lo"}

    def ping(self, address: str, *, count: int = 1, size_bytes: int = 56, wait_s: int = 2) -> int:
        """How many of `count` echo requests were answered."""
        text = self.run(
            *("ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", str(wait_s), "-s", str(size_bytes), address),
            timeout_s=wait_s + count + 5,
            check=False,
        )
        found = re.search(r"(\d+) received", text)
        return int(found[1]) if found else 0

    def pids(self) -> list[int]:
        """The processes in here."""
        return [int(pid) for pid in run(["ip", "netns", "pids", self.name]).split()]

    def routes(self) -> set[str]:
        """All routes, of all tables, IPv4 and IPv6."""
        return {
            line.strip()
            for family in ("-4", "-6")
            for line in self.ip(family, "route", "show", "table", "all").splitlines()
        }

    def _enter(self) -> None:
        with (_NAMESPACES / self.name).open("rb") as handle:
            if _libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                raise LabError(f"setns {self.name}: {os.strerror(ctypes.get_errno())}")

    def close(self) -> None:
        """End what runs in here and remove the namespace."""
        for process in reversed(self._processes):
            process.stop()
        _remove(self.name)


class Lab:
    """Namespaces and a scratch directory that are gone when the `with` block ends."""

    def __init__(self) -> None:
        self._prefix = f"{PREFIX}-{os.getpid()}-{next(_lab_numbers)}-"
        self._stack = contextlib.ExitStack()
        self.directory = Path()
        """For configurations and logs; on a short path, since unix sockets have little room."""

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise LabError("network namespaces need root")
        remove_stale()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=self._prefix)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def namespace(self, label: str, *, forwarding: bool = False) -> Namespace:
        """A new namespace with its loopback up.

        Args:
            label: short, unique in this lab.
            forwarding: route packets between its links.
        """
        name = self._prefix + label
        run(["ip", "netns", "add", name])
        namespace = Namespace(name)
        self._stack.callback(namespace.close)
        namespace.ip("link", "set", "lo", "up")
        # Duplicate address detection would make each IPv6 address wait for a second.
        namespace.sysctl(net__ipv6__conf__default__accept_dad=0, net__ipv6__conf__all__accept_dad=0)
        if forwarding:
            namespace.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        return namespace


def link(
    first: Namespace,
    second: Namespace,
    *,
    names: tuple[str, str],
    first_addresses: Sequence[str] = (),
    second_addresses: Sequence[str] = (),
    mtu_bytes: int = 1500,
) -> None:
    """Lay a virtual cable between two namespaces.

    Args:
        first, second: the two ends.
        names: of the network device at each end.
        first_addresses, second_addresses: with prefix length, IPv4 and IPv6.
        mtu_bytes: of both ends.
    """
    near = ["name", names[0], "mtu", str(mtu_bytes), "netns", first.name]
    far = ["name", names[1], "mtu", str(mtu_bytes), "netns", second.name]
    run(["ip", "link", "add", *near, "type", "veth", "peer", *far])
    for namespace, device, addresses in ((first, names[0], first_addresses), (second, names[1], second_addresses)):
        for address in addresses:
            namespace.ip("address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        namespace.ip("link", "set", device, "up")


def default_route(namespace: Namespace, *gateways: str) -> None:
    """Send everything else to these routers (one IPv4, one IPv6)."""
    for gateway in gateways:
        namespace.ip("-6" if ":" in gateway else "-4", "route", "add", "default", "via", gateway)


def masquerade(router: Namespace, outside: str) -> None:
    """Source NAT of all that leaves by the device `outside`, by nftables.

    Ports are rewritten at random: a gateway that trusts source port 500 or 4500 would fail here.
    """
    router.nft(
        f"""
        table ip nat {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                oifname "{outside}" masquerade random,fully-random
            }}
        }}
        """
    )


def drop_ip_fragments(router: Namespace) -> None:
    """Forward no IPv4 or IPv6 fragment, as many home routers and mobile networks do."""
    router.nft(
        """
        table inet fragments {
            chain arriving {
                type filter hook prerouting priority -450
                ip frag-off & 0x3fff != 0 counter drop
                exthdr frag exists counter drop
            }
        }
        """
    )


def remove_stale() -> None:
    """Remove the namespaces of runs whose process is gone, with what still runs in them."""
    if not _NAMESPACES.is_dir():
        return
    for entry in _NAMESPACES.iterdir():
        found = _OURS.match(entry.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            _remove(entry.name)


def _remove(name: str) -> None:
    for pid in run(["ip", "netns", "pids", name], check=False).split():
        with contextlib.suppress(ProcessLookupError, ValueError):  # ended in the meantime, or an error message
            os.kill(int(pid), signal.SIGKILL)
    run(["ip", "netns", "delete", name], check=False)
