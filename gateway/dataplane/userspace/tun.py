"""The TUN device: where inner packets leave for the network and come from it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from core.errors import OstiaryError
from gateway.dataplane.interface import Address, Network
from gateway.dataplane.userspace.offload import VNET_HEADER_BYTES, Parts

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")
_IFA_F_NODAD = 0x02

QUEUE_PACKETS = 1000
"""Packets that wait for us in the kernel: some 8 ms at 1.4 Gbit/s; the kernel's 500 drop a burst of one stream."""


@dataclass(frozen=True, slots=True)
class TunSettings:
    """What the device is called, what it carries, and which addresses are behind it."""

    name: str
    mtu_bytes: int
    """Of inner packets."""
    pools: tuple[Network, ...]
    """Virtual addresses of clients; routed to the device."""


def gateway_address(pool: Network) -> Address:
    """The address of a pool that is the gateway's own on the TUN device: its first, and given to no client."""
    first = pool.network_address
    return ip_address(int(first) + 1) if pool.num_addresses > 2 else first


def forwarding_enabled() -> tuple[bool, bool]:
    """Whether the kernel forwards IPv4 and IPv6 between interfaces; turning it on is the operator's decision."""
    return _is_one("/proc/sys/net/ipv4/ip_forward"), _is_one("/proc/sys/net/ipv6/conf/all/forwarding")


def _is_one(path: str) -> bool:
    try:
        return Path(path).read_text().strip() == "1"
    except OSError:
        return False


class DeviceGone(Exception):
    """Someone deleted the device from under us."""


class TunDevice:
    """An open TUN device with its addresses and routes.

    The kernel segments what is larger than the MTU before it reaches us, checksums included: doing that here was
    measured to cost more than the read calls it saves. Towards the kernel, packets may be large (see `offload`).

    The device is not persistent, so it and all that hangs on it is gone once it is closed, or the process ends.
    """

    def __init__(self, descriptor: int, settings: TunSettings) -> None:
        self._descriptor = descriptor
        # A packet that does not fit is cut off by the kernel and then refused by its own length field.
        self._read_bytes = VNET_HEADER_BYTES + settings.mtu_bytes

    @classmethod
    def open(cls, settings: TunSettings) -> TunDevice:
        """Make the device and set it up.

        Raises:
            OstiaryError: no TUN here, no permission, or a name or network that is taken; nothing is left behind.
        """
        descriptor = _create(settings.name)
        try:
            # pyroute2 runs an event loop of its own, which the thread of the gateway's loop can't.
            with ThreadPoolExecutor(max_workers=1) as executor:
                executor.submit(_configure, settings).result()
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, settings)

    def fileno(self) -> int:
        """For the event loop."""
        return self._descriptor

    def read(self) -> bytes | None:
        """The next packet for a client; None when there is none for now.

        Raises:
            DeviceGone: there will never be one again.
        """
        try:
            return os.read(self._descriptor, self._read_bytes)[VNET_HEADER_BYTES:]
        except BlockingIOError:
            return None
        except OSError as error:
            raise DeviceGone(os.strerror(error.errno or 0)) from error

    def write(self, parts: Parts) -> bool:
        """Hand one packet to the kernel; False where it did not take it."""
        try:
            os.writev(self._descriptor, parts)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Remove the device, and with it addresses and routes."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _create(name: str) -> int:
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OstiaryError(
            f"the userspace data plane can't open {_DEVICE}: {error.strerror}",
            fix=f"`modprobe tun`, or `--device {_DEVICE}` for a container, and run as root",
        ) from error
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    except OSError as error:
        os.close(descriptor)
        fixes = {
            errno.EPERM: "run the gateway as root, or give it CAP_NET_ADMIN",
            errno.EBUSY: "stop the other gateway, or set another gateway.tun_name",
        }
        raise OstiaryError(
            f"the TUN device {name} can't be made: {error.strerror}",
            fix=fixes.get(error.errno or 0, "set another gateway.tun_name"),
        ) from error
    return descriptor


def _configure(settings: TunSettings) -> None:
    from pyroute2 import IPRoute, NetlinkError  # 0.2 s to import, and only needed with this data plane

    if any(pool.version == 6 for pool in settings.pools):
        _allow_ipv6(settings.name)
    # pyroute2 has no types for what it makes up at run time.
    netlink: Any = IPRoute()
    with netlink:
        index = netlink.link_lookup(ifname=settings.name)[0]
        for what, step in _steps(netlink, index, settings):
            try:
                step()
            except NetlinkError as error:
                raise OstiaryError(
                    f"the TUN device {settings.name}: can't {what}: {os.strerror(error.code)}",
                    fix="see that no other interface has this network, and that IPv6 is on for an IPv6 pool",
                ) from error


def _steps(netlink: Any, index: int, settings: TunSettings) -> Iterator[tuple[str, Callable[[], object]]]:
    link = {"index": index, "mtu": settings.mtu_bytes, "txqlen": QUEUE_PACKETS, "state": "up"}
    yield "bring it up", partial(netlink.link, "set", **link)
    for pool in settings.pools:
        address = gateway_address(pool)
        own = {"address": str(address), "prefixlen": address.max_prefixlen, "index": index}
        if pool.version == 6:
            own["flags"] = _IFA_F_NODAD
        yield f"add the address {address}", partial(netlink.addr, "add", **own)
        route = {"dst": str(pool), "oif": index, "prefsrc": str(address)}
        yield f"add the route {pool}", partial(netlink.route, "add", **route)


def _allow_ipv6(name: str) -> None:
    try:
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
    except OSError:
        # Read-only in containers; the kernel says no when the address is added, if it was off.
        return
