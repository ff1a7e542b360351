"""Mbit/s through the tunnel: a strongSwan client in user space, one TCP stream, both directions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.contenders import Contender, in_turn
from tests.lab.namespaces import Lab, Namespace
from tests.lab.processes import LabError, wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import INSIDE_IPV4, Site

IPERF_PORT = 5201


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one contender carried in one round."""

    upload_mbit_per_s: float
    """From the client to the network."""
    download_mbit_per_s: float
    gateway_cpu_s: float
    """Of the gateway's processes, over both directions."""


@dataclass(frozen=True, slots=True)
class ThroughputResult:
    """All rounds of one contender."""

    name: str
    rounds: tuple[Throughput, ...]

    @property
    def upload_mbit_per_s(self) -> float:
        """The median of the rounds."""
        return median(item.upload_mbit_per_s for item in self.rounds)

    @property
    def download_mbit_per_s(self) -> float:
        """The median of the rounds."""
        return median(item.download_mbit_per_s for item in self.rounds)


def measure_throughput(
    lab: Lab, site: Site, contenders: Sequence[Contender], *, rounds: int, seconds: int
) -> list[ThroughputResult]:
    """Measure the contenders in turn, so that a change of the machine's mood meets all of them.

    Args:
        lab: owns the scratch directory.
        site: the network.
        contenders: the gateways.
        rounds: how often each one gets its turn.
        seconds: of each TCP stream.

    Raises:
        LabError: a tunnel did not come up, or carried nothing.
    """
    found: dict[str, list[Throughput]] = {contender.name: [] for contender in contenders}
    server = site.inside.start(
        "iperf3", "-s", "--forceflush", "-p", str(IPERF_PORT), log_file=lab.directory / "iperf3.log"
    )
    try:
        wait_for(lambda: "listening" in server.log(), 5.0, "iperf3's server")
        for number in range(rounds):
            for contender in in_turn(contenders, number):
                found[contender.name].append(_one_round(lab, site, contender, number, seconds))
    finally:
        server.stop()
    return [ThroughputResult(name, tuple(items)) for name, items in found.items()]


def _one_round(lab: Lab, site: Site, contender: Contender, number: int, seconds: int) -> Throughput:
    directory = lab.directory / f"throughput-{contender.name}-{number}"
    with (
        contender.running(site.gateway, directory / "gateway") as gateway,
        StrongSwanClient(site.client, gateway.client, directory / "client") as client,
    ):
        client.connect()
        before = gateway.process.cpu_s()
        upload = iperf3(site.client, INSIDE_IPV4, seconds)
        download = iperf3(site.client, INSIDE_IPV4, seconds, reverse=True)
        cpu_s = gateway.process.cpu_s() - before
        [sa] = client.list_sas()
        if sa.bytes_in < 1_000_000 or sa.bytes_out < 1_000_000:
            raise LabError(f"the stream did not go through the tunnel of {contender.name}: {sa}")
    return Throughput(upload, download, cpu_s)


def iperf3(namespace: Namespace, address: str, seconds: int, *, reverse: bool = False) -> float:
    """Mbit/s that the receiver saw in one TCP stream to the server at `address`, or from it with `reverse`."""
    text = namespace.run(
        *("iperf3", "-c", address, "-p", str(IPERF_PORT), "-t", str(seconds), "-J"),
        *(["-R"] if reverse else []),
        timeout_s=seconds + 30.0,
    )
    return float(json.loads(text)["end"]["sum_received"]["bits_per_second"]) / 1e6
