"""Lifetimes that end, events that are lost, counters: what the kernel tells of child SAs, and when."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.dataplane.interface import ChildSa, DataPlaneError, EspLifetime
from gateway.dataplane.xfrm.lineages import Reqids
from gateway.dataplane.xfrm.plane import KernelPlane
from gateway.dataplane.xfrm.sockets import XfrmEvents, XfrmSocket
from gateway.dataplane.xfrm.states import State, StateId
from gateway.dataplane.xfrm.structures import NETLINK_XFRM, Command
from tests.kernel.guest.planes import (
    CLIENT,
    ESN,
    GATEWAY,
    GATEWAY_OTHER,
    NATT_PORT,
    Path,
    Planes,
    Road,
    build_road,
    child_sa,
    other_half,
    other_owner,
    reversed_endpoints,
    selectors_of,
)
from tests.lab.namespaces import Lab
from tests.lab.xfrm import kernel_sas, policies

pytestmark = [pytest.mark.interop, pytest.mark.guest(name="without the gateway")]

ACQUIRE_GROUP = 1
DATAGRAM_BYTES = 20 + 8 + 100


@pytest.fixture(scope="module")
def road(lab: Lab) -> Road:
    """One for all."""
    return build_road(lab)


@pytest.fixture
def planes(road: Road) -> Iterator[Planes]:
    """Fresh ones for each test."""
    with Planes(road) as planes:
        yield planes


def pass_one(path: Path, direction: str) -> bool:
    return path.up(bytes(100)) if direction == "in" else path.down(bytes(100))


def test_time_ends_first_the_soft_and_then_the_hard_lifetime(planes: Planes) -> None:
    idle = policies(planes.road.gateway)
    child = child_sa(lifetime=EspLifetime(soft_s=0.7, hard_s=4.0))
    planes.install(child)
    path = planes.path()
    begun = time.monotonic()
    planes.loop.run(5.0, until=lambda: planes.told.ends)
    assert planes.told.ends == [(child.spi_in, "soft")]
    assert 0.5 < time.monotonic() - begun < 2.5
    assert path.carries()
    planes.loop.run(8.0, until=lambda: len(planes.told.ends) > 1)
    assert planes.told.ends == [(child.spi_in, "soft"), (child.spi_in, "hard")]
    assert not path.up()
    assert not path.down()
    assert kernel_sas(planes.road.gateway) == []
    assert policies(planes.road.gateway) == idle
    counters = planes.counters(child)
    assert (counters.packets_in, counters.packets_out) == (1, 1)
    assert planes.gateway.remove(child.spi_in) == counters
    assert planes.gateway.remove(child.spi_in) is None


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize(
    "lifetime",
    [
        EspLifetime(soft_packets=2, hard_packets=4),
        EspLifetime(soft_bytes=2 * DATAGRAM_BYTES, hard_bytes=4 * DATAGRAM_BYTES),
    ],
    ids=["packets", "bytes"],
)
def test_packets_and_bytes_of_either_direction_end_it(planes: Planes, lifetime: EspLifetime, direction: str) -> None:
    child = child_sa(lifetime=lifetime)
    planes.install(child)
    path = planes.path()
    assert [pass_one(path, direction) for _ in range(2)] == [True] * 2
    planes.loop.run()
    assert planes.told.ends == []
    assert [pass_one(path, direction) for _ in range(4)] == [True] * 2 + [False] * 2
    planes.loop.run(2.0, until=lambda: len(planes.told.ends) > 1)
    assert planes.told.ends == [(child.spi_in, "soft"), (child.spi_in, "hard")]
    assert kernel_sas(planes.road.gateway) == []
    counters = planes.counters(child)
    assert max(counters.packets_in, counters.packets_out) == 4


def test_soft_is_told_once_for_both_directions(planes: Planes) -> None:
    child = child_sa(lifetime=EspLifetime(soft_packets=1))
    planes.install(child)
    for _ in range(3):
        assert planes.path().carries()
    planes.loop.run(0.2)
    assert planes.told.ends == [(child.spi_in, "soft")]


def test_what_lost_events_would_have_said_is_found_by_looking(road: Road) -> None:
    """A buffer too small for the events of one moment stands for more child SAs than the buffer holds."""
    with Planes(road) as planes:

        def open_with_small_buffer() -> KernelPlane:
            xfrm, heard = XfrmSocket(), XfrmEvents(buffer_bytes=1)

            def release() -> None:
                heard.close()
                xfrm.close()

            return KernelPlane(planes.loop, xfrm, heard, planes.told, Reqids(8), if_id=0, release=release)

        plane = road.gateway.call(open_with_small_buffer)
        ends: list[int] = []
        for number in range(20):
            lifetime = EspLifetime(soft_s=1.0, hard_s=4.0 if number % 2 else None)
            remote = selectors_of(f"10.98.0.{number + 1}/32")
            plane.install(child_sa(number=number, lineage=number + 1, remote_selectors=remote, lifetime=lifetime))
            ends.append(child_sa(number=number).spi_in)
        planes.loop.run(10.0, until=lambda: len(planes.told.ends) >= 30)
        assert sorted(spi for spi, kind in planes.told.ends if kind == "soft") == ends
        assert sorted(spi for spi, kind in planes.told.ends if kind == "hard") == ends[1::2]
        plane.close()
        assert kernel_sas(road.gateway) == []


def test_states_that_another_program_deleted_are_missed(planes: Planes) -> None:
    child = child_sa()
    planes.install(child)
    assert planes.path().carries()
    before = planes.counters(child)
    planes.road.gateway.ip("xfrm", "state", "flush")
    assert planes.counters(child) == before
    planes.loop.run(0.2)
    assert planes.told.ends == [(child.spi_in, "hard")]
    assert planes.gateway.remove(child.spi_in) == before


def listen_for_acquires() -> socket.socket:
    """What an IKE daemon has. Then the kernel puts a state of its own where it finds none to send by."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM)
    sock.bind((0, ACQUIRE_GROUP))
    return sock


def test_no_number_is_used_again_after_another_program_deleted_a_state(planes: Planes) -> None:
    child = child_sa()
    planes.install(child)
    assert planes.path().carries()
    with planes.road.gateway.call(listen_for_acquires), other_owner(planes.road.gateway) as other:
        other.execute([(Command.DELSA, StateId(child.endpoints.remote, child.spi_out).to_bytes())])
        assert not planes.path().down()
        # The kernel's own, which has sent nothing.
        assert [state.id.spi for state in other.dump_states() if state.replay is None] == [child.spi_out]
        with pytest.raises(DataPlaneError, match="its states are gone, or the kernel does not say"):
            planes.gateway.move(child.spi_in, replace(child.endpoints, local=ip_address(GATEWAY_OTHER)))
    assert kernel_sas(planes.road.gateway) == []


def test_what_the_kernel_put_in_the_way_of_a_move_is_removed(planes: Planes, monkeypatch: pytest.MonkeyPatch) -> None:
    child = child_sa()
    planes.install(child)
    path = planes.path()
    assert path.carries()
    delete_states = XfrmSocket.delete_states
    found: list[bool] = []

    def delete_and_send(xfrm: XfrmSocket, ids: Sequence[StateId]) -> list[State | None]:
        states = delete_states(xfrm, ids)
        path.down()
        found.extend(state.replay is None for state in xfrm.dump_states())
        return states

    monkeypatch.setattr(XfrmSocket, "delete_states", delete_and_send)
    after = replace(child.endpoints, local=ip_address(GATEWAY_OTHER))
    with planes.road.gateway.call(listen_for_acquires):
        planes.gateway.move(child.spi_in, after)
    monkeypatch.undo()
    assert found == [True]
    planes.client.move(child.spi_out, reversed_endpoints(after))
    assert path.carries()


# --- Counters -----------------------------------------------------------------------------------------------


def test_packets_that_are_not_authentic_are_counted(planes: Planes) -> None:
    child = child_sa(udp=False)
    planes.install(child)
    assert planes.path().up()
    begun = planes.counters(child).last_in_s
    assert begun > 0.0
    forged = struct.pack("!II", child.spi_in, 2) + bytes(60)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 50) as sock:
            sock.sendto(forged, (GATEWAY, 0))

    for _ in range(3):
        planes.road.client.call(send)
    planes.loop.run(0.1)
    counters = planes.counters(child)
    assert (counters.packets_in, counters.failures, counters.replays) == (1, 3, 0)
    assert counters.last_in_s == begun
    assert planes.path().up()
    assert planes.counters(child).last_in_s > begun


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("window", [64, 1000, 4096])
def test_the_window_is_as_wide_as_it_was_asked_for(planes: Planes, window: int, esn: bool) -> None:
    child = child_sa(replace(ESN, esn=esn), replay_window_packets=window)
    planes.gateway.install(child)
    # What the client sends to another address finds no state there, and is recorded.
    aside = replace(child.endpoints, local=ip_address(GATEWAY_OTHER))
    planes.client.install(replace(other_half(child), endpoints=reversed_endpoints(aside)))
    recorded = record(planes, window + 1)

    def deliver(*numbers: int) -> None:
        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((CLIENT, 0))
                for number in numbers:
                    sock.sendto(recorded[number], (GATEWAY, NATT_PORT))

        planes.road.client.call(send)

    deliver(window + 1, 1, 2, 2, window, window // 2)
    counters = planes.counters(child)
    # An extended number that is too old is taken for one to come, and does not verify (RFC 4303 appendix A2.2).
    assert (counters.packets_in, counters.replays, counters.failures) == ((4, 1, 1) if esn else (4, 2, 0))


def record(planes: Planes, count: int) -> dict[int, bytes]:
    """ESP packets of the client by sequence number, as UDP carries them."""

    def watch() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        sock.bind(("outside", 0))
        sock.settimeout(1.0)
        return sock

    path = planes.path()
    found: dict[int, bytes] = {}
    with planes.road.gateway.call(watch) as raw:
        while len(found) < count:
            path.near.sendto(b"x", path.far.getsockname())
            frame = raw.recv(2000)
            if socket.inet_ntoa(frame[30:34]) == GATEWAY_OTHER:
                found[struct.unpack_from("!I", frame, 46)[0]] = frame[42:]
    return found


def test_many_clients_do_not_get_in_each_others_way(planes: Planes) -> None:
    children: list[ChildSa] = []
    for number in range(40):
        remote = selectors_of(f"10.99.0.{number + 2}/32")
        children.append(child_sa(number=number, lineage=number + 1, remote_selectors=remote))
        planes.gateway.install(children[-1])
    assert {sa.reqid & 0xFFFFFF for sa in kernel_sas(planes.road.gateway)} == set(range(1, 41))
    planes.client.install(other_half(children[0]))
    assert planes.path().carries()
    for child in children[1:]:
        planes.gateway.remove(child.spi_in)
    assert planes.path().carries()
    assert len(kernel_sas(planes.road.gateway)) == 2


def test_a_client_can_not_send_from_the_address_of_another(planes: Planes) -> None:
    own, others = child_sa(), child_sa(number=1, lineage=2, remote_selectors=selectors_of("10.99.0.3/32"))
    planes.gateway.install(own)
    planes.gateway.install(others)
    # This client has the keys of the second pair, and sends with it from the first one's address.
    planes.client.install(replace(other_half(others), local_selectors=own.remote_selectors))
    assert not planes.path().up()
    assert planes.counters(others).packets_in == 1
