"""The userspace data plane on real TUN devices and sockets, both ends ours, keys fixed.

    client ──── 198.51.100.2, 2001:db8:1::2 ──── internet ──── 192.0.2.1, 2001:db8::1 ──── gateway ──── inside
     TUN 10.99.0.2, fd99::2  ════════════════ ESP ═══════════════  10.99.0.1, fd99::1 TUN      10.1.0.10, fd01::10

Real peers (strongSwan) meet it in the other interop tests, which need IKE; here every suite and every kind of outer
packet has its turn, and what the kernel does with our large packets is seen at the other end.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.lab.namespaces import Lab, Namespace
from tests.lab.processes import Process, wait_for
from tests.lab.topology import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    INSIDE_IPV4,
    INSIDE_IPV6,
    Site,
)
from tests.peers.static_plane import TUN, StaticPlane

pytestmark = pytest.mark.interop

STREAM_BYTES = 20_000_000
"""What iperf3 sends; it stops counting at the receiver before all has arrived."""
INNER = ("10.99.0.2/32", "fd99::2/128")
NETWORKS = ("10.1.0.0/24", "fd01::/64", "10.99.0.1/32", "fd99::1/128")
PLAIN = StaticPlane(
    initiator=False,
    local=GATEWAY_IPV4,
    remote=CLIENT_IPV4,
    pools=("10.99.0.0/24", "fd99::/112"),
    local_networks=NETWORKS,
    remote_networks=INNER,
)


@dataclass
class Tunnel:
    """Both ends at work."""

    gateway: Process
    client: Process

    def counters(self, process: Process) -> dict[str, Any]:
        """What the process counted until now."""
        before = process.log().count("bytes_in")
        process.send(signal.SIGUSR1)
        wait_for(lambda: process.log().count("bytes_in") > before, 5.0, "counters")
        found: dict[str, Any] = json.loads([line for line in process.log().splitlines() if "bytes_in" in line][-1])
        return found


@contextmanager
def tunnel(lab: Lab, site: Site, settings: StaticPlane) -> Iterator[Tunnel]:
    """Start both ends and route the client's traffic into its own."""
    client_settings = replace(
        settings,
        initiator=True,
        local=settings.remote,
        remote=settings.local,
        pools=INNER,
        local_networks=settings.remote_networks,
        remote_networks=settings.local_networks,
    )
    ends = []
    for label, namespace, own in (("gateway", site.gateway, settings), ("client", site.client, client_settings)):
        log_file = lab.directory / f"{label}.log"
        log_file.unlink(missing_ok=True)
        ends.append(
            namespace.start(".venv/bin/python", "-m", "tests.peers.static_plane", own.to_json(), log_file=log_file)
        )
    try:
        wait_for(lambda: all("ready" in end.log() or end.returncode for end in ends), 15.0, "both data planes")
        assert [end.returncode for end in ends] == [None, None], [end.log() for end in ends]
        for network in settings.local_networks:
            version = "-6" if ":" in network else "-4"
            source = "fd99::2" if ":" in network else "10.99.0.2"
            site.client.ip(version, "route", "add", network, "dev", TUN, "src", source)
        yield Tunnel(*ends)
    finally:
        statuses = [process.stop() for process in ends]
    assert statuses == [0, 0], [process.log() for process in ends]


def iperf3(server: Namespace, client: Namespace, address: str, lab: Lab, *arguments: str) -> dict[str, Any]:
    """One run of iperf3, and what it measured."""
    log_file = lab.directory / "iperf3.log"
    log_file.unlink(missing_ok=True)
    process = server.start("iperf3", "-s", "-1", "--forceflush", log_file=log_file)
    try:
        wait_for(lambda: "listening" in process.log(), 5.0, "iperf3's server")
        text = client.run("iperf3", "-c", address, "-J", *arguments, timeout_s=30.0)
        found: dict[str, Any] = json.loads(text)["end"]
        return found
    finally:
        process.stop()


SUITES = [
    pytest.param({"cipher": "AES_GCM_16", "key_bits": 128}, id="gcm128"),
    pytest.param({"cipher": "AES_GCM_16", "key_bits": 256, "esn": True}, id="gcm256-esn"),
    pytest.param({"cipher": "CHACHA20_POLY1305", "key_bits": 256}, id="chacha"),
    pytest.param({"cipher": "AES_CBC", "key_bits": 256, "integrity": "HMAC_SHA2_256_128"}, id="cbc256-sha256"),
    pytest.param(
        {"cipher": "AES_CBC", "key_bits": 128, "integrity": "HMAC_SHA2_512_256", "esn": True}, id="cbc128-esn"
    ),
]
OUTER = [
    pytest.param({}, id="udp"),
    pytest.param({"udp_encapsulation": False}, id="plain"),
    pytest.param({"local": GATEWAY_IPV6, "remote": CLIENT_IPV6}, id="udp6"),
    pytest.param({"local": GATEWAY_IPV6, "remote": CLIENT_IPV6, "udp_encapsulation": False}, id="plain6"),
]


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_carries_ping_and_streams(lab: Lab, site: Site, suite: dict[str, Any]) -> None:
    with tunnel(lab, site, replace(PLAIN, **suite)) as ends:
        assert carries_everything(lab, site)
        counters = ends.counters(ends.gateway)
        assert counters["failures"] == counters["replays"] == counters["device_refused"] == 0


@pytest.mark.parametrize("outer", OUTER)
def test_every_kind_of_outer_packet_carries_ping_and_streams(lab: Lab, site: Site, outer: dict[str, Any]) -> None:
    with tunnel(lab, site, replace(PLAIN, **outer)) as ends:
        assert carries_everything(lab, site)
        counters = ends.counters(ends.gateway)
        assert counters["failures"] == counters["replays"] == counters["device_refused"] == 0


def carries_everything(lab: Lab, site: Site) -> bool:
    """Pings of all sizes to the gateway and a host behind it, and a short TCP stream each way, IPv4 and IPv6."""
    for address in ("10.99.0.1", "fd99::1", INSIDE_IPV4, INSIDE_IPV6):
        assert site.client.ping(address, count=3) == 3
    for size in (0, 1, 1300, 1352, 4000):
        assert site.client.ping(INSIDE_IPV4, size_bytes=size) == 1
    assert site.inside.ping("10.99.0.2", count=2) == 2
    for address in (INSIDE_IPV4, INSIDE_IPV6):
        for direction in ([], ["-R"]):
            result = iperf3(site.inside, site.client, address, lab, "-n", str(STREAM_BYTES), *direction)
            assert result["sum_received"]["bytes"] > STREAM_BYTES / 2
    return True


def test_streams_are_joined_and_sent_in_batches(lab: Lab, site: Site) -> None:
    with tunnel(lab, site, PLAIN) as ends:
        iperf3(site.inside, site.client, INSIDE_IPV4, lab, "-n", "50M")
        gateway, client = ends.counters(ends.gateway), ends.counters(ends.client)
        assert gateway["packets_in"] > 35_000
        assert gateway["packets_in"] > 5 * gateway["device_writes"]
        assert client["packets_out"] > 5 * client["sends"]


def test_a_path_that_is_too_narrow_gets_fragments(lab: Lab, site: Site) -> None:
    site.client.ip("link", "set", "eth0", "mtu", "1280")
    site.internet.ip("link", "set", "client", "mtu", "1280")
    try:
        with tunnel(lab, site, PLAIN) as ends:
            assert carries_everything(lab, site)
            assert ends.counters(ends.gateway)["not_sent"] == 0
    finally:
        site.client.ip("link", "set", "eth0", "mtu", "1500")
        site.internet.ip("link", "set", "client", "mtu", "1500")


def test_udp_and_many_streams_side_by_side(lab: Lab, site: Site) -> None:
    with tunnel(lab, site, PLAIN):
        result = iperf3(
            site.inside, site.client, INSIDE_IPV4, lab, "-u", "-b", str(STREAM_BYTES), "-t", "1", "-l", "1200"
        )
        assert result["sum"]["lost_percent"] < 5
        result = iperf3(site.inside, site.client, INSIDE_IPV4, lab, "-P", "5", "-n", str(STREAM_BYTES))
        assert result["sum_received"]["bytes"] > STREAM_BYTES / 2


def test_the_device_has_its_addresses_and_leaves_nothing_behind(lab: Lab, site: Site) -> None:
    before = site.gateway.links(), site.gateway.routes()
    with tunnel(lab, site, PLAIN):
        addresses = site.gateway.ip("-br", "address", "show", "dev", TUN)
        assert "10.99.0.1/32" in addresses
        assert "fd99::1/128" in addresses
        assert re.search(r"10\.99\.0\.0/24 .*src 10\.99\.0\.1", site.gateway.ip("route", "show", "dev", TUN))
        assert "fd99::/112" in site.gateway.ip("-6", "route", "show", "dev", TUN)
        assert "mtu 1400" in site.gateway.ip("link", "show", "dev", TUN)
    assert (site.gateway.links(), site.gateway.routes()) == before


def test_a_name_that_is_taken_is_explained(lab: Lab, site: Site) -> None:
    with tunnel(lab, site, PLAIN):
        second = site.gateway.run(
            ".venv/bin/python",
            "-c",
            "from ipaddress import ip_network as n\n"
            "from gateway.dataplane.links import LinkSettings\n"
            "from gateway.dataplane.userspace.tun import TunDevice\n"
            f"TunDevice.open(LinkSettings({TUN!r}, 1400, (n('10.98.0.0/24'),)))",
            check=False,
        )
        assert "can't be made: Device or resource busy" in second
        assert "fix: stop the other gateway, or set another gateway.link_name" in second


def test_a_network_that_is_taken_is_explained_and_nothing_stays(lab: Lab, site: Site) -> None:
    before = site.gateway.links()
    site.gateway.ip("route", "add", "10.97.0.0/24", "dev", "inside")
    text = site.gateway.run(
        ".venv/bin/python",
        "-c",
        "from ipaddress import ip_network as n\n"
        "from gateway.dataplane.links import LinkSettings\n"
        "from gateway.dataplane.userspace.tun import TunDevice\n"
        "TunDevice.open(LinkSettings('second0', 1400, (n('10.97.0.0/24'),)))",
        check=False,
    )
    site.gateway.ip("route", "del", "10.97.0.0/24")
    assert "the device second0: can't add the route 10.97.0.0/24: File exists" in text
    assert site.gateway.links() == before
