"""What an SA costs while it is up: rekeyings of child SAs, and MOBIKE updates, per CPU second of the responder.

The SAs that move have no child SA (RFC 6023): strongSwan's libipsec can't move one and rekeys it instead, which would
be another thing to measure.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from tests.bench.contenders import Contender, in_turn
from tests.bench.handshakes import SETTLE_S
from tests.bench.load import NATT_PORT, Slot, Target
from tests.lab.namespaces import Lab
from tests.lab.processes import LabError
from tests.lab.topology import CLIENT_IPV4, Site
from tests.peers.busy import BusyInitiator

Task = Literal["rekeying", "move"]
TASKS: tuple[Task, ...] = ("rekeying", "move")
TASK_TIMEOUT_S = 20.0
PAUSE_S = 0.6
"""Between two tasks of one SA: a gateway that limits how often a peer may ask for new keys would refuse more."""


@dataclass(frozen=True, slots=True)
class UpkeepResult:
    """All rounds of one contender at one task."""

    name: str
    task: Task
    per_cpu_s_of_rounds: tuple[float, ...]

    @property
    def per_cpu_s(self) -> float:
        """The median of the rounds."""
        return median(self.per_cpu_s_of_rounds)


def measure_upkeep(
    lab: Lab, site: Site, contenders: Sequence[Contender], *, rounds: int, clients: int, times: int
) -> list[UpkeepResult]:
    """Measure the contenders in turn, each freshly started for each round.

    Args:
        lab: owns the scratch directory.
        site: the network.
        contenders: the gateways.
        rounds: how often each one gets its turn.
        clients: SAs that are up.
        times: how often each of them does each task.

    Raises:
        LabError: one was refused, or not done in time.
    """
    found: dict[tuple[str, Task], list[float]] = {}
    for number in range(rounds):
        for contender in in_turn(contenders, number):
            directory = lab.directory / f"upkeep-{contender.name}-{number}"
            for task, per_cpu_s in _one_round(site, contender, directory, clients, times).items():
                found.setdefault((contender.name, task), []).append(per_cpu_s)
    return [UpkeepResult(name, task, tuple(figures)) for (name, task), figures in found.items()]


def _one_round(site: Site, contender: Contender, directory: Path, clients: int, times: int) -> dict[Task, float]:
    with contender.running(site.gateway, directory) as gateway:
        config = gateway.client
        target = Target(
            CLIENT_IPV4, config.remote_address, config.remote_identity, config.identity, config.password or ""
        )

        def measured() -> dict[Task, float]:
            figures: dict[Task, float] = {}
            for task in TASKS:
                with _Fleet(target, clients, childless=task == "move") as fleet:
                    fleet.all_do(task)
                    time.sleep(SETTLE_S)
                    before = gateway.process.cpu_s()
                    for _ in range(times):
                        time.sleep(PAUSE_S)
                        fleet.all_do(task)
                    spent_s = gateway.process.cpu_s() - before
                if spent_s <= 0:
                    raise LabError(f"{clients * times} times {task} are too few to measure {contender.name}")
                figures[task] = clients * times / spent_s
            return figures

        return site.client.call(measured)


class _Fleet:
    """Clients that are all up."""

    def __init__(self, target: Target, count: int, *, childless: bool) -> None:
        self._slots = [_MovingSlot(target, childless=childless) for _ in range(count)]
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Fleet:
        for slot in self._slots:
            for sock in slot.sockets:
                self._selector.register(sock, selectors.EVENT_READ, slot)
            slot.begin()
        self._until(lambda slot: slot.established)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for slot in self._slots:
            for sock in slot.sockets:
                sock.close()

    def all_do(self, task: Task) -> None:
        """Each does it once."""
        for slot in self._slots:
            slot.do(task)
        self._until(lambda slot: slot.is_idle)

    def _until(self, done: Callable[[_MovingSlot], bool]) -> None:
        deadline = time.monotonic() + TASK_TIMEOUT_S
        busy = {slot for slot in self._slots if not done(slot)}
        while busy:
            if time.monotonic() > deadline:
                raise LabError(f"{len(busy)} clients were not served in {TASK_TIMEOUT_S:g} s")
            for key, _ in self._selector.select(timeout=1.0):
                key.data.receive()
                if done(key.data):
                    busy.discard(key.data)


class _MovingSlot(Slot):
    """A client with two ports, between which it moves."""

    def __init__(self, target: Target, *, childless: bool) -> None:
        super().__init__(target, BusyInitiator, childless=childless)
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.setblocking(False)
        other.bind((target.local_address, 0))
        self.sockets = [self.socket, other]

    @property
    def busy(self) -> BusyInitiator:
        """The initiator."""
        assert isinstance(self.initiator, BusyInitiator)
        return self.initiator

    @property
    def is_idle(self) -> bool:
        """Its task is done."""
        if self.busy.refused:
            raise LabError(f"the gateway refused the load generator: {self.busy.refused}")
        return self.busy.is_idle

    def do(self, task: Task) -> None:
        """Begin a task."""
        if task == "rekeying":
            self.busy.rekey_child()
        else:
            self.socket = self.sockets[1] if self.socket is self.sockets[0] else self.sockets[0]
            port = self.socket.getsockname()[1]
            self.busy.move(self.busy.path._replace(local_port=port, remote_port=NATT_PORT))
        self.flush()
