"""Network devices, their addresses and routes, by rtnetlink: what both data planes need of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from core.errors import OstiaryError
from gateway.dataplane.interface import Address, Network

_T = TypeVar("_T")
_IFA_F_NODAD = 0x02
_HEADERS_BYTES = {4: 40, 6: 60}
"""IP and TCP, without options: what a segment has less than a packet."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a device is called, what it carries, and which addresses are behind it."""

    name: str
    mtu_bytes: int
    """Of inner packets."""
    pools: tuple[Network, ...]
    """Virtual addresses of clients; routed to the device."""
    sites: tuple[Network, ...] = ()
    """Networks behind site peers; routed to it as well, and none of their addresses is the gateway's."""


def gateway_address(pool: Network) -> Address:
    """The address of a pool that is the gateway's own on the device: its first, and given to no client."""
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


class LinkMissing(Exception):
    """This kernel has no devices of that kind."""


def set_up(settings: LinkSettings, *, queue_packets: int | None = None) -> None:
    """Bring a device up that exists, with the gateway's addresses and the routes to the clients.

    Args:
        queue_packets: how many packets may wait in it.

    Raises:
        OstiaryError: it can't; the message says what.
    """
    _in_thread(partial(_set_up, settings, queue_packets))


def make(settings: LinkSettings, kind: str, *, mark: str, if_id: int = 0) -> None:
    """Make a device, and set it up.

    Args:
        settings: of the device.
        kind: `xfrm` or `dummy`.
        mark: put on it as its alias, so that `remove_marked` finds it.
        if_id: of an `xfrm` device.

    Raises:
        LinkMissing: no devices of that kind here.
        OstiaryError: it can't; nothing is left behind.
    """
    _in_thread(partial(_make, settings, kind, mark, if_id))


def remove_marked(mark: str) -> int:
    """Remove every device that bears the mark, and with it addresses and routes; how many there were.

    Raises:
        OstiaryError: it can't.
    """
    return _in_thread(partial(_remove_marked, mark))


def _in_thread(call: Callable[[], _T]) -> _T:
    """pyroute2 runs an event loop of its own, which the thread of the gateway's loop can't."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(call).result()


def _netlink() -> Any:
    """pyroute2 has no types for what it makes up at run time."""
    from pyroute2 import IPRoute  # 0.2 s to import, and not needed by every command

    return IPRoute()


def _set_up(settings: LinkSettings, queue_packets: int | None) -> None:
    with _netlink() as netlink:
        _configure(netlink, settings, queue_packets)


def _make(settings: LinkSettings, kind: str, mark: str, if_id: int) -> None:
    from pyroute2 import NetlinkError

    with _netlink() as netlink:
        parameters = {"xfrm_if_id": if_id} if if_id else {}
        try:
            netlink.link("add", ifname=settings.name, kind=kind, **parameters)
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                raise LinkMissing(kind) from error
            raise OstiaryError(
                f"the device {settings.name} can't be made: {os.strerror(error.code)}",
                fix=_FIXES.get(error.code, "see what `ip link` says of it, or set another gateway.link_name"),
            ) from error
        index = netlink.link_lookup(ifname=settings.name)[0]
        try:
            netlink.link("set", index=index, ifalias=mark)
            _configure(netlink, settings, None)
        except BaseException:
            netlink.link("del", index=index)
            raise


_FIXES = {
    errno.EPERM: "run the gateway as root, or give it CAP_NET_ADMIN",
    errno.EEXIST: "remove the device of that name, or set another gateway.link_name",
}


def _remove_marked(mark: str) -> int:
    from pyroute2 import NetlinkError

    with _netlink() as netlink:
        marked = [link["index"] for link in netlink.get_links() if link.get_attr("IFLA_IFALIAS") == mark]
        for index in marked:
            try:
                netlink.link("del", index=index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise OstiaryError(
                        f"the device of an earlier gateway can't be removed: {os.strerror(error.code)}",
                        fix=_FIXES.get(error.code, "remove it: `ip link`, `ip link del NAME`"),
                    ) from error
        return len(marked)


def _configure(netlink: Any, settings: LinkSettings, queue_packets: int | None) -> None:
    from pyroute2 import NetlinkError

    if any(network.version == 6 for network in (*settings.pools, *settings.sites)):
        _allow_ipv6(settings.name)
    index = netlink.link_lookup(ifname=settings.name)[0]
    for what, step in _steps(netlink, index, settings, queue_packets):
        try:
            step()
        except NetlinkError as error:
            raise OstiaryError(
                f"the device {settings.name}: can't {what}: {os.strerror(error.code)}",
                fix="see that no other interface has this network, and that IPv6 is on for an IPv6 pool",
            ) from error


def _steps(
    netlink: Any, index: int, settings: LinkSettings, queue_packets: int | None
) -> Iterator[tuple[str, Callable[[], object]]]:
    link = {"index": index, "mtu": settings.mtu_bytes, "state": "up"}
    if queue_packets is not None:
        link["txqlen"] = queue_packets
    yield "bring it up", partial(netlink.link, "set", **link)
    for pool in settings.pools:
        address = gateway_address(pool)
        own = {"address": str(address), "prefixlen": address.max_prefixlen, "index": index}
        if pool.version == 6:
            own["flags"] = _IFA_F_NODAD
        yield f"add the address {address}", partial(netlink.addr, "add", **own)
        # The gateway's own TCP connections to clients have segments that fit into the tunnel from the first one on.
        metrics = {"advmss": settings.mtu_bytes - _HEADERS_BYTES[pool.version]}
        route = {"dst": str(pool), "oif": index, "prefsrc": str(address), "metrics": metrics}
        yield f"add the route {pool}", partial(netlink.route, "add", **route)
    for network in settings.sites:
        yield f"add the route {network}", partial(netlink.route, "add", dst=str(network), oif=index)


def _allow_ipv6(name: str) -> None:
    try:
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
    except OSError:
        # Read-only in containers; the kernel says no when the address is added, if it was off.
        return
