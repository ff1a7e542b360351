"""The gateway's sockets: IKE on UDP 500 and 4500, ESP in UDP on 4500, plain ESP (protocol 50).

Each datagram is answered from the address that it was sent to, so a gateway with many addresses needs no list
of them (IP_PKTINFO). Reading drains a socket up to a limit, so that no socket starves the others.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog

from core.errors import OstiaryError
from gateway.dataplane.interface import Endpoints
from gateway.ike.constants import NON_ESP_MARKER
from gateway.ike.path import Path
from gateway.ike.sa import KEEPALIVE

MAX_DATAGRAM_BYTES = 65_535
DATAGRAMS_PER_TURN = 64
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

_ANCILLARY_BYTES = 256
_IPPROTO_ESP = 50
# linux/in.h and linux/in6.h; the socket module of Python 3.11 does not name all of them.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_PKTINFO4 = struct.Struct("=I4s4s")
_PKTINFO6 = struct.Struct("=16sI")

_log = structlog.get_logger(__name__)

ReceiveIke = Callable[[bytes, Path], None]
ReceiveEsp = Callable[[bytes, str, int, str, int, bool], None]
"""packet, local address, local port, remote address, remote port, in UDP"""


class TransportError(OstiaryError):
    """A socket can't be opened."""


class Transport:
    """All sockets of one worker, on its event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: tuple[IPv4Address | IPv6Address, ...],
        ike_port: int,
        natt_port: int,
        receive_ike: ReceiveIke,
        receive_esp: ReceiveEsp,
    ) -> None:
        self._loop = loop
        self._ike_port, self._natt_port = ike_port, natt_port
        self._receive_ike, self._receive_esp = receive_ike, receive_esp
        self._udp: dict[tuple[int, int], socket.socket] = {}
        self._raw: dict[int, socket.socket] = {}
        self.sent = self.send_failures = 0
        try:
            for address in addresses:
                for port in (ike_port, natt_port):
                    self._open_udp(address, port)
                self._open_raw(address)
        except BaseException:
            self.close()
            raise

    def _open_udp(self, address: IPv4Address | IPv6Address, port: int) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            _enlarge_buffers(sock)
            if address.version == 4:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.bind((str(address), port))
        except OSError as error:
            sock.close()
            raise TransportError(
                f"UDP {address} port {port} can't be opened: {error.strerror}",
                fix="stop what holds the port (another IKE daemon?), or set gateway.listen and the ports",
            ) from error
        self._udp[address.version, port] = sock
        self._loop.add_reader(sock.fileno(), self._drain_udp, sock, port)

    def _open_raw(self, address: IPv4Address | IPv6Address) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_RAW, _IPPROTO_ESP)
        except PermissionError:
            _log.warning("plain ESP is off: no CAP_NET_RAW; clients without NAT must use UDP encapsulation")
            return
        sock.setblocking(False)
        _enlarge_buffers(sock)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        if not address.is_unspecified:
            sock.bind((str(address), 0))
        self._raw[address.version] = sock
        self._loop.add_reader(sock.fileno(), self._drain_raw, sock, address.version)

    # --- Receiving ------------------------------------------------------------------------------------------

    def _drain_udp(self, sock: socket.socket, port: int) -> None:
        natt = port == self._natt_port
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, ancillary, flags, remote = sock.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier datagram; the socket is fine.
                continue
            if flags & socket.MSG_TRUNC or not data:
                continue
            local = _local_address(ancillary)
            if not natt:
                self._receive_ike(data, Path(local, port, remote[0], remote[1]))
            elif data.startswith(NON_ESP_MARKER):
                self._receive_ike(data[4:], Path(local, port, remote[0], remote[1]))
            elif data != KEEPALIVE:
                self._receive_esp(data, local, port, remote[0], remote[1], True)

    def _drain_raw(self, sock: socket.socket, version: int) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, ancillary, _, remote = sock.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            if version == 6:
                self._receive_esp(data, _local_address(ancillary), 0, remote[0], 0, False)
                continue
            # A raw IPv4 socket delivers the IP header as well.
            header_bytes = (data[0] & 0x0F) * 4 if data else 0
            if 20 <= header_bytes <= len(data):
                local = str(IPv4Address(data[16:20]))
                self._receive_esp(data[header_bytes:], local, 0, remote[0], 0, False)

    # --- Sending --------------------------------------------------------------------------------------------

    def send_ike(self, datagram: bytes, path: Path) -> None:
        """Send an IKE message or a keepalive along a path, with the non-ESP marker where the port wants it."""
        if path.local_port == self._natt_port and datagram is not KEEPALIVE:
            datagram = NON_ESP_MARKER + datagram
        sock = self._udp.get((path.ip_version, path.local_port))
        if sock is not None:
            self._send(sock, datagram, path.local, path.remote, path.remote_port)

    def send_esp(self, packet: bytes, endpoints: Endpoints) -> None:
        """Send an ESP packet, in UDP from the NAT-T port or plain."""
        version = endpoints.remote.version
        if endpoints.udp_encapsulation:
            sock, port = self._udp.get((version, endpoints.local_port)), endpoints.remote_port
        else:
            sock, port = self._raw.get(version), 0
        if sock is not None:
            self._send(sock, packet, str(endpoints.local), str(endpoints.remote), port)

    def _send(self, sock: socket.socket, data: bytes, local: str, remote: str, port: int) -> None:
        try:
            sock.sendmsg([data], [_from_address(local)], 0, (remote, port))
            self.sent += 1
        except OSError:
            # Full buffer or unreachable: to the protocols above it is a lost datagram.
            self.send_failures += 1

    @property
    def addresses_text(self) -> str:
        """`0.0.0.0 and ::, UDP 500 and 4500`, for the operator."""
        hosts = sorted({sock.getsockname()[0] for sock in self._udp.values()})
        return f"{' and '.join(hosts)}, UDP {self._ike_port} and {self._natt_port}"

    def close(self) -> None:
        """Close every socket."""
        for sock in (*self._udp.values(), *self._raw.values()):
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._udp.clear()
        self._raw.clear()


def _enlarge_buffers(sock: socket.socket) -> None:
    """Room for bursts; beyond the system's limit where the process may."""
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER_BYTES)


def _local_address(ancillary: list[tuple[int, int, bytes]]) -> str:
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    raise RuntimeError("a datagram without the address that it was sent to")


@lru_cache(maxsize=1024)
def _from_address(local: str) -> tuple[int, int, bytes]:
    """The control message that sets a datagram's source address."""
    address = ip_address(local)
    if address.version == 4:
        return socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(0, address.packed, bytes(4))
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(address.packed, 0)
