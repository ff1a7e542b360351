"""The client's address changes in mid-transfer, and the transfer goes on (MOBIKE, RFC 4555).

    client ── eth0, 198.51.100.2 ──────────────┐
           ── wifi, 203.0.113.2 ───────────────┼─ internet ── 192.0.2.1 ── gateway ── inside
           ── phone, 192.168.78.2 ── nat ──────┘

The client of the common network has more links here; what it leaves goes down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.bench.throughput import IPERF_PORT
from tests.interop.clients import Clients
from tests.kernel.guest.traffic import split_by_direction
from tests.lab.enrolment import Laptop
from tests.lab.namespaces import Namespace, default_route, link
from tests.lab.ostiary import Ostiary
from tests.lab.processes import wait_for
from tests.lab.topology import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    CLIENT_NEXT_HOP_IPV6,
    INSIDE_IPV4,
    INSIDE_IPV6,
    NAT_IPV4,
    Site,
)
from tests.lab.xfrm import kernel_sas, policies

pytestmark = pytest.mark.interop

WIFI_IPV4 = "203.0.113.2"
NEXT_HOPS = {"eth0": "198.51.100.1", "wifi": "203.0.113.1", "phone": "192.168.78.1"}
TRANSFER_S = 6


@pytest.fixture
def mobile(site: Site) -> Iterator[Namespace]:
    """The client with all its links, of which `eth0` is up."""
    link(
        site.client,
        site.internet,
        names=("wifi", "wifi"),
        first_addresses=(f"{WIFI_IPV4}/30",),
        second_addresses=("203.0.113.1/30",),
    )
    link(
        site.client,
        site.nat,
        names=("phone", "phone"),
        first_addresses=("192.168.78.2/24",),
        second_addresses=("192.168.78.1/24",),
    )
    for device in ("wifi", "phone"):
        site.client.ip("link", "set", device, "down")
    yield site.client
    for device in ("wifi", "phone"):
        site.client.ip("link", "delete", device)
    # With the link, its IPv6 address and all routes go down, if they did not in the test.
    site.client.ip("link", "set", "eth0", "down")
    site.client.ip("link", "set", "eth0", "up")
    site.client.ip("address", "add", f"{CLIENT_IPV6}/64", "dev", "eth0", "nodad")
    default_route(site.client, NEXT_HOPS["eth0"], CLIENT_NEXT_HOP_IPV6)


def change_link(client: Namespace, old: str, new: str) -> None:
    """What happens when someone walks out of the office."""
    client.ip("link", "set", old, "down")
    client.ip("link", "set", new, "up")
    client.ip("route", "replace", "default", "via", NEXT_HOPS[new])


@pytest.mark.parametrize(
    ("new", "outside", "encapsulated", "reverse"),
    [("wifi", WIFI_IPV4, False, False), ("phone", NAT_IPV4, True, True)],
    ids=["to the wifi, uploading", "behind a NAT, downloading"],
)
def test_a_transfer_survives_another_address(
    ostiary: Ostiary,
    site: Site,
    mobile: Namespace,
    clients: Clients,
    laptop: Laptop,
    iperf3_server: Namespace,
    idle_policies: list[str],
    new: str,
    outside: str,
    encapsulated: bool,
    reverse: bool,
) -> None:
    del iperf3_server
    client = clients.eap_mschapv2(mobile, laptop)
    client.connect()
    live = ostiary.live_session(laptop.device_id)
    assert {sa.source for sa in split_by_direction(site.gateway)[0]} == {CLIENT_IPV4}
    command = ("iperf3", "-c", INSIDE_IPV4, "-p", str(IPERF_PORT), "-t", str(TRANSFER_S), "-J", *(["-R"] * reverse))
    transfer = mobile.start(*command, log_file=client.directory / "iperf3.json")
    wait_for(lambda: min(sa.packets for sa in kernel_sas(site.gateway)) > 100, 5.0, "the transfer to begin")

    change_link(mobile, "eth0", new)

    assert transfer.wait(TRANSFER_S + 20.0) == 0, transfer.log()
    intervals = [interval["sum"]["bytes"] for interval in json.loads(transfer.log())["intervals"]]
    assert intervals[0] > 0
    assert intervals[-1] > 0, "nothing more was transferred after the change"
    [inward], [outward] = split_by_direction(site.gateway)
    assert (inward.source, outward.destination) == (outside, outside)
    assert (inward.udp_ports is not None) == encapsulated
    assert mobile.ping(INSIDE_IPV6, count=3) == 3
    assert ostiary.live_session(laptop.device_id).id == live.id
    client.terminate()
    ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies
