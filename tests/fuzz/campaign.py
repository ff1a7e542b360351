"""Attacks on a responder, round by round, with virtual time and a scripted AAA.

A round is one client that signs in, uses its SA and leaves. In most rounds an outsider sends mutated copies of each
message before the message itself, forged ones, and rubbish. In the others the client itself has the keys and sends
malformed payloads under them. After each round time passes, and nothing of it may be left.
"""

from __future__ import annotations

import gc
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from gateway.diagnosis.diagnose import report_failure
from gateway.ike import events
from gateway.ike.constants import ExchangeType
from gateway.ike.events import CloseCause
from gateway.ike.path import Path
from tests.fuzz.mutations import forge, mutate, rubbish
from tests.fuzz.scenarios import AFTERWARDS, AUTHENTICATION, SCENARIOS, Insider, Scenario
from tests.unit.gateway.ike.wire import GATEWAY, Client, Wire, responder_config

MUTANTS_PER_MESSAGE = 24
RECORDED = 40
"""Datagrams of earlier rounds that are kept, to splice with."""
EXPLAINED_PER_ROUND = 5
INSIDER_CHANCE = 0.9
"""Of a round: an insider sends a dozen packets where an outsider sends hundreds."""
WARM_UP_SHARE = 0.3
"""Of the packets, before memory is measured: caches and allocator have grown to their size then."""


class FuzzFailure(AssertionError):
    """What must not happen has happened; the message says how to see it again."""


@dataclass
class Figures:
    """What a campaign did and found."""

    packets: int = 0
    """Hostile datagrams that reached the responder."""
    by_insiders: int = 0
    """Those of them that were encrypted with the right keys."""
    rounds: int = 0
    signed_in: int = 0
    """Attacked sign-ins that came through."""
    seconds: float = 0.0
    by_scenario: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    objects_before: int = 0
    """Objects that the garbage collector knows, after the warm-up and at the end."""
    objects_after: int = 0
    memory_before_kib: int = 0
    """Resident memory."""
    memory_after_kib: int = 0

    def __str__(self) -> str:
        scenarios = ", ".join(f"{name} {count}" for name, count in sorted(self.by_scenario.items()))
        causes = ", ".join(f"{name} {count}" for name, count in self.causes.most_common())
        return (
            f"{self.packets} hostile packets in {self.rounds} rounds, {self.seconds:.1f} s; "
            f"{self.by_insiders} of them under the right keys\n"
            f"rounds: {scenarios}\n"
            f"attacked sign-ins that came through: {self.signed_in}\n"
            f"SAs ended: {causes}\n"
            "exceptions: none; half-open state, SAs, children and timers left after the timeout: none\n"
            f"live objects: {self.objects_before} after the warm-up, {self.objects_after} at the end\n"
            f"resident KiB: {self.memory_before_kib} after the warm-up, {self.memory_after_kib} at the end"
        )


class Campaign:
    """Runs rounds until enough hostile packets have been sent.

    Args:
        seed: of everything but keys and signatures, which OpenSSL makes.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.figures = Figures()
        self._random = Random(seed)
        self._recorded: list[bytes] = []
        # The limits are for floods; here each round would soon be refused by them.
        no_limits: dict[str, Any] = {
            "half_open_limit_per_address": 10**6,
            "cookie_threshold": 10**6,
            "cookie_threshold_per_address": 10**6,
            "init_rate_per_address": 1e9,
        }
        self._wire = Wire(responder_config(**no_limits, **AUTHENTICATION), seed=seed)
        self._last = b""

    def run(self, packets: int) -> Figures:
        """Attack.

        Raises:
            FuzzFailure: an exception left the responder, or something was left behind.
        """
        figures, started = self.figures, time.perf_counter()
        measured = False
        while figures.packets < packets:
            if not measured and figures.packets >= packets * WARM_UP_SHARE:
                measured = True
                figures.objects_before, figures.memory_before_kib = _memory()
            try:
                self._round(self._random.choice(SCENARIOS))
            except FuzzFailure:
                raise
            except Exception as error:
                raise FuzzFailure(
                    f"round {figures.rounds} of seed {self.seed}: {type(error).__name__}: {error}; "
                    f"last hostile packet {self._last.hex()}"
                ) from error
        figures.objects_after, figures.memory_after_kib = _memory()
        figures.seconds = time.perf_counter() - started
        return figures

    # --- One round ------------------------------------------------------------------------------------------

    def _round(self, scenario: Scenario) -> None:
        wire, random = self._wire, self._random
        wire.aaa.methods, wire.aaa.peer_networks = scenario.methods, scenario.networks
        self.figures.rounds += 1
        self.figures.by_scenario[scenario.name] += 1
        inside = random.random() < INSIDER_CHANCE
        client = self._client(scenario, inside)
        wire.filter = self._nothing_more if inside else self._attack
        client.initiator.start()
        wire.run()
        self.figures.signed_in += client.is_up and not inside
        for exchange, payloads in random.sample(AFTERWARDS[:-1], 2) + list(AFTERWARDS[-1:]):
            client.initiator.request(exchange, payloads)
            wire.run()
            if random.random() < 0.2:
                wire.advance(wire.config.dpd_interval_s + 1)
        if isinstance(client.initiator, Insider):
            self.figures.packets += client.initiator.bad_sent
            self.figures.by_insiders += client.initiator.bad_sent
        elif not client.is_up and client.initiator.error:
            raise FuzzFailure(f"the attacked client failed: {client.initiator.error}; {wire.failures}")
        self._end()

    def _client(self, scenario: Scenario, inside: bool) -> Client:
        random = self._random
        host, port = f"198.51.100.{random.randint(1, 250)}", random.randint(1024, 65_000)
        local, outer = Path(host, port, GATEWAY, 500), Path(GATEWAY, 500, host, port)
        if random.random() < 0.5:
            outer = outer._replace(remote_port=random.randint(1024, 65_000))
        if not inside:
            return self._wire.client(scenario.client(), local=local, outer=outer)
        client = self._wire.client(scenario.client(), local=local, outer=outer, initiator=Insider)
        assert isinstance(client.initiator, Insider)
        client.initiator.chance = random.choice((0.1, 0.3, 1.0))
        client.initiator.dice = random
        return client

    @staticmethod
    def _nothing_more(_to_gateway: bool, batch: list[bytes]) -> list[bytes]:
        return batch

    def _attack(self, to_gateway: bool, batch: list[bytes]) -> list[bytes]:
        """The network of an outsider, who sees every message before it arrives."""
        random, wire = self._random, self._wire
        if not to_gateway:
            self._record(batch)
            return batch
        path = wire.clients[-1].outer
        sas = wire.responder.sas()
        hostile = [mutate(random, random.choice(batch), self._recorded) for _ in range(MUTANTS_PER_MESSAGE)]
        for sa in sas[:2]:
            ids = (0, sa.peer.next_id - 1, sa.peer.next_id, sa.peer.next_id + 1, sa.own.next_id, sa.own.next_id - 1)
            hostile += [forge(random, sa.spi_i, sa.spi_r, ids) for _ in range(MUTANTS_PER_MESSAGE // 3)]
        hostile += [rubbish(random) for _ in range(2)]
        genuine = set(batch)
        first = batch[0][18:19] == bytes((ExchangeType.IKE_SA_INIT,))
        for packet in hostile:
            if packet in genuine:
                continue
            self._last = packet
            # The first message is in the clear: a changed copy from the client's own address would take its place.
            source = path if not first else path._replace(remote="203.0.113.66")
            wire.responder.receive_datagram(packet, source, wire.now)
            self.figures.packets += 1
        self._record(batch)
        return batch

    def _record(self, batch: list[bytes]) -> None:
        self._recorded = [*self._recorded, *batch][-RECORDED:]

    def _end(self) -> None:
        """Time passes, the gateway lets everybody go, and then there is nothing."""
        wire = self._wire
        wire.filter = self._nothing_more
        wire.advance(wire.config.half_open_timeout_s + 0.1)
        if wire.responder.half_open:
            raise FuzzFailure(f"{wire.responder.half_open} half-open SAs are left after the timeout")
        wire.clients.clear()
        wire.responder.close_all(CloseCause.SHUTDOWN, wire.now)
        wire.advance(sum(wire.config.retransmit_timeouts_s) + wire.config.linger_s + wire.config.half_open_timeout_s)
        left = {
            "SAs": len(wire.responder.sas()),
            "children": len(wire.children),
            "conversations": wire.conversations,
            "timers": wire.responder.get_timer() or 0,
        }
        if any(left.values()):
            raise FuzzFailure(f"left behind: {left}")
        self.figures.causes.update(cause.name for cause in wire.causes)
        self._explain()
        wire.forget()

    def _explain(self) -> None:
        """Whatever a handshake failed of, the gateway can say something about it."""
        told = [e for e in self._wire.events if isinstance(e, events.HandshakeFailed | events.FirstRequestRefused)]
        for event in self._random.sample(told, min(len(told), EXPLAINED_PER_ROUND)):
            report = report_failure(event.evidence, event.code, event.reason, self._wire.now)
            if not (report.explanation and report.advice):
                raise FuzzFailure(f"nothing is said about {event.code}: {event.reason}")


def _memory() -> tuple[int, int]:
    """Live objects, and resident KiB."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return len(gc.get_objects()), pages * resource.getpagesize() // 1024
