"""Whether the kernel has ESP: asked by making a security association and taking it away again."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

_NETLINK_XFRM = 6
_XFRM_MSG_NEWSA, _XFRM_MSG_DELSA = 0x10, 0x11
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x01, 0x04, 0x200, 0x400
_NLMSG_ERROR = 2
_XFRMA_ALG_AEAD = 18
_XFRM_MODE_TUNNEL = 1
_INFINITE = (1 << 64) - 1
_IPPROTO_ESP = 50
_TIMEOUT_S = 2.0

_NLMSGHDR = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
# struct xfrm_usersa_info of linux/xfrm.h: selector 56 (of zeros: any), id 24, source 16, limits 64, current
# lifetime 32, statistics 12, sequence 4, request 4, family 2, mode 1, replay window 1, flags 1, padding 7.
_USERSA_INFO = struct.Struct("=40xH14x 16s4sB3x 16s 8Q 32x 12x II HBBB7x")
_USERSA_ID = struct.Struct("=16s4sHBx")
_ALGORITHM = struct.Struct("=HH 64sII20s")

_SPI = struct.pack("!I", 0x0577_1A27)
_ADDRESS = IPv4Address("127.0.0.1").packed + bytes(12)
_LIFETIME_S = 2
"""After which the kernel drops the association by itself, should this process die in between."""


@dataclass(frozen=True, slots=True)
class KernelEsp:
    """What the kernel said."""

    available: bool
    reason: str
    """Half a sentence for the operator."""


def kernel_esp() -> KernelEsp:
    """Ask for an ESP association with AES-GCM on the loopback address, which nothing uses, and delete it.

    Loads the kernel's modules for it where there are some. Takes CAP_NET_ADMIN.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM) as netlink:
            netlink.settimeout(_TIMEOUT_S)
            code = _transact(netlink, _XFRM_MSG_NEWSA, _NLM_F_CREATE | _NLM_F_EXCL, _association())
            if code in (0, errno.EEXIST):
                _transact(netlink, _XFRM_MSG_DELSA, 0, _USERSA_ID.pack(_ADDRESS, _SPI, socket.AF_INET, _IPPROTO_ESP))
                return KernelEsp(True, "this kernel has ESP")
    except OSError as error:
        return KernelEsp(False, f"this kernel has no XFRM ({error.strerror or error})")
    if code == errno.EPERM:
        return KernelEsp(False, "the gateway may not use the kernel's ESP (no CAP_NET_ADMIN)")
    if code in (errno.EPROTONOSUPPORT, errno.ENOSYS):
        return KernelEsp(False, "this kernel has no ESP with AES-GCM")
    return KernelEsp(False, f"this kernel refuses an ESP association ({os.strerror(code)})")


def _association() -> bytes:
    limits = (_INFINITE, _INFINITE, _INFINITE, _INFINITE, 0, _LIFETIME_S, 0, 0)
    info = _USERSA_INFO.pack(
        socket.AF_INET, _ADDRESS, _SPI, _IPPROTO_ESP, _ADDRESS, *limits, 0, 0, socket.AF_INET, _XFRM_MODE_TUNNEL, 0, 0
    )
    # The key protects nothing, and is not one that anyone can know.
    return info + _ALGORITHM.pack(_ALGORITHM.size, _XFRMA_ALG_AEAD, b"rfc4106(gcm(aes))", 160, 128, os.urandom(20))


def _transact(netlink: socket.socket, kind: int, flags: int, body: bytes) -> int:
    """Send one request; return the errno that the kernel answers, 0 for success."""
    size = _NLMSGHDR.size + len(body)
    netlink.send(_NLMSGHDR.pack(size, kind, flags | _NLM_F_REQUEST | _NLM_F_ACK, 1, 0) + body)
    answer = netlink.recv(4096)
    _, kind, *_ = _NLMSGHDR.unpack_from(answer)
    if kind != _NLMSG_ERROR:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    (code,) = _ERROR.unpack_from(answer, _NLMSGHDR.size)
    return -int(code)
