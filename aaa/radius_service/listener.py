"""Carries datagrams between the sockets and the RADIUS server, and keeps its timer."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog

from aaa.radius.request import Service
from aaa.radius.server import Drop, Peer, RadiusServer
from aaa.radius.wire import MAX_PACKET_BYTES
from aaa.radius_service.sockets import asked_address, from_address, open_socket
from core.rate import TokenBucket
from core.settings import RadiusSettings

DATAGRAMS_PER_TURN = 64
SWEEP_S = 1.0
COMPLAINTS_PER_S, COMPLAINTS_BURST = 0.2, 20.0
"""Log lines that whoever reaches the port can cause."""
_ANCILLARY_BYTES = 128

_log = structlog.get_logger(__name__)


class _Via(NamedTuple):
    """By what an answer leaves."""

    socket: socket.socket
    local: str
    """The address that was asked."""


class RadiusListener:
    """Serves the ports on the event loop until it is closed.

    Args:
        loop: all methods are called on its thread.
        settings: where to listen.
        clock: monotonic seconds.

    Raises:
        SocketError: a port can't be opened.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: RadiusSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._complaints = TokenBucket(COMPLAINTS_PER_S, COMPLAINTS_BURST, clock())
        self._timer: asyncio.TimerHandle | None = None
        self._sockets: list[tuple[Service, socket.socket]] = []
        ports = {
            Service.AUTHENTICATION: settings.authentication_port,
            Service.ACCOUNTING: settings.accounting_port,
        }
        try:
            for service, port in ports.items():
                for address in settings.listen:
                    self._sockets.append((service, open_socket(address, port)))
        except BaseException:
            self.close()
            raise

    def start(self, server: RadiusServer) -> None:
        """Take datagrams from now on."""
        for service, opened in self._sockets:
            self._loop.add_reader(opened.fileno(), self._drain, server, service, opened)
        self._wake(server)

    def send(self, datagram: bytes, peer: Peer) -> None:
        """Send an answer; the client asks again where it is lost."""
        via = peer.via
        if not isinstance(via, _Via):
            raise TypeError("a peer of another listener")
        try:
            via.socket.sendmsg([datagram], from_address(via.local), 0, (peer.host, peer.port))
        except OSError as error:
            _log.warning("answer to a RADIUS client not sent", client=peer.host, error=error.strerror)

    def _drain(self, server: RadiusServer, service: Service, opened: socket.socket) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, ancillary, _, source = opened.recvmsg(MAX_PACKET_BYTES + 1, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier answer; the socket is fine.
                continue
            peer = Peer(service, source[0], source[1], _Via(opened, asked_address(ancillary)))
            try:
                drop = server.receive_datagram(data, peer, self._clock())
            except Exception:
                _log.exception("RADIUS request dropped by a fault of ours", source=peer.host)
                continue
            if drop is not None:
                self._complain(drop, peer)

    def _complain(self, drop: Drop, peer: Peer) -> None:
        if self._complaints.take(self._clock()):
            _log.warning(
                "RADIUS request dropped",
                reason=drop.reason,
                client=drop.client,
                source=peer.host,
                port=peer.service.value,
                left_out_before=self._complaints.reset_missed(),
            )

    def _wake(self, server: RadiusServer) -> None:
        """Look after the conversations that nobody goes on with: a second late at most, which to them is nothing."""
        now = self._clock()
        server.handle_timer(now)
        due = server.get_timer()
        wait_s = max(SWEEP_S, due - now) if due is not None else SWEEP_S
        self._timer = self._loop.call_later(wait_s, partial(self._wake, server))

    def close(self) -> None:
        """Close the sockets."""
        if self._timer is not None:
            self._timer.cancel()
        for _, opened in self._sockets:
            self._loop.remove_reader(opened.fileno())
            opened.close()
        self._sockets.clear()
