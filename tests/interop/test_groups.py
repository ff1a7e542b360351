"""What a rule gives to its users: a pool, all of the network or part of it, and so many devices at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

import pytest

from tests.interop.clients import Clients
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.topology import INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

STAFF, ADMINISTRATORS = "10.99.0.0/24", "10.98.0.0/24"
ENDED_WITHIN_S = 10.0
"""Between the second device's connection and the first one's end; a worker is woken for it."""


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """Two groups of users, told apart by name."""
    return {
        "gateway": {
            "pools": [
                {"name": "staff", "ipv4": STAFF, "ipv6": "fd99::/112"},
                {"name": "administrators", "ipv4": ADMINISTRATORS, "ipv6": "fd98::/112"},
            ]
        },
        "aaa": {
            "rules": [
                {"name": "administrators", "users": ["ada"], "pool": "administrators", "tunnel": "full"},
                {
                    "name": "staff",
                    "users": ["alice"],
                    "tunnel": "split",
                    "networks": [f"{INSIDE_IPV4}/32"],
                    "devices_at_once": 1,
                },
            ]
        },
    }


@pytest.fixture(scope="module")
def ostiary(lab: Lab, site: Site, gateway_settings: Mapping[str, Mapping[str, TomlValue]]) -> Iterator[Ostiary]:
    """The gateway, and the worker that it wakes."""
    with Ostiary(
        site.gateway, lab.directory / "ostiary", settings=gateway_settings, parts=("gateway", "worker")
    ) as ostiary:
        yield ostiary


def test_a_full_tunnel_and_a_pool_of_its_own(site: Site, clients: Clients, enrolment: Enrolment) -> None:
    client = clients.eap_mschapv2(site.client, enrolment.laptop("ada", "ada-laptop"))
    result = client.connect()
    assert ip_address(result.virtual_ipv4) in ip_network(ADMINISTRATORS)
    assert ip_address(result.virtual_ipv6) in ip_network("fd98::/112")
    (sa,) = client.list_sas()
    # No ping: with everything in the tunnel, strongSwan's userspace ESP would send its own packets into it.
    assert set(sa.remote_selectors) == {"0.0.0.0/0", "::/0"}
    client.terminate()


def test_a_split_tunnel_and_no_address_that_leads_nowhere(site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    result = client.connect()
    assert ip_address(result.virtual_ipv4) in ip_network(STAFF)
    assert "installing new virtual IP fd" not in result.output
    (sa,) = client.list_sas()
    assert sa.remote_selectors == (f"{INSIDE_IPV4}/32",)
    assert client.namespace.ping(INSIDE_IPV4) == 1
    client.terminate()


def test_a_second_device_takes_the_place_of_the_first(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    tablet = enrolment.laptop("alice", "alice-tablet")
    first, second = clients.eap_mschapv2(site.client, laptop), clients.eap_mschapv2(site.home, tablet)
    first.connect()
    session = ostiary.live_session(laptop.device_id)
    mark = ostiary.audit_mark()
    second.connect()
    wait_for(lambda: not first.list_sas(), ENDED_WITHIN_S, "the end of the first device's tunnel")
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "session.disconnect", "of the disconnection")
    assert (event.target, event.reason) == (
        f"session:{session.id}",
        "alice may have 1 device connected at once, and another one connected",
    )
    ended = ostiary.wait_for_session(lambda row: row.id == session.id and row.ended_at is not None, "that has ended")
    assert ended.terminate_cause == "ADMIN_RESET"
    assert second.namespace.ping(INSIDE_IPV4) == 1
    second.terminate()
