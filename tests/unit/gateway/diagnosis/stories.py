"""Handshakes that go wrong in a gateway without sockets, and what it tells of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aaa.interface import HandshakeReport, SignInContext
from gateway.ike.constants import ExchangeType, PayloadType
from gateway.ike.message import Header
from gateway.ike.sa import IkeSa
from tests.peers.initiator import Initiator
from tests.unit.gateway.shell import Shell

Lost = Callable[[bool, bytes], bool]
"""(towards the gateway?, datagram) -> whether it is lost."""
HALF_OPEN_S = 31.0
"""The handshake's time is over."""


class Story(Shell):
    """A gateway, and a network that loses what it is told to lose."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.lost: Lost = nothing
        self._newest = b""
        self.loses = self._lose

    def _lose(self, to_gateway: bool, datagram: bytes) -> bool:
        if to_gateway:
            self._newest = datagram
        return self.lost(to_gateway, datagram)

    def again(self, client: Initiator) -> None:
        """The client sends its newest datagram once more."""
        client.send([self._newest])
        self.run()

    @property
    def sa(self) -> IkeSa:
        """The only one."""
        (sa,) = self.engine.responder.sas()
        return sa


def nothing(_to_gateway: bool, _datagram: bytes) -> bool:
    """A network without faults."""
    return False


def is_ike_auth(datagram: bytes) -> bool:
    """Whether it is part of an IKE_AUTH message."""
    return Header.parse(datagram).exchange == ExchangeType.IKE_AUTH


def fragment(datagram: bytes) -> tuple[int, int]:
    """Number and total of an IKE fragment; (0, 0) for what is none."""
    if Header.parse(datagram).next_payload != PayloadType.SKF:
        return 0, 0
    return int.from_bytes(datagram[32:34], "big"), int.from_bytes(datagram[34:36], "big")


def towards_gateway(to_gateway: bool, _datagram: bytes) -> bool:
    """All that clients send."""
    return to_gateway


def towards_client(to_gateway: bool, _datagram: bytes) -> bool:
    """All that the gateway sends."""
    return not to_gateway


def told(shell: Shell) -> HandshakeReport:
    """The one report that was made."""
    ((_, report),) = shell.aaa.reports
    return report


def context(shell: Shell) -> SignInContext:
    """Whose it is."""
    ((found, _),) = shell.aaa.reports
    return found


def after(count: int, lost: Lost) -> Lost:
    """A network that works for so many datagrams of the client, and is `lost` after them."""
    seen = 0

    def loses(to_gateway: bool, datagram: bytes) -> bool:
        nonlocal seen
        seen += to_gateway
        return seen > count and lost(to_gateway, datagram)

    return loses
