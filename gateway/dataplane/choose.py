"""Which data plane this machine gets, and why, in words for the operator."""

from __future__ import annotations

from typing import Protocol

from core.errors import OstiaryError
from core.settings import GatewaySettings
from gateway.dataplane.interface import DataPlane, DataPlaneEvents, Network
from gateway.dataplane.kernel_esp import kernel_esp
from gateway.dataplane.links import LinkSettings
from gateway.dataplane.userspace.plane import Loop, UserspacePlane
from gateway.dataplane.userspace.tun import TunDevice
from gateway.dataplane.userspace.udp_batch import EspTransmitter


class OpenDataPlane(DataPlane, Protocol):
    """A data plane at work, with what the gateway's sockets hand to it."""

    def receive_segments(
        self, packets: memoryview, segment_bytes: int, remote: tuple[str, int], udp_encapsulated: bool
    ) -> None:
        """ESP packets of one sender, one after the other, each `segment_bytes` long but for a shorter last one.

        What can't be used is counted and dropped.
        """

    def flush(self) -> None:
        """No more packets are at hand: pass on what `receive_segments` held back to join it with more."""


def open_data_plane(
    loop: Loop,
    settings: GatewaySettings,
    transmitter: EspTransmitter,
    events: DataPlaneEvents,
) -> OpenDataPlane:
    """Open the data plane that the settings ask for.

    Args:
        loop: watches the TUN device of the userspace data plane, and times lifetimes.
        transmitter: sends ESP packets from the gateway's sockets.
        events: told when a client's NAT gave it another address or port, and of lifetimes.

    Raises:
        OstiaryError: it can't be had on this machine, with what to do about it.
    """
    if settings.data_plane == "kernel":
        raise OstiaryError(
            'gateway.data_plane = "kernel": this version of Ostiary has no kernel data plane yet',
            fix='set gateway.data_plane = "auto" or "userspace"',
        )
    device = TunDevice.open(LinkSettings(settings.link_name, settings.tunnel_mtu_bytes, pool_networks(settings)))
    return UserspacePlane(
        loop,
        device,
        transmitter,
        events,
        description=f"userspace, ESP in Python over the TUN device {settings.link_name}: {_why(settings)}",
    )


def pool_networks(settings: GatewaySettings) -> tuple[Network, ...]:
    """Every network of every pool, as it is routed to the clients."""
    return tuple(network for pool in settings.pools for network in (pool.ipv4, pool.ipv6) if network is not None)


def _why(settings: GatewaySettings) -> str:
    if settings.data_plane == "userspace":
        return "the settings say so"
    kernel = kernel_esp()
    if kernel.available:
        return f"{kernel.reason}, but this version of Ostiary can't use it yet"
    return kernel.reason
