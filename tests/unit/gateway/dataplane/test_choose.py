"""Which data plane, and what the operator is told."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from core.errors import OstiaryError
from core.settings import GatewaySettings, PoolSettings
from gateway.dataplane import choose
from gateway.dataplane.choose import open_data_plane, pool_networks
from gateway.dataplane.kernel_esp import KernelEsp
from gateway.dataplane.links import LinkSettings, gateway_address
from gateway.dataplane.userspace.tun import DeviceGone, TunDevice
from gateway.dataplane.userspace.udp_batch import EspTransmitter
from tests.unit.gateway.dataplane.sides import Loop, MemoryDevice, Side


def opened(monkeypatch: pytest.MonkeyPatch, settings: GatewaySettings, kernel: KernelEsp) -> str:
    """The description of the data plane that is opened with a kernel like this."""
    monkeypatch.setattr(choose, "kernel_esp", lambda: kernel)
    monkeypatch.setattr(TunDevice, "open", lambda settings: MemoryDevice())
    plane = open_data_plane(Loop(), settings, EspTransmitter(lambda endpoints: None), Side())
    assert plane.name == "userspace"
    plane.close()
    return plane.description


def test_auto_says_that_the_kernel_has_no_esp(monkeypatch: pytest.MonkeyPatch) -> None:
    text = opened(monkeypatch, GatewaySettings(), KernelEsp(False, "this kernel has no ESP with AES-GCM"))
    assert text == ("userspace, ESP in Python over the TUN device ostiary0: this kernel has no ESP with AES-GCM")


def test_auto_says_that_the_kernel_plane_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    text = opened(monkeypatch, GatewaySettings(), KernelEsp(True, "this kernel has ESP"))
    assert text.endswith("this kernel has ESP, but this version of Ostiary can't use it yet")


def test_userspace_says_that_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GatewaySettings(data_plane="userspace", link_name="vpn7")
    text = opened(monkeypatch, settings, KernelEsp(True, "unused"))
    assert text == "userspace, ESP in Python over the TUN device vpn7: the settings say so"


def test_kernel_is_refused_with_a_way_out() -> None:
    with pytest.raises(OstiaryError, match="no kernel data plane yet") as caught:
        open_data_plane(
            Loop(),
            GatewaySettings(data_plane="kernel"),
            EspTransmitter(lambda endpoints: None),
            Side(),
        )
    assert caught.value.fix == 'set gateway.data_plane = "auto" or "userspace"'


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
