"""Full EAP-MSCHAPv2 handshakes per CPU second of the responder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from tests.bench.contenders import Contender, in_turn
from tests.bench.load import Target, run_handshakes
from tests.lab.namespaces import Lab
from tests.lab.processes import LabError
from tests.lab.topology import CLIENT_IPV4, Site

WARM_UP = 20
SETTLE_S = 1.0
"""What a gateway puts off until after the answer (accounting, logs) is its work too."""


@dataclass(frozen=True, slots=True)
class HandshakeRound:
    """What one contender did in one round."""

    count: int
    cpu_s: float
    """Of all processes of the responder."""
    wall_s: float
    median_ms: float
    """Of one handshake, at the load generator."""
    worst_5_percent_ms: float

    @property
    def per_cpu_s(self) -> float:
        """Handshakes per CPU second."""
        return self.count / self.cpu_s


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """All rounds of one contender at one concurrency."""

    name: str
    concurrency: int
    rounds: tuple[HandshakeRound, ...]

    @property
    def per_cpu_s(self) -> float:
        """The median of the rounds."""
        return median(item.per_cpu_s for item in self.rounds)


def measure_handshakes(
    lab: Lab, site: Site, contenders: Sequence[Contender], *, rounds: int, count: int, concurrency: int
) -> list[HandshakeResult]:
    """Measure the contenders in turn, each freshly started for each round.

    Args:
        lab: owns the scratch directory.
        site: the network.
        contenders: the gateways.
        rounds: how often each one gets its turn.
        count: handshakes in a round.
        concurrency: of them at a time.

    Raises:
        LabError: a handshake failed.
    """
    found: dict[str, list[HandshakeRound]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in in_turn(contenders, number):
            directory = lab.directory / f"handshakes-{contender.name}-{concurrency}-{number}"
            found[contender.name].append(_one_round(site, contender, directory, count, concurrency))
    return [HandshakeResult(name, concurrency, tuple(items)) for name, items in found.items()]


def _one_round(site: Site, contender: Contender, directory: Path, count: int, concurrency: int) -> HandshakeRound:
    with contender.running(site.gateway, directory) as gateway:
        client = gateway.client
        target = Target(
            CLIENT_IPV4, client.remote_address, client.remote_identity, client.identity, client.password or ""
        )
        site.client.call(lambda: run_handshakes(target, count=WARM_UP, concurrency=concurrency))
        time.sleep(SETTLE_S)
        cpu_before, started_at = gateway.process.cpu_s(), time.monotonic()
        durations = site.client.call(lambda: run_handshakes(target, count=count, concurrency=concurrency))
        wall_s = time.monotonic() - started_at
        time.sleep(SETTLE_S)
        cpu_s = gateway.process.cpu_s() - cpu_before
        if cpu_s <= 0:
            raise LabError(f"{count} handshakes are too few to measure {contender.name}")
    return HandshakeRound(count, cpu_s, wall_s, 1000 * median(durations), 1000 * quantiles(durations, n=20)[-1])
