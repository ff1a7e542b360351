"""strongSwan rekeys, and reauthenticates, while packets flow; not one may be lost."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients, leave, use_tunnel
from tests.interop.pinging import pinging
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary
from tests.lab.topology import INSIDE_IPV6, Site

pytestmark = pytest.mark.interop

WITHOUT_PFS, WITH_PFS = "aes256gcm16", "aes256gcm16-x25519"


@pytest.mark.parametrize("esp_proposals", [WITHOUT_PFS, WITH_PFS], ids=["without PFS", "with PFS"])
def test_the_child_sa(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, esp_proposals: str) -> None:
    client = clients.eap_mschapv2(site.client, laptop, esp_proposals=esp_proposals)
    client.connect()
    use_tunnel(client)
    with pinging(client.namespace, client.directory) as pings:
        for _ in range(3):
            sa = client.rekey_child()
            assert ("CURVE_25519" in sa.esp_suite) == (esp_proposals == WITH_PFS)
            assert client.namespace.ping(INSIDE_IPV6, count=2) == 2
    # The accounting counts all four child SAs together.
    leave(client, ostiary, laptop, packets=pings.sent)


def test_the_ike_sa(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    session = ostiary.live_session(laptop.device_id)
    with pinging(client.namespace, client.directory):
        for _ in range(3):
            client.rekey_ike()
        client.rekey_child()
    use_tunnel(client)
    assert ostiary.live_session(laptop.device_id).id == session.id
    leave(client, ostiary, laptop)


def test_the_sign_in_itself_make_before_break(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """A new IKE SA with the same addresses, then the old one is deleted (RFC 7296 section 2.8.3)."""
    client = clients.eap_mschapv2(
        site.client,
        laptop,
        connection_options={"reauth_time": "3s", "over_time": "5s", "rand_time": "0s"},
        charon_options={"make_before_break": "yes"},
    )
    result = client.connect()
    before = ostiary.live_session(laptop.device_id)
    with pinging(client.namespace, client.directory):
        ended = ostiary.wait_for_session(lambda row: row.id == before.id and row.ended_at is not None, "that ended")
    assert ended.terminate_cause == "USER_REQUEST"
    after = ostiary.live_session(laptop.device_id)
    assert after.id != before.id
    assert (after.virtual_ipv4, after.virtual_ipv6) == (result.virtual_ipv4, result.virtual_ipv6)
    assert client.namespace.ping(INSIDE_IPV6, count=2) == 2
    client.terminate()
