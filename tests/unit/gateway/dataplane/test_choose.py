"""Which data plane, and what the operator is told."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Literal

import pytest
from structlog.testing import capture_logs

from core.errors import OstiaryError
from core.settings import GatewaySettings, PoolSettings, SitePeerSettings
from gateway.dataplane import choose
from gateway.dataplane.choose import open_data_plane, pool_networks, site_networks
from gateway.dataplane.kernel_esp import KernelEsp
from gateway.dataplane.links import LinkSettings, gateway_address
from gateway.dataplane.userspace.plane import UserspacePlane
from gateway.dataplane.userspace.tun import DeviceGone, TunDevice
from gateway.dataplane.userspace.udp_batch import EspTransmitter, SegmentReceiver
from tests.unit.gateway.dataplane.sides import Loop, MemoryDevice, Side


class Sockets:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def leave_esp_to_kernel(self) -> None:
        self.told.append("leave to the kernel")

    def open_esp(self) -> EspTransmitter:
        self.told.append("open")
        return EspTransmitter(lambda endpoints: None)

    def deliver_esp(self, receiver: SegmentReceiver) -> None:
        self.told.append("deliver")


def opened(monkeypatch: pytest.MonkeyPatch, settings: GatewaySettings, kernel: KernelEsp) -> str:
    """The description of the userspace data plane that is opened with a kernel like this."""
    cleaned: list[GatewaySettings] = []
    sockets = Sockets()
    monkeypatch.setattr(choose, "kernel_esp", lambda: kernel)
    monkeypatch.setattr(choose, "remove_what_a_kernel_plane_left", cleaned.append)
    monkeypatch.setattr(TunDevice, "open", lambda settings: MemoryDevice())
    plane = open_data_plane(Loop(), settings, sockets, Side())
    assert plane.name == "userspace"
    assert cleaned == [settings]
    assert sockets.told == ["open", "deliver"]
    plane.close()
    return plane.description


def test_auto_says_that_the_kernel_has_no_esp(monkeypatch: pytest.MonkeyPatch) -> None:
    text = opened(monkeypatch, GatewaySettings(), KernelEsp(False, "this kernel has no ESP with AES-GCM"))
    assert text == ("userspace, ESP in Python over the TUN device ostiary0: this kernel has no ESP with AES-GCM")


def test_userspace_says_that_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GatewaySettings(data_plane="userspace", link_name="vpn7")
    text = opened(monkeypatch, settings, KernelEsp(True, "unused"))
    assert text == "userspace, ESP in Python over the TUN device vpn7: the settings say so"


@pytest.mark.parametrize("asked", ["auto", "kernel"])
def test_the_kernel_is_taken_where_it_has_esp(
    monkeypatch: pytest.MonkeyPatch, asked: Literal["auto", "kernel"]
) -> None:
    opened: list[LinkSettings] = []
    sockets, kernel_plane = Sockets(), Side().plane

    def open_it(loop: object, settings: object, link: LinkSettings, events: object, why: str) -> UserspacePlane:
        opened.append(link)
        assert why == "this kernel has ESP"
        return kernel_plane

    monkeypatch.setattr(choose, "kernel_esp", lambda: KernelEsp(True, "this kernel has ESP", missing=("AES_CBC",)))
    monkeypatch.setattr(choose, "open_kernel_plane", open_it)
    with capture_logs() as logs:
        plane = open_data_plane(Loop(), GatewaySettings(data_plane=asked), sockets, Side())
    assert plane is kernel_plane
    assert sockets.told == ["leave to the kernel"]
    assert [link.name for link in opened] == ["ostiary0"]
    assert [entry["lacks"] for entry in logs] == [("AES_CBC",)]


def test_the_kernel_plane_is_closed_where_the_sockets_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Sockets):
        def leave_esp_to_kernel(self) -> None:
            raise OstiaryError("no")

    side = Side()
    monkeypatch.setattr(choose, "kernel_esp", lambda: KernelEsp(True, "this kernel has ESP"))
    monkeypatch.setattr(choose, "open_kernel_plane", lambda *arguments: side.plane)
    with pytest.raises(OstiaryError, match="no"):
        open_data_plane(Loop(), GatewaySettings(), Refusing(), Side())
    assert side.device.closed


def test_kernel_is_refused_where_it_has_no_esp(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KernelEsp(False, "this kernel has no ESP with AES-GCM", "modprobe esp4")
    monkeypatch.setattr(choose, "kernel_esp", lambda: kernel)
    with pytest.raises(OstiaryError, match="this kernel has no ESP with AES-GCM") as caught:
        open_data_plane(Loop(), GatewaySettings(data_plane="kernel"), Sockets(), Side())
    assert caught.value.fix == "modprobe esp4"


def test_every_network_of_every_pool_is_routed() -> None:
    settings = GatewaySettings(
        pools=(
            PoolSettings(name="a", ipv4=IPv4Network("10.1.0.0/16")),
            PoolSettings(name="b", ipv4=IPv4Network("10.2.0.0/16"), ipv6=IPv6Network("fd02::/64")),
        )
    )
    assert pool_networks(settings) == (
        IPv4Network("10.1.0.0/16"),
        IPv4Network("10.2.0.0/16"),
        IPv6Network("fd02::/64"),
    )


def test_every_network_of_every_site_is_routed(monkeypatch: pytest.MonkeyPatch) -> None:
    file, networks = Path("/etc/ostiary/branch.key"), (IPv4Network("10.20.0.0/16"), IPv6Network("fd20::/48"))
    site = SitePeerSettings(name="branch", identity="branch.example", secret_file=file, networks=networks)
    settings = GatewaySettings(site_peers=(site,))
    assert site_networks(settings) == networks
    opened: list[LinkSettings] = []
    monkeypatch.setattr(choose, "kernel_esp", lambda: KernelEsp(True, "this kernel has ESP"))
    monkeypatch.setattr(choose, "open_kernel_plane", lambda *arguments: opened.append(arguments[2]))
    open_data_plane(Loop(), settings, Sockets(), Side())
    assert [(link.pools, link.sites) for link in opened] == [(pool_networks(settings), networks)]


@pytest.mark.parametrize(
    ("pool", "address"),
    [
        ("10.99.0.0/20", "10.99.0.1"),
        ("10.99.0.0/30", "10.99.0.1"),
        ("10.99.0.4/31", "10.99.0.4"),
        ("10.99.0.7/32", "10.99.0.7"),
        ("fd99::/112", "fd99::1"),
        ("fd99::5/128", "fd99::5"),
    ],
)
def test_the_gateway_has_the_first_address_of_a_pool(pool: str, address: str) -> None:
    assert gateway_address(ip_network(pool)) == ip_address(address)


def test_a_device_that_is_gone_says_so() -> None:
    device = TunDevice(-1, LinkSettings("gone", 1400, ()))
    with pytest.raises(DeviceGone):
        device.read()
    assert not device.write([b"packet"])
    device.close()
