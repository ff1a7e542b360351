"""The gateway's sockets: IKE on UDP 500 and 4500, ESP in UDP on 4500, plain ESP (protocol 50).

Each datagram is answered from the address that it was sent to, so a gateway with many addresses needs no list
of them. Reading drains a socket up to a limit, so that no socket starves the others.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import structlog

from core.errors import OstiaryError
from gateway.dataplane.interface import Endpoints
from gateway.dataplane.userspace.udp_batch import (
    NON_ESP_MARKER,
    EspTransmitter,
    NatTraversalReceiver,
    RawEspReceiver,
    RemoteName,
    SegmentReceiver,
    from_address,
    local_address,
    prepare,
)
from gateway.dataplane.xfrm.socket_options import bypass_policies, decapsulate_in_kernel
from gateway.ike.path import Path
from gateway.ike.sa import KEEPALIVE

MAX_DATAGRAM_BYTES = 65_535
DATAGRAMS_PER_TURN = 64
_ANCILLARY_BYTES = 128
_IPPROTO_ESP = 50

_log = structlog.get_logger(__name__)

ReceiveIke = Callable[[bytes, Path], None]


class TransportError(OstiaryError):
    """A socket can't be opened."""


class Transport:
    """All sockets of one worker. They are open, and silent, from the start; `start` begins to read them.

    Raises:
        TransportError: a port is taken, or not allowed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: tuple[IPv4Address | IPv6Address, ...],
        ike_port: int,
        natt_port: int,
    ) -> None:
        self._loop = loop
        self._addresses = addresses
        self._ike_port, self._natt_port = ike_port, natt_port
        self._udp: dict[tuple[int, int], socket.socket] = {}
        self._raw: dict[int, socket.socket] = {}
        self._esp_receiver: SegmentReceiver | None = None
        self.send_failures = 0
        """IKE datagrams that the kernel did not take."""
        try:
            for address in addresses:
                for port in (ike_port, natt_port):
                    self._udp[address.version, port] = _open_udp(address, port)
        except BaseException:
            self.close()
            raise

    # --- Who carries ESP ------------------------------------------------------------------------------------

    def leave_esp_to_kernel(self) -> None:
        """Have the kernel take ESP out of what comes to the NAT traversal port, before it gets here.

        And no policy of the kernel holds IKE up from now on, whatever a client's selectors say.

        Raises:
            TransportError: it can't.
        """
        for (_, port), sock in self._udp.items():
            try:
                bypass_policies(sock)
                if port == self._natt_port:
                    decapsulate_in_kernel(sock)
            except OSError as error:
                raise TransportError(
                    f"the kernel can't take ESP from UDP port {port}: {error.strerror}",
                    fix='run the gateway as root, or with CAP_NET_ADMIN, or set gateway.data_plane = "userspace"',
                ) from error

    def open_esp(self) -> EspTransmitter:
        """Carry ESP here: in UDP, and, where that is allowed, plain. What sends it is returned."""
        for address in self._addresses:
            self._open_raw(address)
        return EspTransmitter(self._esp_socket)

    def deliver_esp(self, receiver: SegmentReceiver) -> None:
        """Hand received ESP to this, from `start` on."""
        self._esp_receiver = receiver

    def _open_raw(self, address: IPv4Address | IPv6Address) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_RAW, _IPPROTO_ESP)
        except PermissionError:
            _log.warning("plain ESP is off: no CAP_NET_RAW; clients without NAT must use UDP encapsulation")
            return
        prepare(sock)
        if not address.is_unspecified:
            sock.bind((str(address), 0))
        self._raw[address.version] = sock

    # --- IKE ------------------------------------------------------------------------------------------------

    def start(self, receive_ike: ReceiveIke) -> None:
        """Read from now on: IKE messages go to `receive_ike`, ESP to where `deliver_esp` said."""
        natt_port, esp = self._natt_port, self._esp_receiver

        def receive_natt_ike(data: bytes, local: str, remote: RemoteName) -> None:
            receive_ike(data, Path(local, natt_port, remote[0], remote[1]))

        for (_, port), sock in self._udp.items():
            drain = (
                NatTraversalReceiver(sock, esp, receive_natt_ike).drain
                if port == natt_port and esp is not None
                else partial(self._drain_ike, sock, port, receive_ike)
            )
            self._loop.add_reader(sock.fileno(), drain)
        for sock in self._raw.values():
            if esp is not None:
                self._loop.add_reader(sock.fileno(), RawEspReceiver(sock, esp).drain)

    def _drain_ike(self, sock: socket.socket, port: int, receive_ike: ReceiveIke) -> None:
        """Read the IKE messages of a socket on which no ESP comes."""
        marker = NON_ESP_MARKER if port == self._natt_port else b""
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, ancillary, flags, remote = sock.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier datagram; the socket is fine.
                continue
            if len(data) > len(marker) and data.startswith(marker) and not flags & socket.MSG_TRUNC:
                path = Path(local_address(ancillary), port, remote[0], remote[1])
                receive_ike(data[len(marker) :], path)

    def send_ike(self, datagram: bytes, path: Path) -> None:
        """Send an IKE message or a keepalive along a path, with the non-ESP marker where the port wants it."""
        if path.local_port == self._natt_port and datagram is not KEEPALIVE:
            datagram = NON_ESP_MARKER + datagram
        sock = self._udp.get((path.ip_version, path.local_port))
        if sock is None:
            return
        try:
            sock.sendmsg([datagram], from_address(path.local), 0, (path.remote, path.remote_port))
        except OSError:
            # Full buffer or unreachable: to IKE it is a lost datagram, which the peer will miss.
            self.send_failures += 1

    def _esp_socket(self, endpoints: Endpoints) -> socket.socket | None:
        version = endpoints.local.version
        if endpoints.udp_encapsulation:
            return self._udp.get((version, endpoints.local_port))
        return self._raw.get(version)

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


def _open_udp(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        prepare(sock)
        sock.bind((str(address), port))
    except OSError as error:
        sock.close()
        raise TransportError(
            f"UDP {address} port {port} can't be opened: {error.strerror}",
            fix="stop what holds the port (another IKE daemon?), or set gateway.listen and the ports",
        ) from error
    return sock
