"""A RADIUS server with all that stands behind it, in memory: the real backend, its database and its CA."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from ipaddress import ip_network

from aaa.eap.packet import EapType, response
from aaa.radius.clients import RadiusClient, RadiusClients
from aaa.radius.conversations import Conversations
from aaa.radius.grant import GrantSealer
from aaa.radius.request import Service
from aaa.radius.server import Drop, Peer, RadiusServer
from core.secrets import Secret
from tests.peers.eap import EapPeer
from tests.peers.radius import CALLING_STATION, PORT_TYPE, USER_NAME, Answer, Attribute, Nas
from tests.unit.aaa.driver import Driver

WIFI = RadiusClient("wifi", (ip_network("10.0.0.0/24"),), Secret(b"of the access points"))
VPN = RadiusClient("vpn", (ip_network("10.0.3.1/32"),), Secret(b"of the concentrator"))
OFFICE = RadiusClient("office", (ip_network("10.0.1.1/32"), ip_network("fd00::/64")), Secret(b"of the other gateway"))
GRANT_KEY = Secret(b"k" * 32)
TIMEOUT_S = 30.0


class House:
    """The server and its clock.

    Args:
        driver: the backend.
        limit: of conversations.
        limit_per_client: of conversations of one client.
    """

    def __init__(self, driver: Driver, *, limit: int = 100, limit_per_client: int = 50) -> None:
        self.driver = driver
        self.now = 1000.0
        self.sent: list[tuple[bytes, Peer]] = []
        self.dropped: list[Drop] = []
        self.conversations = Conversations(limit, limit_per_client, TIMEOUT_S, os.urandom)
        self.server = RadiusServer(
            RadiusClients([WIFI, OFFICE, VPN]),
            driver.backend,
            driver.backend.accounting_intake(),
            self.conversations,
            GrantSealer(GRANT_KEY),
            os.urandom,
            lambda: self.now,
            lambda datagram, peer: self.sent.append((datagram, peer)),
            time.time,
        )

    def give(self, data: bytes, peer: Peer | None = None) -> Drop | None:
        """Hand a datagram in; what it leads to comes later."""
        drop = self.server.receive_datagram(data, peer or from_host(), self.now)
        if drop is not None:
            self.dropped.append(drop)
        return drop

    def ask(self, data: bytes, peer: Peer | None = None) -> bytes | None:
        """Hand a datagram in and wait for its answer; None where it was dropped."""
        count = len(self.sent)
        drop = self.give(data, peer)
        if drop is not None and not drop.answered:
            return None
        self.driver.pump(lambda: len(self.sent) > count)
        datagram, to = self.sent[-1]
        assert to == (peer or from_host())
        return datagram

    def nas(self, items: Sequence[Attribute] = (), peer: Peer | None = None, client: RadiusClient = WIFI) -> Nas:
        """An access point."""
        return Nas(lambda data: self.ask(data, peer), client.secret.reveal(), items)

    def sign_in(
        self, peer: EapPeer, *items: Attribute, asked: bool = True, mac_address: str = "02-00-00-00-00-01"
    ) -> Answer:
        """A whole sign-in over Wi-Fi.

        Args:
            peer: the laptop.
            items: more attributes.
            asked: whether the access point has asked for the identity.
            mac_address: of the laptop.
        """
        known = [
            (USER_NAME, peer.identity.encode()),
            (CALLING_STATION, mac_address.encode()),
            (PORT_TYPE, (19).to_bytes(4, "big")),
        ]
        first = identity(peer.identity) if asked else b""
        return self.nas([*known, *items]).sign_in(first, peer.receive)


def identity(name: str, identifier: int = 77) -> bytes:
    """An EAP-Response/Identity."""
    return response(identifier, EapType.IDENTITY, name.encode())


def from_host(host: str = "10.0.0.7", port: int = 40_000, service: Service = Service.AUTHENTICATION) -> Peer:
    """Where a request comes from."""
    return Peer(service, host, port, None)
