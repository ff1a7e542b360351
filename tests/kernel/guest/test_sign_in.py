"""Every way in, every suite and kind of path with the kernel's ESP, counted by both kernels and by accounting."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.bench.throughput import iperf3
from tests.interop.clients import Clients, use_tunnel
from tests.kernel.guest.traffic import carried_at_client, carried_at_gateway, leave_and_compare, split_by_direction
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    INSIDE_IPV4,
    INSIDE_IPV6,
    NAT_IPV4,
    Site,
)
from tests.lab.xfrm import policies

pytestmark = pytest.mark.interop

Method = Literal["eap-mschapv2", "eap-tls", "certificate"]
Path = Literal["ipv4", "ipv6", "nat"]
KERNEL_NAMES = {
    "aes128gcm16": "rfc4106(gcm(aes))",
    "aes256gcm16": "rfc4106(gcm(aes))",
    "chacha20poly1305": "rfc7539esp(chacha20,poly1305)",
    "aes128-sha256": "cbc(aes)",
    "aes256-sha384": "cbc(aes)",
    "aes256-sha512": "cbc(aes)",
}


def start(
    method: Method, clients: Clients, enrolment: Enrolment, laptop: Laptop, where: Namespace, **changes: str
) -> StrongSwanClient:
    """A client that signs in this way."""
    if method == "eap-mschapv2":
        return clients.eap_mschapv2(where, laptop, **changes)
    credential = enrolment.certificate(laptop, "p256")
    if method == "eap-tls":
        return clients.eap_tls(where, laptop, credential, **changes)
    return clients.certificate(where, laptop, credential, **changes)


@pytest.mark.parametrize(
    ("method", "suite", "path"),
    [
        ("eap-mschapv2", "aes256gcm16", "ipv4"),
        ("eap-tls", "chacha20poly1305", "ipv4"),
        ("certificate", "aes128-sha256", "ipv4"),
        ("eap-mschapv2", "chacha20poly1305", "nat"),
        ("eap-tls", "aes256-sha512", "nat"),
        ("certificate", "aes128gcm16", "nat"),
        ("eap-mschapv2", "aes256-sha384", "ipv6"),
        ("eap-tls", "aes128gcm16", "ipv6"),
        ("certificate", "chacha20poly1305", "ipv6"),
    ],
)
def test_tunnel(
    ostiary: Ostiary,
    idle_policies: list[str],
    site: Site,
    clients: Clients,
    enrolment: Enrolment,
    laptop: Laptop,
    iperf3_server: Namespace,
    method: Method,
    suite: str,
    path: Path,
) -> None:
    del iperf3_server
    where = site.home if path == "nat" else site.client
    outside, gateway = {
        "ipv4": (CLIENT_IPV4, GATEWAY_IPV4),
        "nat": (NAT_IPV4, GATEWAY_IPV4),
        "ipv6": (CLIENT_IPV6, GATEWAY_IPV6),
    }[path]
    client = start(method, clients, enrolment, laptop, where, esp_proposals=f"{suite}-esn", remote_address=gateway)
    result = client.connect()
    use_tunnel(client)
    for address in (result.virtual_ipv4, result.virtual_ipv6):
        assert site.inside.ping(address, count=3) == 3
    # Of what follows some packets may be lost: a stream goes as fast as the queues between let it.
    assert carried_at_client(where) == carried_at_gateway(site.gateway)
    assert iperf3(where, INSIDE_IPV4, 1) > 1
    assert iperf3(where, INSIDE_IPV6, 1, reverse=True) > 1
    [inward], [outward] = split_by_direction(site.gateway)
    assert (inward.source, inward.destination) == (outside, gateway)
    assert (outward.source, outward.destination) == (gateway, outside)
    for sa in (inward, outward):
        assert sa.algorithm == KERNEL_NAMES[suite]
        assert sa.extended_sequence_numbers
        assert (sa.udp_ports is not None) == (path == "nat")
    session = leave_and_compare(client, ostiary, laptop.device_id)
    assert session.method == method
    assert session.terminate_cause == "USER_REQUEST"
    assert policies(site.gateway) == idle_policies
