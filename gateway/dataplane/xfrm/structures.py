"""The structures of linux/xfrm.h, as they cross the netlink socket. Their sizes are the kernel's promise.

Numbers are in the byte order of the machine, but for addresses, SPIs and ports, which are in that of the network.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from gateway.dataplane.interface import Address

NETLINK_XFRM = 6
IPPROTO_ESP = 50
MODE_TUNNEL = 1
INFINITE = (1 << 64) - 1
UDP_ENCAP_ESPINUDP = 2
MAX_REPLAY_WINDOW_PACKETS = 4096


class Command(IntEnum):
    """XFRM_MSG_*."""

    NEWSA = 0x10
    DELSA = 0x11
    GETSA = 0x12
    NEWPOLICY = 0x13
    DELPOLICY = 0x14
    GETPOLICY = 0x15
    EXPIRE = 0x18
    UPDPOLICY = 0x19
    UPDSA = 0x1A
    NEWSPDINFO = 0x24
    GETSPDINFO = 0x25
    MAPPING = 0x26


class Attribute(IntEnum):
    """XFRMA_*, those that are used here."""

    ALG_CRYPT = 2
    ENCAP = 4
    TMPL = 5
    SA = 6
    LTIME_VAL = 9
    LASTUSED = 15
    ALG_AEAD = 18
    ALG_AUTH_TRUNC = 20
    REPLAY_ESN_VAL = 23
    IF_ID = 31
    MTIMER_THRESH = 32


class Group(IntEnum):
    """XFRMNLGRP_*, those that are listened to."""

    EXPIRE = 2
    SA = 3
    MAPPING = 8


class Direction(IntEnum):
    """XFRM_POLICY_*."""

    IN = 0
    OUT = 1
    FWD = 2


class Action(IntEnum):
    """XFRM_POLICY_ALLOW and XFRM_POLICY_BLOCK."""

    ALLOW = 0
    BLOCK = 1


STATE_AF_UNSPEC, STATE_ESN = 32, 128

SELECTOR = struct.Struct("=16s16s 2s2s2s2s HBBB 3x iI")
"""struct xfrm_selector: destination, source; destination port and mask, source port and mask; family, prefix lengths
of destination and source, protocol; interface, user."""
ID = struct.Struct("=16s4sB3x")
"""struct xfrm_id: destination, SPI, protocol."""
LIFETIME_LIMITS = struct.Struct("=8Q")
"""struct xfrm_lifetime_cfg: soft and hard bytes, soft and hard packets, soft and hard seconds since it was added,
soft and hard seconds since it was first used."""
LIFETIME_CURRENT = struct.Struct("=4Q")
"""struct xfrm_lifetime_cur: bytes, packets, when added, when first used (seconds of the wall clock)."""
STATISTICS = struct.Struct("=III")
"""struct xfrm_stats: too old for the window, replayed, not authentic."""
STATE_TAIL = struct.Struct("=II HBBB 7x")
"""End of struct xfrm_usersa_info: sequence, reqid; family, mode, small replay window, flags."""
STATE_BYTES = SELECTOR.size + ID.size + 16 + LIFETIME_LIMITS.size + LIFETIME_CURRENT.size + STATISTICS.size + 20
STATE_ID = struct.Struct("=16s4sHBx")
"""struct xfrm_usersa_id: destination, SPI, family, protocol."""
POLICY_TAIL = struct.Struct("=II BBBB 4x")
"""End of struct xfrm_userpolicy_info: priority, index; direction, action, flags, share."""
POLICY_BYTES = SELECTOR.size + LIFETIME_LIMITS.size + LIFETIME_CURRENT.size + POLICY_TAIL.size
POLICY_ID_TAIL = struct.Struct("=IB3x")
"""End of struct xfrm_userpolicy_id: index, direction."""
TEMPLATE = struct.Struct("=16s4sB3x H2x 16s I BBBx III")
"""struct xfrm_user_tmpl: xfrm_id; family; source; reqid; mode, share, optional; algorithms that may authenticate,
encrypt, compress."""
ENCAPSULATION = struct.Struct("=H2s2s2x16s")
"""struct xfrm_encap_tmpl: type, source port, destination port, original address."""
REPLAY_ESN = struct.Struct("=6I")
"""struct xfrm_replay_state_esn without its bitmap: words of the bitmap; low halves of the last sent and the highest
received number, then their high halves; packets in the window."""
ALGORITHM = struct.Struct("=64sI")
"""struct xfrm_algo: name, bits of the key that follows."""
ALGORITHM_ICV = struct.Struct("=64sII")
"""struct xfrm_algo_auth and xfrm_algo_aead: name, bits of the key that follows, bits of the ICV."""
EXPIRE_TAIL = struct.Struct("=B7x")
"""End of struct xfrm_user_expire: hard."""
MAPPING_TAIL = struct.Struct("=I16s16s2s2s")
"""End of struct xfrm_user_mapping, after xfrm_usersa_id: reqid, old and new source, old and new source port."""


def family_of(address: Address) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def pack_address(address: Address) -> bytes:
    """xfrm_address_t: 16 octets, an IPv4 address in the first four."""
    return address.packed.ljust(16, b"\0")


def unpack_address(raw: bytes, family: int) -> Address:
    """The address in an xfrm_address_t; IPv4 for every family that is not IPv6."""
    return IPv6Address(raw) if family == socket.AF_INET6 else IPv4Address(raw[:4])


def pack_port(port: int) -> bytes:
    """A port, or its mask, in the byte order of the network."""
    return port.to_bytes(2, "big")
