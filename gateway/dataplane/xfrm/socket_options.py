"""What the kernel's ESP asks of the sockets that carry IKE."""

from __future__ import annotations

import socket

from gateway.dataplane.xfrm.structures import (
    LIFETIME_CURRENT,
    LIFETIME_LIMITS,
    POLICY_TAIL,
    SELECTOR,
    UDP_ENCAP_ESPINUDP,
    Action,
    Direction,
)

_UDP_ENCAP = 100
_IP_XFRM_POLICY, _IPV6_XFRM_POLICY = 17, 35


def bypass_policies(sock: socket.socket) -> None:
    """Let what the socket sends and receives pass as it is, whatever policies there are. Takes CAP_NET_ADMIN.

    Raises:
        OSError: it can't.
    """
    level, option = (
        (socket.IPPROTO_IP, _IP_XFRM_POLICY)
        if sock.family == socket.AF_INET
        else (socket.IPPROTO_IPV6, _IPV6_XFRM_POLICY)
    )
    any_packet = SELECTOR.pack(bytes(16), bytes(16), *[bytes(2)] * 4, sock.family, 0, 0, 0, 0, 0)
    limits = bytes(LIFETIME_LIMITS.size + LIFETIME_CURRENT.size)
    for direction in (Direction.IN, Direction.OUT):
        sock.setsockopt(level, option, any_packet + limits + POLICY_TAIL.pack(0, 0, direction, Action.ALLOW, 0, 0))


def decapsulate_in_kernel(sock: socket.socket) -> None:
    """Have the kernel take ESP in UDP (RFC 3948) off the socket: what is left begins with the non-ESP marker.

    Raises:
        OSError: it can't.
    """
    sock.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, UDP_ENCAP_ESPINUDP)
