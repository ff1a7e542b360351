"""The gateway rekeys strongSwan's SAs, alone and at the same time as strongSwan, while packets flow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import pytest

from tests.interop.clients import Clients, leave, use_tunnel
from tests.interop.pinging import pinging
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

CHILD_REKEY_S, IKE_REKEY_S = 2.0, 3.1
WATCHED_S = 14.0
FEWEST_REKEYINGS = 3


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway that rekeys all the time."""
    return {"gateway": {"child_rekey_s": CHILD_REKEY_S, "ike_rekey_s": IKE_REKEY_S}}


@pytest.mark.parametrize("esp_proposals", ["aes256gcm16", "aes256gcm16-x25519"], ids=["without PFS", "with PFS"])
def test_by_itself(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, esp_proposals: str) -> None:
    """strongSwan wants a key exchange where its proposals have one; the gateway learns that from a refusal."""
    client = clients.eap_mschapv2(site.client, laptop, esp_proposals=esp_proposals)
    client.connect()
    session = ostiary.live_session(laptop.device_id)
    with pinging(client.namespace, client.directory):
        time.sleep(WATCHED_S)
    log = client.log()
    assert log.count("CHILD_SA closed") >= FEWEST_REKEYINGS
    assert len(re.findall(r"IKE_SA gateway\[\d+\] rekeyed", log)) >= FEWEST_REKEYINGS
    # Nothing of that was the client's.
    assert "generating CREATE_CHILD_SA request" not in log
    suites = wait_for(lambda: [sa.esp_suite for sa in client.list_sas() if sa.child_count], 5.0, "child SAs")
    assert all(("CURVE_25519" in suite) == ("x25519" in esp_proposals) for suite in suites)
    use_tunnel(client)
    assert ostiary.live_session(laptop.device_id).id == session.id
    leave(client, ostiary, laptop)


def test_while_the_client_does_it_as_well(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """Both have the same short lifetimes, so that exchanges cross now and then; whichever wins, nothing is lost."""
    client = clients.eap_mschapv2(
        site.client,
        laptop,
        connection_options={"rekey_time": f"{IKE_REKEY_S * 0.9:.0f}s", "rand_time": "1s", "over_time": "30s"},
        child_options={"rekey_time": f"{CHILD_REKEY_S:.0f}s", "rand_time": "1s", "life_time": "30s"},
    )
    client.connect()
    session = ostiary.live_session(laptop.device_id)
    with pinging(client.namespace, client.directory):
        time.sleep(WATCHED_S)
    assert ostiary.live_session(laptop.device_id).id == session.id
    leave(client, ostiary, laptop)
