"""Which data plane this machine gets, and why, in words for the operator."""

from __future__ import annotations

from typing import Protocol

import structlog

from core.errors import OstiaryError
from core.settings import GatewaySettings
from gateway.dataplane.interface import DataPlane, DataPlaneEvents, Network
from gateway.dataplane.kernel_esp import KernelEsp, kernel_esp
from gateway.dataplane.links import LinkSettings
from gateway.dataplane.userspace.plane import Loop, UserspacePlane
from gateway.dataplane.userspace.tun import TunDevice
from gateway.dataplane.userspace.udp_batch import EspTransmitter, SegmentReceiver
from gateway.dataplane.xfrm.opening import open_kernel_plane, remove_what_a_kernel_plane_left

_log = structlog.get_logger(__name__)


class EspSockets(Protocol):
    """The gateway's sockets, of which some carry ESP; `Transport` is one."""

    def leave_esp_to_kernel(self) -> None:
        """ESP never comes to the sockets; the kernel takes it out of the UDP datagrams by itself.

        Raises:
            OstiaryError: the kernel can't.
        """

    def open_esp(self) -> EspTransmitter:
        """Send and receive ESP here."""

    def deliver_esp(self, receiver: SegmentReceiver) -> None:
        """Where received ESP goes, once reading begins."""


def open_data_plane(loop: Loop, settings: GatewaySettings, sockets: EspSockets, events: DataPlaneEvents) -> DataPlane:
    """Open the data plane that the settings ask for.

    Args:
        loop: watches what the data plane reads, and times lifetimes.
        settings: of the gateway.
        sockets: told whether ESP is theirs to carry, or the kernel's.
        events: told when a client's NAT gave it another address or port, and of lifetimes.

    Raises:
        OstiaryError: it can't be had on this machine, with what to do about it.
    """
    kernel = kernel_esp() if settings.data_plane != "userspace" else KernelEsp(False, "the settings say so")
    link = LinkSettings(
        settings.link_name, settings.tunnel_mtu_bytes, pool_networks(settings), site_networks(settings)
    )
    if kernel.available:
        if kernel.missing:
            _log.warning("this kernel can't do all of ESP; child SAs that need it are refused", lacks=kernel.missing)
        plane = open_kernel_plane(loop, settings, link, events, kernel.reason)
        try:
            sockets.leave_esp_to_kernel()
        except BaseException:
            plane.close()
            raise
        return plane
    if settings.data_plane == "kernel":
        raise OstiaryError(f'gateway.data_plane = "kernel": {kernel.reason}', fix=kernel.fix)
    return _open_userspace_plane(loop, settings, link, sockets, events, kernel.reason)


def _open_userspace_plane(
    loop: Loop,
    settings: GatewaySettings,
    link: LinkSettings,
    sockets: EspSockets,
    events: DataPlaneEvents,
    why: str,
) -> UserspacePlane:
    remove_what_a_kernel_plane_left(settings)
    device = TunDevice.open(link)
    plane = UserspacePlane(
        loop,
        device,
        sockets.open_esp(),
        events,
        description=f"userspace, ESP in Python over the TUN device {link.name}: {why}",
    )
    sockets.deliver_esp(plane)
    return plane


def pool_networks(settings: GatewaySettings) -> tuple[Network, ...]:
    """Every network of every pool, as it is routed to the clients."""
    return tuple(network for pool in settings.pools for network in (pool.ipv4, pool.ipv6) if network is not None)


def site_networks(settings: GatewaySettings) -> tuple[Network, ...]:
    """Every network behind a site peer, whether that is connected or not: nothing goes there but through a tunnel."""
    return tuple(network for site in settings.site_peers for network in site.networks)
