"""What is the gateway's and what is not: leftovers of a killed one, other programs' IPsec, refusals of the kernel."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest

from core.errors import OstiaryError
from core.settings import PoolSettings
from gateway.dataplane.choose import pool_networks
from gateway.dataplane.interface import DataPlaneError
from gateway.dataplane.links import LinkSettings
from gateway.dataplane.xfrm.hashing import BY_REMOTE_ADDRESS, KERNELS_OWN
from gateway.dataplane.xfrm.opening import open_kernel_plane, remove_what_a_kernel_plane_left
from gateway.dataplane.xfrm.ownership import AlreadyOwned
from gateway.dataplane.xfrm.structures import Command
from tests.kernel.guest.planes import (
    CLIENT,
    CLIENT_INNER,
    CLIENT_INNER_6,
    GATEWAY,
    GATEWAY_OWN,
    SERVER,
    SERVER_6,
    Planes,
    Road,
    Told,
    build_road,
    child_sa,
    other_owner,
    selectors_of,
)
from tests.lab.namespaces import Lab, Namespace
from tests.lab.xfrm import kernel_sas, policies

pytestmark = [pytest.mark.interop, pytest.mark.guest(name="without the gateway")]

OTHERS_STATE = ("src", "192.0.2.7", "dst", "192.0.2.8", "proto", "esp", "spi", "0x77")
OTHERS_KEY = ("aead", "rfc4106(gcm(aes))", "0x" + "5a" * 20, "128")


@pytest.fixture(scope="module")
def road(lab: Lab) -> Road:
    """One for all."""
    return build_road(lab)


@pytest.fixture(params=["on", "off"])
def planes(road: Road, request: pytest.FixtureRequest) -> Iterator[Planes]:
    """Fresh ones for each test, with and without an XFRM interface."""
    with Planes(road, xfrm_interface=request.param) as planes:
        yield planes


@pytest.fixture
def others(road: Road) -> Iterator[list[str]]:
    """Another program's state and policy in the gateway's namespace; its policies."""
    gateway = road.gateway
    gateway.ip("xfrm", "state", "add", *OTHERS_STATE, "reqid", "1", "mode", "tunnel", *OTHERS_KEY)
    template = ("tmpl", "src", "192.0.2.7", "dst", "192.0.2.8", "proto", "esp", "reqid", "1", "mode", "tunnel")
    gateway.ip("xfrm", "policy", "add", "src", "10.50.0.0/16", "dst", "10.60.0.0/16", "dir", "out", *template)
    gateway.ip("xfrm", "policy", "add", "src", "10.51.0.0/16", "dst", "10.61.0.0/16", "dir", "in", "action", "block")
    yield policies(gateway)
    gateway.ip("xfrm", "state", "flush")
    gateway.ip("xfrm", "policy", "flush")


def everything(gateway: Namespace) -> tuple[set[str], list[str], int]:
    """Devices, policies and states of a namespace."""
    return gateway.links(), sorted(policies(gateway)), len(kernel_sas(gateway))


def die(gateway: Namespace, xfrm_interface: str) -> None:
    """Leave behind what a killed gateway does."""
    gateway.run(sys.executable, "-m", "tests.kernel.guest.killed_plane", xfrm_interface, timeout_s=60, check=False)


# --- After a crash ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xfrm_interface", ["on", "off"])
def test_what_a_killed_gateway_left_is_gone_when_the_next_one_is_up(
    road: Road, others: list[str], xfrm_interface: str
) -> None:
    before = everything(road.gateway)
    die(road.gateway, xfrm_interface)
    assert len(kernel_sas(road.gateway)) == 3
    assert "vpn0" in road.gateway.links()
    assert len(policies(road.gateway)) > len(others) + 10
    with Planes(road, xfrm_interface="auto") as planes:
        assert len(kernel_sas(road.gateway)) == 1
        planes.install(child_sa())
        assert planes.path().carries()
    assert everything(road.gateway) == before


def test_a_userspace_plane_finds_no_policies_of_a_killed_one_in_its_way(road: Road, others: list[str]) -> None:
    before = everything(road.gateway)
    die(road.gateway, "off")
    settings = Planes(road).settings
    road.gateway.call(lambda: remove_what_a_kernel_plane_left(settings))
    assert everything(road.gateway) == before
    assert policies(road.gateway) == others


def test_nothing_is_taken_from_a_living_gateway(planes: Planes) -> None:
    planes.install(child_sa())
    with pytest.raises(AlreadyOwned, match=r"another gateway on this machine has gateway.xfrm_id = 111") as refused:
        planes.road.gateway.call(planes.open_gateway)
    assert "another gateway.xfrm_id" in str(refused.value.fix)
    planes.road.gateway.call(lambda: remove_what_a_kernel_plane_left(planes.settings))
    assert planes.path().carries()


def test_two_gateways_with_different_numbers_live_side_by_side(planes: Planes) -> None:
    other_pool = PoolSettings(name="other", ipv4=IPv4Network("10.98.0.0/24"))
    settings = planes.settings.model_copy(update={"xfrm_id": 112, "link_name": "vpn1", "pools": (other_pool,)})
    device = LinkSettings("vpn1", 1400, pool_networks(settings))
    gateway = planes.road.gateway
    planes.install(child_sa())
    before = everything(gateway)
    second = gateway.call(lambda: open_kernel_plane(planes.loop, settings, device, Told(), "for a test"))
    # The same lineage, but another gateway's.
    second.install(child_sa(number=1, remote_selectors=selectors_of("10.98.0.2/32")))
    assert len(kernel_sas(gateway)) == 4
    assert planes.path().carries()
    gateway.call(second.close)
    assert everything(gateway) == before
    assert planes.path().carries()


def test_closing_leaves_nothing(road: Road, others: list[str]) -> None:
    before = everything(road.gateway)
    with Planes(road) as planes:
        planes.install(child_sa())
        planes.install(child_sa(number=1, lineage=2))
        assert everything(road.gateway) != before
    assert everything(road.gateway) == before
    assert policies(road.gateway) == others


def test_policies_are_found_by_the_clients_address_and_the_kernels_own_way_comes_back(road: Road) -> None:
    """A packet's way to its policy must not become longer with each client."""
    with other_owner(road.gateway) as other:
        for left in (KERNELS_OWN, BY_REMOTE_ADDRESS):
            other.execute([(Command.NEWSPDINFO, left.to_bytes())])
            with Planes(road):
                assert other.hash_thresholds() == BY_REMOTE_ADDRESS
            assert other.hash_thresholds() == KERNELS_OWN


# --- Refusals -----------------------------------------------------------------------------------------------


def test_an_spi_of_another_program_is_refused(planes: Planes) -> None:
    gateway, child = planes.road.gateway, child_sa()
    idle = policies(gateway)
    taken = ("src", CLIENT, "dst", GATEWAY, "proto", "esp", "spi", hex(child.spi_in))
    gateway.ip("xfrm", "state", "add", *taken, "reqid", "1", "mode", "tunnel", *OTHERS_KEY)
    with pytest.raises(DataPlaneError, match=r"child SA c0de0001: inbound SPI c0de0001 to 198\.51\.100\.1 is in use"):
        planes.gateway.install(child)
    assert [sa.reqid for sa in kernel_sas(gateway)] == [1]
    assert policies(gateway) == idle
    assert planes.gateway.counters(child.spi_in) is None
    gateway.ip("xfrm", "state", "flush")
    planes.install(child)
    assert planes.path().carries()


def test_an_spi_of_our_own_is_refused_and_goes_on(planes: Planes) -> None:
    child = child_sa()
    planes.install(child)
    with pytest.raises(DataPlaneError, match="child SA c0de0001 exists already"):
        planes.gateway.install(child)
    with pytest.raises(DataPlaneError, match=r"SPI c11e0001 to 198\.51\.100\.2 is in use"):
        planes.gateway.install(child_sa(number=1, spi_out=child.spi_out))
    assert planes.path().carries()
    assert len(kernel_sas(planes.road.gateway)) == 2


def test_a_policy_of_another_program_is_refused_and_left_alone(planes: Planes) -> None:
    gateway = planes.road.gateway
    interface = [] if "policies" in planes.gateway.description else ["if_id", hex(111 << 24)]
    theirs = ("src", "10.1.0.0/16", "dst", f"{CLIENT_INNER}/32", "dir", "out")
    gateway.ip("xfrm", "policy", "add", *theirs, "action", "block", *interface)
    idle = policies(gateway)
    with pytest.raises(DataPlaneError, match="another program on this machine has an IPsec policy for the same"):
        planes.gateway.install(child_sa())
    assert sorted(policies(gateway)) == sorted(idle)
    assert kernel_sas(gateway) == []
    gateway.ip("xfrm", "policy", "delete", *theirs, *interface)
    planes.install(child_sa())
    assert planes.path().carries()


def test_a_device_of_that_name_is_refused_and_nothing_stays(road: Road) -> None:
    road.gateway.ip("link", "add", "vpn0", "type", "dummy")
    before = everything(road.gateway)
    planes = Planes(road)
    with pytest.raises(OstiaryError, match="the device vpn0 can't be made: File exists") as refused:
        road.gateway.call(planes.open_gateway)
    assert "another gateway.link_name" in str(refused.value.fix)
    assert everything(road.gateway) == before
    road.gateway.ip("link", "delete", "vpn0")


def test_without_the_right_the_reason_is_said(road: Road) -> None:
    script = (
        "from core.errors import OstiaryError\n"
        "from core.settings import GatewaySettings\n"
        "from gateway.dataplane.choose import open_data_plane\n"
        "try: open_data_plane(None, GatewaySettings(data_plane='kernel'), None, None)\n"
        "except OstiaryError as error: print(error)\n"
    )
    answer = road.gateway.run(
        *("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"),
        *(sys.executable, "-c", script),
        timeout_s=60,
    )
    assert answer.splitlines() == [
        'gateway.data_plane = "kernel": the gateway may not use the kernel\'s ESP (no CAP_NET_ADMIN)',
        "  fix: run the gateway as root, or give it CAP_NET_ADMIN",
    ]


# --- Nothing in the clear -----------------------------------------------------------------------------------


def test_no_packet_of_a_client_comes_in_without_esp(planes: Planes) -> None:
    """Were it let in, whoever can send to the gateway could do so in a client's name."""
    client = planes.road.client
    client.ip("xfrm", "policy", "flush")
    assert not planes.path().up()
    assert not planes.path(SERVER_6).up()
    assert not planes.path(GATEWAY_OWN).up()
    planes.gateway.install(child_sa())
    assert not planes.path().up()
    assert not planes.path(GATEWAY_OWN).up()


def test_no_packet_to_a_client_leaves_without_esp(planes: Planes) -> None:
    def watch() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind(("outside", 0))
        sock.settimeout(0.2)
        return sock

    with planes.road.gateway.call(watch) as raw:
        for server in (SERVER, SERVER_6, GATEWAY_OWN):
            path = planes.path(server)
            assert not path.down(b"in the clear")
        planes.gateway.install(child_sa(remote_selectors=selectors_of("10.99.0.3/32")))
        assert not planes.path().down(b"in the clear")
        frames = []
        try:
            while True:
                frames.append(raw.recv(2000))
        except TimeoutError:
            pass
    assert not [frame for frame in frames if b"in the clear" in frame]


def test_the_gateway_reaches_its_own_address(planes: Planes) -> None:
    assert planes.road.gateway.ping(GATEWAY_OWN) == 1
    assert planes.road.gateway.ping("fd99::1") == 1
    assert planes.road.inside.ping(GATEWAY_OWN) == 1


# --- Sizes --------------------------------------------------------------------------------------------------


def test_larger_packets_than_the_tunnel_takes_are_refused_with_its_size(planes: Planes) -> None:
    planes.install(child_sa())
    inside = planes.road.inside
    fitting = ("ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", str(1400 - 28), CLIENT_INNER)
    assert "1 received" in inside.run(*fitting, check=False)
    too_large = ("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(1400 - 27), CLIENT_INNER)
    assert "mtu" in (answer := inside.run(*too_large, check=False))
    assert "1400" in answer
    too_large_6 = ("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(1400 - 47), CLIENT_INNER_6)
    assert "mtu" in (answer := inside.run(*too_large_6, check=False))
    assert "1400" in answer


def test_on_a_narrower_path_packets_are_refused_with_its_size_or_fragmented(planes: Planes) -> None:
    planes.install(child_sa())
    gateway, inside = planes.road.gateway, planes.road.inside
    gateway.ip("link", "set", "outside", "mtu", "1300")
    try:
        too_large = ("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(1300 - 28), CLIENT_INNER)
        found = re.search(r"mtu ?= ?(\d+)", inside.run(*too_large, check=False))
        assert found
        assert 1200 < int(found[1]) < 1300
        assert planes.path().down(bytes(1300), wait_s=1.0)
    finally:
        gateway.ip("link", "set", "outside", "mtu", "1500")
        inside.ip("route", "flush", "cache")


def test_the_gateways_own_connections_have_segments_that_fit(planes: Planes) -> None:
    to_clients = [route for route in planes.road.gateway.routes() if "dev vpn0" in route and "static" in route]
    assert sorted((route.split()[0], route.split("advmss ")[1].split()[0]) for route in to_clients) == [
        ("10.99.0.0/24", "1360"),
        ("fd99::/64", "1340"),
    ]


def test_the_way_is_said(road: Road) -> None:
    with Planes(road, xfrm_interface="auto") as planes:
        assert planes.gateway.description == "kernel, through the XFRM interface vpn0: for a test"
    with Planes(road, xfrm_interface="off") as planes:
        assert planes.gateway.description == (
            "kernel, through policies, with the device vpn0 for the routes: for a test"
        )
