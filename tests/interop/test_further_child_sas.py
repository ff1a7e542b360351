"""strongSwan with several child SAs in one IKE SA: one for each network, made and deleted one by one."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary
from tests.lab.strongswan_config import CHILD
from tests.lab.topology import INSIDE_IPV4, INSIDE_IPV6, Site

pytestmark = pytest.mark.interop

SECOND, REFUSED = "second", "refused"
PINGS = 3


@pytest.mark.parametrize("esp_proposals", ["aes256gcm16", "aes256gcm16-x25519"], ids=["without PFS", "with PFS"])
def test_one_for_each_network(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, esp_proposals: str
) -> None:
    def child(networks: str) -> dict[str, str]:
        return {"remote_ts": networks, "esp_proposals": esp_proposals, "rekey_time": "0s"}

    children = {CHILD: child(f"{INSIDE_IPV4}/32"), SECOND: child("fd01::/64"), REFUSED: child("172.16.0.0/16")}
    client = clients.eap_mschapv2(site.client, laptop, connection_options={"children": children})
    client.connect()
    live = ostiary.live_session(laptop.device_id)
    assert site.client.ping(INSIDE_IPV4, count=PINGS) == PINGS
    assert site.client.ping(INSIDE_IPV6, wait_s=1) == 0

    made = client.connect(child=SECOND).output
    assert ("[ SA No KE TSi TSr ]" in made) == ("x25519" in esp_proposals)
    assert site.client.ping(INSIDE_IPV4, count=PINGS) == PINGS
    assert site.client.ping(INSIDE_IPV6, count=PINGS) == PINGS
    [both] = client.list_sas()
    assert both.child_count == 2

    # What the rule does not allow is refused, and those that are there stay.
    assert "N(TS_UNACCEPT)" in client.initiate(child=REFUSED).output
    client.terminate_child()
    assert site.client.ping(INSIDE_IPV4, wait_s=1) == 0
    assert site.client.ping(INSIDE_IPV6, count=PINGS) == PINGS
    [left] = client.list_sas()
    assert (left.spis, left.child_count, left.remote_selectors) == (both.spis, 1, ("fd01::/64",))

    client.terminate()
    session = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    # Of all of them together.
    assert session.packets_in >= 4 * PINGS
    assert session.packets_out >= 4 * PINGS
