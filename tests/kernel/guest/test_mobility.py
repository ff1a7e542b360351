"""The client's address changes in mid-transfer, and the transfer goes on (MOBIKE, RFC 4555)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.bench.throughput import IPERF_PORT
from tests.interop.clients import Clients
from tests.kernel.guest.traffic import leave_and_compare, split_by_direction
from tests.lab.enrolment import Laptop
from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary
from tests.lab.processes import wait_for
from tests.lab.roaming import WIFI_IPV4, Roamer
from tests.lab.topology import CLIENT_IPV4, INSIDE_IPV4, INSIDE_IPV6, NAT_IPV4, Site
from tests.lab.xfrm import kernel_sas, policies

pytestmark = pytest.mark.interop

TRANSFER_S = 6


@pytest.fixture
def roamer(site: Site) -> Iterator[Roamer]:
    roamer = Roamer(site)
    yield roamer
    roamer.close()


@pytest.mark.parametrize(
    ("new", "outside", "encapsulated", "reverse"),
    [("wifi", WIFI_IPV4, False, False), ("phone", NAT_IPV4, True, True)],
    ids=["to the wifi, uploading", "behind a NAT, downloading"],
)
def test_a_transfer_survives_another_address(
    ostiary: Ostiary,
    site: Site,
    roamer: Roamer,
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
    client = clients.eap_mschapv2(roamer.namespace, laptop)
    client.connect()
    live = ostiary.live_session(laptop.device_id)
    assert {sa.source for sa in split_by_direction(site.gateway)[0]} == {CLIENT_IPV4}
    command = ("iperf3", "-c", INSIDE_IPV4, "-p", str(IPERF_PORT), "-t", str(TRANSFER_S), "-J", *(["-R"] * reverse))
    transfer = roamer.namespace.start(*command, log_file=client.directory / "iperf3.json")
    wait_for(lambda: min(sa.packets for sa in kernel_sas(site.gateway)) > 100, 5.0, "the transfer to begin")

    roamer.move(new)

    assert transfer.wait(TRANSFER_S + 20.0) == 0, transfer.log()
    intervals = [interval["sum"]["bytes"] for interval in json.loads(transfer.log())["intervals"]]
    assert intervals[0] > 0
    assert intervals[-1] > 0, "nothing more was transferred after the change"
    [inward], [outward] = split_by_direction(site.gateway)
    assert (inward.source, outward.destination) == (outside, outside)
    assert (inward.udp_ports is not None) == encapsulated
    assert roamer.namespace.ping(INSIDE_IPV6, count=3) == 3
    # What was counted before the move counts on after it.
    assert leave_and_compare(client, ostiary, laptop.device_id).id == live.id
    assert policies(site.gateway) == idle_policies
