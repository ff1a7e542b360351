"""The UDP socket on which Disconnect- and CoA-Requests arrive; RFC 5176 itself is in `dynamic_authorization`."""

from __future__ import annotations

import asyncio
import socket
import time
from ipaddress import IPv4Address, IPv6Address

import structlog

from aaa.radius.wire import MAX_PACKET_BYTES
from core.errors import OstiaryError
from core.rate import TokenBucket
from gateway.control.dynamic_authorization import DynamicAuthorizationServer

COMPLAINTS_PER_S, COMPLAINTS_BURST = 0.2, 20.0
"""Log lines that whoever reaches the socket can cause."""

_log = structlog.get_logger(__name__)


class ControlError(OstiaryError):
    """The control socket can't be opened."""


class ControlListener:
    """Serves one socket on the event loop until it is closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: IPv4Address | IPv6Address,
        port: int,
        server: DynamicAuthorizationServer,
    ) -> None:
        self._loop = loop
        self._server = server
        self._complaints = TokenBucket(COMPLAINTS_PER_S, COMPLAINTS_BURST, time.monotonic())
        self._socket = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind((str(address), port))
        except OSError as error:
            self._socket.close()
            raise ControlError(
                f"UDP {address} port {port} for dynamic authorization can't be opened: {error.strerror}",
                fix="set gateway.control_address and gateway.control_port",
            ) from error
        loop.add_reader(self._socket.fileno(), self._receive)

    def _receive(self) -> None:
        try:
            data, source = self._socket.recvfrom(MAX_PACKET_BYTES + 1)
        except OSError:
            return
        try:
            answer = self._server.receive_datagram(data, time.time())
        except Exception:
            _log.exception("dynamic authorization request dropped by a fault of ours", source=source[0])
            return
        if answer is None:
            self._complain(source[0])
            return
        try:
            self._socket.sendto(answer, source)
        except OSError as error:
            _log.warning("answer to a Disconnect-Request not sent", source=source[0], error=error.strerror)

    def _complain(self, source: str) -> None:
        if self._complaints.take(time.monotonic()):
            _log.warning(
                "Disconnect-Request refused: not authentic or not timely",
                source=source,
                left_out_before=self._complaints.reset_missed(),
            )

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
