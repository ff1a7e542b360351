"""strongSwan and the gateway begin at the same moment what is the same or can't go together: `tests.lab.crossing`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.interop.clients import Deployment, deployment, leave, use_tunnel
from tests.interop.pinging import pinging
from tests.lab.crossing import Crossing
from tests.lab.namespaces import Lab
from tests.lab.ostiary import TomlValue
from tests.lab.processes import wait_for
from tests.lab.strongswan import SaView, StrongSwanClient
from tests.lab.topology import GATEWAY_INSIDE_IPV4, INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

SOON_S = 10.0
"""When the gateway rekeys what a test wants it to, or up to a tenth sooner. A child SA ends a fifth later, so that is
how long they may take to agree.
"""
ASKED_S, SETTLED_S = SOON_S + 4.0, 15.0
ROUNDS = 2
HELP_DESK = f"{GATEWAY_INSIDE_IPV4}/32"


@pytest.fixture(scope="module")
def crossing(site: Site) -> Crossing:
    """Between the client and the gateway."""
    return Crossing(site.internet, ASKED_S)


@contextlib.contextmanager
def connected(
    site: Site, lab: Lab, name: str, gateway: dict[str, TomlValue], aaa: dict[str, TomlValue] | None = None
) -> Iterator[tuple[Deployment, StrongSwanClient]]:
    """A gateway that asks again soon, with these settings, and a client that is in."""
    patient: dict[str, TomlValue] = {
        "retransmit_timeouts_s": [*[0.3] * 4, 0.5, 1.0, 2.0, 4.0],
        "dpd_interval_s": 300.0,
    }
    settings = {"gateway": {**patient, **gateway}, "aaa": aaa or {}}
    with deployment(site.gateway, lab.directory / name, settings) as own:
        client = own.clients.eap_mschapv2(site.client, own.laptop, charon_options={"retransmit_timeout": "0.5"})
        client.connect()
        use_tunnel(client)
        try:
            yield own, client
        finally:
            # Shown where the test fails.
            print(client.log()[-6000:], own.ostiary.log()[-3000:], sep="\n")


def settled(client: StrongSwanClient) -> SaView | None:
    """The client's SAs when nothing is left over: one IKE SA with one child SA."""
    sas = client.list_sas()
    return sas[0] if len(sas) == 1 and (sas[0].state, sas[0].child_count) == ("ESTABLISHED", 1) else None


def wait_until_settled(client: StrongSwanClient, *others: str) -> SaView:
    """One IKE SA and one child SA, of none of these SPIs."""

    def anew() -> SaView | None:
        sa = settled(client)
        return None if sa is None or sa.spis in others or sa.child_spi_in in others else sa

    return wait_for(anew, SETTLED_S, f"one SA of each kind\n{client.log()[-6000:]}", interval_s=0.05)


def test_both_rekey_the_child_sa(site: Site, lab: Lab, crossing: Crossing) -> None:
    """RFC 7296 section 2.8.1."""
    with connected(site, lab, "children", {"child_rekey_s": SOON_S}) as (own, client):
        live = own.ostiary.live_session(own.laptop.device_id)
        with pinging(client.namespace, client.directory) as pings:
            for number in range(1, ROUNDS + 1):
                before = wait_until_settled(client)
                crossing.cross(lambda: client.begin_rekeying("child"), both_notice=True)
                client.wait_for_log(rf"(?s)(CHILD_SA rekey(/delete)? collision.*){{{number}}}", SETTLED_S)
                after = wait_until_settled(client, before.child_spi_in)
                assert after.spis == before.spis
        assert "detected CHILD_REKEY collision with CHILD_REKEY" in client.log()
        use_tunnel(client)
        assert own.ostiary.live_session(own.laptop.device_id).id == live.id
        leave(client, own.ostiary, own.laptop, packets=pings.sent)


def test_both_rekey_the_ike_sa(site: Site, lab: Lab, crossing: Crossing) -> None:
    """RFC 7296 section 2.8.2."""
    with connected(site, lab, "ike", {"ike_rekey_s": SOON_S}) as (own, client):
        live = own.ostiary.live_session(own.laptop.device_id)
        with pinging(client.namespace, client.directory) as pings:
            for number in range(1, ROUNDS + 1):
                before = wait_until_settled(client)
                crossing.cross(lambda: client.begin_rekeying("ike"), both_notice=True)
                client.wait_for_log(rf"(?s)(IKE_SA rekey collision.*){{{number}}}", SETTLED_S)
                after = wait_until_settled(client, before.spis)
                assert after.child_spi_in == before.child_spi_in
        assert "detected IKE_REKEY collision with IKE_REKEY" in client.log()
        client.rekey_child()
        use_tunnel(client)
        assert own.ostiary.live_session(own.laptop.device_id).id == live.id
        leave(client, own.ostiary, own.laptop, packets=pings.sent)


def test_the_client_rekeys_the_ike_sa_while_the_gateway_narrows_its_child_sa(
    site: Site, lab: Lab, crossing: Crossing
) -> None:
    """RFC 7296 section 2.25.2: TEMPORARY_FAILURE, so the child SA is made later, and in the new IKE SA."""
    rules: list[TomlValue] = [
        {"name": "quarantine", "device_states": ["quarantined"], "networks": [HELP_DESK]},
        {"name": "staff"},
    ]
    with connected(site, lab, "crossing", {}, aaa={"rules": rules}) as (own, client):
        live = own.ostiary.live_session(own.laptop.device_id)
        [before] = client.list_sas()
        quarantine = ("device", "quarantine", own.laptop.device_name, "--reason", "disk encryption is off")
        with pinging(client.namespace, client.directory, GATEWAY_INSIDE_IPV4):
            crossing.cross(lambda: client.begin_rekeying("ike"), lambda: own.ostiary.command(*quarantine))
            client.wait_for_log(r"CREATE_CHILD_SA response \d+ \[ N\(TEMP_FAIL\) \]", SETTLED_S)
            after = wait_until_settled(client, before.spis, before.child_spi_in)
        assert after.remote_selectors == (HELP_DESK,)
        assert client.namespace.ping(INSIDE_IPV4, wait_s=1) == 0
        assert client.namespace.ping(GATEWAY_INSIDE_IPV4) == 1
        assert own.ostiary.live_session(own.laptop.device_id).id == live.id
        client.terminate()


def test_the_client_deletes_the_child_sa_that_the_gateway_rekeys(site: Site, lab: Lab, crossing: Crossing) -> None:
    """RFC 7296 section 2.25.1: it is gone, for the gateway as well, and the client can have another one."""
    with (
        connected(site, lab, "deleting", {"child_rekey_s": SOON_S}) as (own, client),
        ThreadPoolExecutor(1) as thread,
    ):
        live = own.ostiary.live_session(own.laptop.device_id)
        waiting: list[Future[str]] = []
        crossing.cross(lambda: waiting.append(thread.submit(client.terminate_child)))
        waiting[0].result()
        client.wait_for_log(r"generating CREATE_CHILD_SA response \d+ \[ N\((TEMP_FAIL|NO_CHILD_SA)\) \]", SETTLED_S)
        [alone] = client.list_sas()
        assert (alone.state, alone.child_count) == ("ESTABLISHED", 0)
        client.connect()
        use_tunnel(client)
        assert wait_until_settled(client).spis == alone.spis
        assert own.ostiary.live_session(own.laptop.device_id).id == live.id
        leave(client, own.ostiary, own.laptop)


def test_both_delete_the_ike_sa(site: Site, lab: Lab, crossing: Crossing) -> None:
    """RFC 7296 section 1.4.1: each answers, and neither waits for what the other has said already."""
    with connected(site, lab, "leaving", {}) as (own, client), ThreadPoolExecutor(1) as thread:
        live = own.ostiary.live_session(own.laptop.device_id)
        waiting: list[Future[str]] = []
        crossing.cross(
            lambda: waiting.append(thread.submit(client.terminate)),
            lambda: own.ostiary.command("session", "disconnect", live.id, "--reason", "maintenance"),
        )
        waiting[0].result()
        assert client.list_sas() == []
        assert re.search(r"generating INFORMATIONAL request \d+ \[ D \]", client.log())
        ended = own.ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that ended")
        assert ended.terminate_cause == "ADMIN_RESET"
        client.connect()
        use_tunnel(client)
        client.terminate()
