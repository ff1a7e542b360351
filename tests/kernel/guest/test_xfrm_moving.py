"""Clients and gateways that get another address: numbers, counters and lifetimes go on."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.dataplane.interface import ChildSa, DataPlaneError, Endpoints, EspLifetime, EspSuite
from tests.kernel.guest.planes import (
    CLIENT,
    CLIENT_OTHER,
    CLIENT_OTHER_6,
    ESN,
    GATEWAY,
    GATEWAY_6,
    GATEWAY_OTHER,
    GCM,
    NATT_PORT,
    SERVER_6,
    Planes,
    Road,
    build_road,
    child_sa,
    reversed_endpoints,
    selectors_of,
)
from tests.lab.namespaces import Lab
from tests.lab.xfrm import kernel_sas, policies

pytestmark = [pytest.mark.interop, pytest.mark.guest(name="without the gateway")]

PLAIN = child_sa(udp=False).endpoints
IN_UDP = child_sa().endpoints
PLAIN_6 = child_sa(udp=False, version=6).endpoints


def ends(local: str, remote: str, port: int = NATT_PORT, *, udp: bool = True) -> Endpoints:
    return Endpoints(ip_address(local), NATT_PORT if udp else 0, ip_address(remote), port if udp else 0, udp)


@pytest.fixture(scope="module")
def road(lab: Lab) -> Road:
    """One for all."""
    return build_road(lab)


@pytest.fixture(scope="module", params=["on", "off"])
def planes(road: Road, request: pytest.FixtureRequest) -> Iterator[Planes]:
    """With and without an XFRM interface."""
    with Planes(road, xfrm_interface=request.param) as planes:
        yield planes


@pytest.fixture
def installed(planes: Planes) -> Iterator[list[ChildSa]]:
    """What a test has installed, and is to be removed after it."""
    children: list[ChildSa] = []
    yield children
    for child in children:
        planes.gateway.remove(child.spi_in)
        planes.client.remove(child.spi_out)
    planes.told.moves.clear()
    planes.told.ends.clear()


@pytest.mark.parametrize("suite", [GCM, ESN], ids=str)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(PLAIN, ends(GATEWAY, CLIENT_OTHER, udp=False), id="the client's address"),
        pytest.param(IN_UDP, ends(GATEWAY, CLIENT_OTHER), id="the client's address, in UDP"),
        pytest.param(PLAIN, ends(GATEWAY_OTHER, CLIENT, udp=False), id="the gateway's address"),
        pytest.param(IN_UDP, ends(GATEWAY_OTHER, CLIENT_OTHER), id="both"),
        pytest.param(PLAIN, IN_UDP, id="a NAT appears"),
        pytest.param(IN_UDP, PLAIN, id="a NAT is gone"),
        pytest.param(IN_UDP, ends(GATEWAY_6, CLIENT_OTHER_6), id="IPv4 to IPv6"),
        pytest.param(PLAIN_6, ends(GATEWAY, CLIENT), id="IPv6 to IPv4 with a NAT"),
        pytest.param(PLAIN_6, ends(GATEWAY_6, CLIENT_OTHER_6, udp=False), id="IPv6"),
    ],
)
def test_moves_both_ends(
    planes: Planes, installed: list[ChildSa], before: Endpoints, after: Endpoints, suite: EspSuite
) -> None:
    child = child_sa(suite, endpoints=before)
    installed.append(child)
    planes.install(child)
    path, path_6 = planes.path(), planes.path(SERVER_6)
    assert path.carries()
    assert path_6.carries()
    was = planes.counters(child)
    planes.gateway.move(child.spi_in, after)
    planes.client.move(child.spi_out, reversed_endpoints(after))
    assert planes.counters(child) == was
    assert path.carries()
    assert path_6.carries()
    now = planes.counters(child)
    assert (now.packets_in, now.packets_out) == (was.packets_in + 2, was.packets_out + 2)
    assert now.bytes_in > was.bytes_in
    assert {(sa.source, sa.destination) for sa in kernel_sas(planes.road.gateway)} == {
        (str(after.local), str(after.remote)),
        (str(after.remote), str(after.local)),
    }
    assert not [text for text in policies(planes.road.gateway) if f"dst {before.remote}" in text] or (
        before.remote == after.remote
    )


def sequence_numbers(planes: Planes, child: ChildSa, datagrams: int, move_to: Endpoints) -> list[int]:
    """Of the packets that leave for the client while the gateway moves in the middle of them."""

    def watch() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 50)
        sock.settimeout(1.0)
        return sock

    path = planes.path()
    with planes.road.client.call(watch) as raw:
        for number in range(datagrams):
            path.far.sendto(b"x", path.near.getsockname())
            if number == datagrams // 2:
                planes.gateway.move(child.spi_in, move_to)
        return [struct.unpack_from("!I", raw.recv(2000), 24)[0] for _ in range(datagrams)]


def test_no_number_is_used_twice_and_none_is_left_out(planes: Planes, installed: list[ChildSa]) -> None:
    child = child_sa(endpoints=PLAIN)
    installed.append(child)
    planes.gateway.install(child)
    numbers = sequence_numbers(planes, child, 40, ends(GATEWAY_OTHER, CLIENT_OTHER, udp=False))
    assert numbers == list(range(1, 41))


@pytest.mark.parametrize("suite", [GCM, ESN], ids=str)
def test_what_came_before_a_move_is_a_replay_after_it(
    planes: Planes, installed: list[ChildSa], suite: EspSuite
) -> None:
    child = child_sa(suite, endpoints=IN_UDP)
    installed.append(child)
    planes.install(child)
    recorded: list[bytes] = []

    def watch() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        sock.bind(("outside", 0))
        sock.settimeout(1.0)
        return sock

    path = planes.path()
    with planes.road.gateway.call(watch) as raw:
        assert path.up()
        while not recorded:
            frame = raw.recv(2000)
            if frame[23] == socket.IPPROTO_UDP and struct.unpack_from("!H", frame, 36)[0] == NATT_PORT:
                recorded.append(frame[42:])
    planes.gateway.move(child.spi_in, ends(GATEWAY, CLIENT_OTHER))

    def replay() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((CLIENT_OTHER, 0))
            sock.sendto(recorded[0], (GATEWAY, NATT_PORT))

    planes.road.client.call(replay)
    planes.loop.run(0.05)
    counters = planes.counters(child)
    assert (counters.packets_in, counters.replays, counters.failures) == (1, 1, 0)
    # Drops are counted over moves as well.
    planes.gateway.move(child.spi_in, IN_UDP)
    assert planes.counters(child).replays == 1
    assert planes.told.moves == []


def test_a_lifetime_goes_on_over_a_move(planes: Planes, installed: list[ChildSa]) -> None:
    child = child_sa(lifetime=EspLifetime(soft_packets=4, hard_packets=6))
    installed.append(child)
    planes.install(child)
    path = planes.path()
    assert [path.up() for _ in range(3)] == [True] * 3
    after = ends(GATEWAY, CLIENT_OTHER)
    planes.gateway.move(child.spi_in, after)
    planes.client.move(child.spi_out, reversed_endpoints(after))
    assert planes.told.ends == []
    assert [path.up() for _ in range(5)] == [True] * 3 + [False] * 2
    planes.loop.run(2.0, until=lambda: len(planes.told.ends) == 2)
    assert planes.told.ends == [(child.spi_in, "soft"), (child.spi_in, "hard")]


def test_another_port_is_changed_in_place(planes: Planes, installed: list[ChildSa]) -> None:
    child = child_sa()
    installed.append(child)
    planes.install(child)
    assert planes.path().carries()
    planes.gateway.move(child.spi_in, ends(GATEWAY, CLIENT, 40_500))
    assert {sa.udp_ports for sa in kernel_sas(planes.road.gateway)} == {(4500, 40_500), (40_500, 4500)}
    with planes.natt_socket(planes.road.client, socket.AF_INET, 40_500):
        planes.client.move(child.spi_out, reversed_endpoints(ends(GATEWAY, CLIENT, 40_500)))
        assert planes.path().carries()
    assert planes.counters(child).packets_in == 2


def test_follows_a_client_whose_nat_gave_it_another_address(planes: Planes, installed: list[ChildSa]) -> None:
    child = child_sa()
    installed.append(child)
    planes.install(child)
    path = planes.path()
    assert path.carries()
    moved = ends(GATEWAY, CLIENT_OTHER)
    planes.client.move(child.spi_out, reversed_endpoints(moved))
    assert path.up()
    planes.loop.run(2.0, until=lambda: planes.told.moves)
    assert planes.told.moves == [(child.spi_in, CLIENT_OTHER, NATT_PORT)]
    assert path.carries()
    # The same told by IKE changes nothing.
    planes.gateway.move(child.spi_in, moved)
    assert path.carries()
    planes.loop.run(0.1)
    assert len(planes.told.moves) == 1


def test_follows_no_client_that_has_no_nat(planes: Planes, installed: list[ChildSa]) -> None:
    child = child_sa(endpoints=replace(IN_UDP, peer_behind_nat=False))
    installed.append(child)
    planes.install(child)
    planes.client.move(child.spi_out, reversed_endpoints(ends(GATEWAY, CLIENT_OTHER)))
    assert planes.path().up()
    planes.loop.run(0.3)
    assert planes.told.moves == []
    assert {sa.destination for sa in kernel_sas(planes.road.gateway)} == {GATEWAY, CLIENT}


def test_a_rekeyed_pair_moves_and_takes_the_policies_along(planes: Planes, installed: list[ChildSa]) -> None:
    old, new = child_sa(), child_sa(number=1)
    installed.extend((old, new))
    planes.install(old)
    planes.install(new)
    after = ends(GATEWAY_OTHER, CLIENT_OTHER)
    for child in (old, new):
        planes.gateway.move(child.spi_in, after)
        planes.client.move(child.spi_out, reversed_endpoints(after))
    assert planes.path().carries()
    assert planes.counters(new).packets_in == 1


def test_where_a_move_is_impossible_nothing_of_the_pair_stays(planes: Planes, installed: list[ChildSa]) -> None:
    child = child_sa()
    taken = child_sa(
        number=1,
        lineage=2,
        spi_out=child.spi_out,
        endpoints=ends(GATEWAY, CLIENT_OTHER),
        remote_selectors=selectors_of("10.99.0.3/32"),
    )
    installed.extend((child, taken))
    planes.install(child)
    planes.gateway.install(taken)
    assert planes.path().up()
    with pytest.raises(DataPlaneError, match=f"SPI {child.spi_out:08x} to {CLIENT_OTHER} is in use"):
        planes.gateway.move(child.spi_in, taken.endpoints)
    assert {sa.spi for sa in kernel_sas(planes.road.gateway)} == {taken.spi_in, taken.spi_out}
    assert not planes.path().up()
    assert planes.counters(child).packets_in == 1
    planes.loop.run(0.1)
    assert planes.told.ends == [(child.spi_in, "hard")]


def test_moving_what_is_not_there_is_no_error(planes: Planes) -> None:
    before = kernel_sas(planes.road.gateway)
    planes.gateway.move(0xBAD, IN_UDP)
    assert kernel_sas(planes.road.gateway) == before
