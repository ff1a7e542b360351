"""The load generator: our own initiator, many at a time, the same against every gateway."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.ike.constants import NON_ESP_MARKER
from gateway.ike.path import Path
from gateway.ike.payloads.identification import Identification
from tests.lab.processes import LabError
from tests.peers.eap import MsChapV2Peer
from tests.peers.initiator import Initiator, InitiatorConfig, Phase

IKE_PORT = 500
NATT_PORT = 4500
HANDSHAKE_TIMEOUT_S = 20.0
_BUFFER_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway, and the user that signs in."""

    local_address: str
    remote_address: str
    remote_identity: str
    user: str
    password: str


class Slot:
    """One client at a time: a socket, and the handshake that goes on over it.

    IKE_SA_INIT goes to port 500 and the rest to 4500, from one port of our own, as through a NAT.
    """

    def __init__(self, target: Target, initiator: type[Initiator] = Initiator, *, childless: bool = False) -> None:
        self.target = target
        self._childless = childless
        self._initiator = initiator
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((target.local_address, 0))
        self.path = Path(
            target.local_address,
            self.socket.getsockname()[1],
            target.remote_address,
            IKE_PORT,
        )
        self.started_at = 0.0
        self.initiator = self._new()

    def begin(self) -> None:
        """Start a new handshake."""
        self.initiator = self._new()
        self.started_at = time.monotonic()
        self.initiator.start()
        self.flush()

    def receive(self) -> None:
        """Take what has arrived, answer it.

        Raises:
            LabError: the gateway refused.
        """
        while True:
            try:
                data, (_, port) = self.socket.recvfrom(_BUFFER_BYTES)
            except BlockingIOError:
                return
            if port == NATT_PORT:
                data = data.removeprefix(NON_ESP_MARKER)
            self.initiator.receive_datagram(data)
            if self.initiator.phase is Phase.FAILED:
                raise LabError(f"the gateway refused the load generator: {self.initiator.error}")
            self.flush()

    @property
    def established(self) -> bool:
        """Whether the handshake is complete."""
        return self.initiator.phase is Phase.ESTABLISHED

    def _new(self) -> Initiator:
        config = InitiatorConfig(
            identity=Identification.fqdn(self.target.user),
            gateway_identity=Identification.fqdn(self.target.remote_identity),
            eap=MsChapV2Peer(self.target.user, self.target.password),
            childless=self._childless,
        )
        return self._initiator(config, self.path, os.urandom)

    def flush(self) -> None:
        for datagram in self.initiator.datagrams_to_send():
            if self.initiator.phase is Phase.INIT:
                self.socket.sendto(datagram, (self.target.remote_address, IKE_PORT))
            else:
                self.socket.sendto(NON_ESP_MARKER + datagram, (self.target.remote_address, NATT_PORT))


def run_handshakes(target: Target, *, count: int, concurrency: int) -> list[float]:
    """Make `count` full EAP-MSCHAPv2 handshakes, `concurrency` at a time; the SAs stay up. Seconds each took.

    Raises:
        LabError: one was refused, or not done in time.
    """
    slots = [Slot(target) for _ in range(min(concurrency, count))]
    try:
        return list(_run(slots, count))
    finally:
        for slot in slots:
            slot.socket.close()


def _run(slots: list[Slot], count: int) -> Iterator[float]:
    to_start = count - len(slots)
    busy = set(slots)
    with selectors.DefaultSelector() as selector:
        for slot in slots:
            selector.register(slot.socket, selectors.EVENT_READ, slot)
            slot.begin()
        while busy:
            for key, _ in selector.select(timeout=1.0):
                slot = key.data
                slot.receive()
                if slot not in busy or not slot.established:
                    continue
                yield time.monotonic() - slot.started_at
                if to_start > 0:
                    to_start -= 1
                    slot.begin()
                else:
                    busy.discard(slot)
            overdue = time.monotonic() - HANDSHAKE_TIMEOUT_S
            if any(slot.started_at < overdue for slot in busy):
                raise LabError(f"a handshake was not done after {HANDSHAKE_TIMEOUT_S:g} s")
