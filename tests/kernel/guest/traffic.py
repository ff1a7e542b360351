"""What went through a tunnel, as the kernel's own counters tell it: a ping alone may have gone around."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aaa.models import TunnelSession
from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary
from tests.lab.processes import LabError, Process, wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.xfrm import KernelSa, kernel_sas

QUIET_INTERVAL_S = 0.3
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")


@dataclass(frozen=True, slots=True)
class Carried:
    """Inner packets and bytes of one client; in is from the client."""

    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int

    def __sub__(self, earlier: Carried) -> Carried:
        return Carried(
            self.packets_in - earlier.packets_in,
            self.bytes_in - earlier.bytes_in,
            self.packets_out - earlier.packets_out,
            self.bytes_out - earlier.bytes_out,
        )


def carried_at_gateway(gateway: Namespace) -> Carried:
    """What the associations of the gateway's kernel have carried, of all its clients."""
    inward, outward = split_by_direction(gateway)
    return _sum(inward, outward)


def carried_at_client(client: Namespace) -> Carried:
    """The same as the client's kernel counts it."""
    inward, outward = split_by_direction(client)
    return _sum(outward, inward)


def split_by_direction(namespace: Namespace) -> tuple[list[KernelSa], list[KernelSa]]:
    """The associations towards addresses of this namespace, and those away from it."""
    own = {address.partition("/")[0] for address in namespace.ip("-o", "addr").split() if "/" in address}
    sas = kernel_sas(namespace)
    return [sa for sa in sas if sa.destination in own], [sa for sa in sas if sa.destination not in own]


def _sum(inward: list[KernelSa], outward: list[KernelSa]) -> Carried:
    return Carried(
        sum(sa.packets for sa in inward),
        sum(sa.inner_bytes for sa in inward),
        sum(sa.packets for sa in outward),
        sum(sa.inner_bytes for sa in outward),
    )


def quiet(gateway: Namespace) -> Carried:
    """Wait until nothing more goes through its tunnels; what went through."""
    previous: list[Carried] = []

    def unchanged() -> Carried | None:
        previous.append(carried_at_gateway(gateway))
        return previous[-1] if previous[-2:-1] == previous[-1:] else None

    return wait_for(unchanged, 10.0, "the tunnels to fall silent", interval_s=QUIET_INTERVAL_S)


def leave_and_compare(client: StrongSwanClient, ostiary: Ostiary, device_id: str) -> TunnelSession:
    """Disconnect; the accounting must have what the kernels of both ends have counted, and the kernel no more of it.

    Only for a client that is alone, and whose SAs were not rekeyed: the kernel forgets what old ones carried.
    """
    live = ostiary.live_session(device_id)
    kernel = quiet(ostiary.namespace)
    assert carried_at_client(client.namespace) == kernel
    client.terminate()
    session = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert Carried(session.packets_in, session.bytes_in, session.packets_out, session.bytes_out) == kernel
    assert kernel_sas(ostiary.namespace) == []
    return session


class SteadyPing:
    """Echo requests at a steady rate while the `with` block runs; afterwards `sent` and `answered` tell of them."""

    def __init__(self, source: Namespace, destination: str, log_file: Path, *, interval_s: float = 0.05) -> None:
        """
        Args:
            source: where the requests come from.
            destination: an address.
            log_file: for what ping prints.
            interval_s: between two requests.
        """
        self._command = ("ping", "-n", "-q", "-i", str(interval_s), "-W", "5", destination)
        self._source = source
        self._log_file = log_file
        self._process: Process | None = None
        self.sent = 0
        self.answered = 0

    def __enter__(self) -> Self:
        self._log_file.unlink(missing_ok=True)
        self._process = self._source.start(*self._command, log_file=self._log_file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        # It then waits for the answers that are still due, and sums up.
        self._process.send(signal.SIGINT)
        self._process.wait(10.0)
        found = _SUMMARY.search(self._process.log())
        if found is None:
            raise LabError(f"ping said nothing:\n{self._process.log()}")
        self.sent, self.answered = int(found[1]), int(found[2])
