"""The client rekeys under traffic: no echo request stays without an answer, and accounting counts on."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients
from tests.interop.pinging import pinging
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary
from tests.lab.topology import Site
from tests.lab.xfrm import kernel_sas, policies

pytestmark = pytest.mark.interop

REKEYINGS = 3
PFS = "aes256gcm16-x25519"


@pytest.mark.parametrize(("place", "esp_proposals"), [("client", "aes256gcm16"), ("home", PFS)])
def test_child_and_ike_three_times_each(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    laptop: Laptop,
    idle_policies: list[str],
    place: str,
    esp_proposals: str,
) -> None:
    namespace = {"client": site.client, "home": site.home}[place]
    client = clients.eap_mschapv2(namespace, laptop, esp_proposals=esp_proposals)
    client.connect()
    live = ostiary.live_session(laptop.device_id)
    spis = {sa.spi for sa in kernel_sas(site.gateway)}
    ike_spis = {sa.spis for sa in client.list_sas()}
    with pinging(namespace, client.directory) as pings:
        for _ in range(REKEYINGS):
            client.rekey_child()
            spis |= {sa.spi for sa in kernel_sas(site.gateway)}
            ike_spis.add(client.rekey_ike().spis)
    assert len(spis) == 2 * (1 + REKEYINGS)
    assert len(ike_spis) == 1 + REKEYINGS
    client.terminate()
    session = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert (session.packets_in, session.packets_out) == (pings.sent, pings.sent)
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies


@pytest.mark.parametrize("place", ["client", "home"])
def test_a_new_sign_in_make_before_break(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, idle_policies: list[str], place: str
) -> None:
    """For a moment there are two child SAs of two IKE SAs for the same addresses (RFC 7296 section 2.8.3)."""
    namespace = {"client": site.client, "home": site.home}[place]
    client = clients.eap_mschapv2(
        namespace,
        laptop,
        connection_options={"reauth_time": "4s", "over_time": "10s", "rand_time": "0s"},
        charon_options={"make_before_break": "yes"},
    )
    result = client.connect()
    before = ostiary.live_session(laptop.device_id)
    with pinging(namespace, client.directory):
        ended = ostiary.wait_for_session(
            lambda row: row.id == before.id and row.ended_at is not None, "that ended", 20.0
        )
    assert ended.terminate_cause == "USER_REQUEST"
    after = ostiary.live_session(laptop.device_id)
    assert (after.virtual_ipv4, after.virtual_ipv6) == (result.virtual_ipv4, result.virtual_ipv6)
    client.stop()
    ostiary.wait_for_session(lambda row: row.id == after.id and row.ended_at is not None, "that has ended")
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies
