"""UDP sockets that answer from the address that was asked: a client takes answers from no other."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

from core.errors import OstiaryError
from core.settings.values import Address

IPV4_PACKET_INFORMATION = 8
"""IP_PKTINFO of <linux/in.h>."""
BUFFER_BYTES = 1 << 20
"""So that a burst of clients (an access point that comes back) waits in the kernel and is not lost."""
_INFORMATION_V4 = struct.Struct("=I4s4s")
_INFORMATION_V6 = struct.Struct("=16sI")

Ancillary = list[tuple[int, int, bytes]]


class SocketError(OstiaryError):
    """A port can't be opened."""


def open_socket(address: Address, port: int) -> socket.socket:
    """A socket that does not block and tells to which address each datagram came.

    Raises:
        SocketError: it can't be opened.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if address.version == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, IPV4_PACKET_INFORMATION, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        opened.setblocking(False)
        opened.bind((str(address), port))
    except OSError as error:
        opened.close()
        raise SocketError(
            f"UDP {address} port {port} for RADIUS can't be opened: {error.strerror}",
            fix="stop what holds the port (another RADIUS server?), or set radius.listen and the ports",
        ) from error
    return opened


def asked_address(ancillary: Ancillary) -> str:
    """To which address a datagram came, by what `recvmsg` says beside it; empty where it says nothing."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IPV4_PACKET_INFORMATION:
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""


def from_address(local: str) -> Ancillary:
    """What `sendmsg` is given for a datagram to leave from an address of ours."""
    if not local:
        return []
    address = ip_address(local)
    if address.version == 4:
        return [(socket.IPPROTO_IP, IPV4_PACKET_INFORMATION, _INFORMATION_V4.pack(0, address.packed, bytes(4)))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _INFORMATION_V6.pack(address.packed, 0))]
