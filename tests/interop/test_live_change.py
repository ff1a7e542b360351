"""A live session of strongSwan is narrowed to the quarantine network, and widened again, without a new sign-in."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import pytest

from tests.interop.clients import Clients, use_tunnel
from tests.interop.pinging import pinging
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import GATEWAY_INSIDE_IPV4, INSIDE_IPV4, INSIDE_IPV6, Site

pytestmark = pytest.mark.interop

HELP_DESK = f"{GATEWAY_INSIDE_IPV4}/32"
"""All that a quarantined device may reach here."""


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """One rule for each state of a device."""
    return {
        "aaa": {
            "interim_interval_s": 1.0,
            "sign_in_failures_per_minute": 1000,
            "rules": [
                {"name": "quarantine", "device_states": ["quarantined"], "networks": [HELP_DESK]},
                {"name": "staff", "device_states": ["trusted"]},
            ],
        }
    }


@pytest.fixture
def machine(enrolment: Enrolment) -> Laptop:
    """A laptop for each test."""
    return enrolment.laptop("quinn", f"quinn-{next(_numbers)}")


_numbers = count(1)


def selectors(client: StrongSwanClient) -> set[str]:
    [sa] = client.list_sas()
    return set(sa.remote_selectors) if sa.child_count == 1 else set()


def test_quarantine_and_back(ostiary: Ostiary, site: Site, clients: Clients, machine: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, machine)
    client.connect()
    use_tunnel(client)
    session = ostiary.live_session(machine.device_id)
    [before] = client.list_sas()
    with pinging(client.namespace, client.directory, GATEWAY_INSIDE_IPV4):
        told = ostiary.command_json("device", "quarantine", machine.device_name, "--reason", "disk encryption is off")
        [answer] = told["answers"]
        assert (answer["acknowledged"], answer["sessions_ended"]) == (True, "1 session changed")
        assert client.namespace.ping(INSIDE_IPV4, wait_s=1) == 0
        assert client.namespace.ping(INSIDE_IPV6, wait_s=1) == 0
        wait_for(lambda: selectors(client) == {HELP_DESK}, 5.0, "the client's narrow child SA")
        assert client.namespace.ping(INSIDE_IPV4, wait_s=1) == 0

        ostiary.command_json("device", "trust", machine.device_name, "--reason", "encrypted again")
        wait_for(lambda: selectors(client) == set(before.remote_selectors), 5.0, "the client's wide child SA")
    use_tunnel(client)
    [after] = client.list_sas()
    assert after.spis == before.spis
    assert ostiary.live_session(machine.device_id).id == session.id
    client.terminate()


def test_a_quarantined_device_signs_in_to_the_quarantine(
    ostiary: Ostiary, site: Site, clients: Clients, machine: Laptop
) -> None:
    ostiary.command("device", "quarantine", machine.device_name, "--reason", "no screen lock")
    client = clients.eap_mschapv2(site.client, machine)
    client.connect()
    assert selectors(client) == {HELP_DESK}
    assert client.namespace.ping(GATEWAY_INSIDE_IPV4) == 1
    assert client.namespace.ping(INSIDE_IPV4, wait_s=1) == 0
    client.rekey_child()
    assert selectors(client) == {HELP_DESK}
    ostiary.command("device", "trust", machine.device_name, "--reason", "locked")
    wait_for(lambda: client.namespace.ping(INSIDE_IPV4, wait_s=1) == 1, 5.0, "the way to the host inside")
    client.terminate()
