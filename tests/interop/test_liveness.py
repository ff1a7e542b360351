"""Peers that leave, die, or are told to leave."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

DPD_INTERVAL_S = 1.0
POOL = {"name": "staff", "ipv4": "10.99.0.0/29", "ipv6": "fd99::/125"}
POOL_SIZE = 5
"""Of its addresses the first is the network's, the second the gateway's, the last for broadcasts."""
RETRANSMIT_TIMEOUTS_S = [0.5, 0.5, 0.5]
MOBIKE_PATIENCE_S = 2.0
"""For clients that may only be on their way to another network."""


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway that loses patience quickly, with a pool of few addresses."""
    return {
        "gateway": {
            "dpd_interval_s": DPD_INTERVAL_S,
            "retransmit_timeouts_s": RETRANSMIT_TIMEOUTS_S,
            "mobike_patience_s": MOBIKE_PATIENCE_S,
            "pools": [POOL],
        }
    }


def test_client_leaves(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    output = client.terminate()
    assert "IKE_SA deleted" in output
    session = ostiary.wait_for_session(lambda row: row.ended_at is not None, "that has ended")
    assert session.terminate_cause == "USER_REQUEST"


def test_gateway_asks_a_silent_client(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    client.wait_for_log(r"parsed INFORMATIONAL request \d+ \[ \](?s:.*)generating INFORMATIONAL response", 5.0)
    assert ostiary.live_session(laptop.device_id)
    client.terminate()


def test_client_asks_a_silent_gateway(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop, dpd_delay_s=1)
    client.connect()
    client.wait_for_log(r"sending DPD request(?s:.*)parsed INFORMATIONAL response \d+ \[ \]", 6.0)
    assert client.list_sas()[0].state == "ESTABLISHED"
    client.terminate()


def test_killed_clients_are_cleared_and_their_addresses_given_again(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment
) -> None:
    """Laptops are killed until the pool is empty. Each may come back to its own place at once; somebody new has to
    wait until the gateway has noticed.
    """
    victims: list[Laptop] = []
    addresses: list[str] = []
    while True:
        laptop = enrolment.laptop("erin", f"erin-{len(victims)}")
        client = clients.eap_mschapv2(site.client, laptop)
        result = client.initiate()
        if not result.ok:
            break
        addresses.append(result.virtual_ipv4)
        assert len(set(addresses)) == len(addresses) <= POOL_SIZE
        client.kill()
        victims.append(laptop)
    assert len(victims) == POOL_SIZE
    assert "INTERNAL_ADDRESS_FAILURE" in result.output
    client.wait_until_told("received DELETE for IKE_SA", 3.0)
    assert "ignoring INFORMATIONAL" not in client.log(), "the Delete came before the answer"
    client.stop()

    survivor = clients.eap_mschapv2(site.client, victims[-1])
    assert survivor.connect().virtual_ipv4 == addresses[-1]
    use_tunnel(survivor)
    survivor.stop()

    wait_for(lambda: ostiary.sessions(live=True) == [], 10.0, "the end of the killed clients' sessions")
    ended = [
        row.terminate_cause for row in ostiary.sessions() if row.device_id in {one.device_id for one in victims[:-1]}
    ]
    assert ended == ["LOST_SERVICE"] * (POOL_SIZE - 1)
    newcomer = clients.eap_mschapv2(site.client, enrolment.laptop("erin", "erin-new"))
    assert newcomer.connect().virtual_ipv4 in addresses
    use_tunnel(newcomer)
    newcomer.terminate()


def test_reconnect_of_a_killed_client(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """INITIAL_CONTACT clears what the dead client left behind, without waiting for DPD; the address is the same."""
    first = clients.eap_mschapv2(site.client, laptop)
    before = first.connect()
    left_behind = ostiary.live_session(laptop.device_id)
    first.kill()
    second = clients.eap_mschapv2(site.client, laptop)
    after = second.connect()
    assert "N(INIT_CONTACT)" in after.output
    use_tunnel(second)
    ended = ostiary.wait_for_session(
        lambda row: row.id == left_behind.id and row.ended_at is not None, "that the first client left behind", 2.0
    )
    assert ended.terminate_cause == "NAS_REQUEST"
    assert after.virtual_ipv4 == before.virtual_ipv4
    assert ostiary.live_session(laptop.device_id).id != left_behind.id
    second.terminate()


def test_stopping_gateway_says_goodbye(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """SIGTERM: a Delete to every client, sessions closed, nothing left in the namespace. A new start serves again."""
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    ostiary.stop()
    client.wait_for_log(r"received DELETE for IKE_SA", 5.0)
    assert client.list_sas() == []
    assert ostiary.sessions(live=True) == []
    assert ostiary.sessions()[-1].terminate_cause == "ADMIN_REBOOT"

    ostiary.start()
    client.connect()
    use_tunnel(client)
    client.terminate()


def test_a_client_is_told_that_its_sa_was_lost(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop
) -> None:
    """INVALID_IKE_SPI comes in the clear: strongSwan sees it, believes nothing, and comes back when it gives up."""
    client = clients.eap_mschapv2(site.client, laptop, dpd_delay_s=1, child_options={"dpd_action": "restart"})
    client.connect()
    ostiary.kill()
    ostiary.start()
    client.wait_for_log(r"payload type NOTIFY was not encrypted", 8.0)
    client.wait_for_log(r"giving up after 3 retransmits", 8.0)
    ostiary.live_session(laptop.device_id)
    wait_for(lambda: len(client.list_sas()) == 1 or None, 5.0, "the end of the lost SA")
    use_tunnel(client)
    client.terminate()


def test_killed_gateway_finds_its_sessions_closed(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop
) -> None:
    """After SIGKILL the next start closes what the accounting still showed, and the client gets in again."""
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    ostiary.live_session(laptop.device_id)
    ostiary.kill()
    ostiary.start()
    assert ostiary.sessions(live=True) == []
    assert ostiary.sessions()[-1].terminate_cause == "NAS_REBOOT"
    client.kill()
    again = clients.eap_mschapv2(site.client, laptop)
    again.connect()
    use_tunnel(again)
    again.terminate()
