"""The gateway of another site, by a pre-shared key: strongSwan with networks behind it, and no virtual address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.interop.clients import Clients, refused
from tests.lab.branch import (
    BRANCH_IDENTITY,
    BRANCH_IPV4,
    BRANCH_KEY,
    BRANCH_NETWORKS,
    PINGS,
    PLANT_IDENTITY,
    PLANT_KEY,
    branch_settings,
    build_branch,
    carries,
)
from tests.lab.enrolment import Laptop
from tests.lab.namespaces import Lab, Namespace
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import INSIDE_IPV4, Site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway_settings(lab: Lab) -> Mapping[str, Mapping[str, TomlValue]]:
    """One branch, and a rule for it; another one without a rule."""
    return branch_settings(lab)


@pytest.fixture(scope="module", autouse=True)
def branch(lab: Lab, site: Site) -> Namespace:
    """A host of the branch."""
    return build_branch(lab, site)


def site_of(clients: Clients, site: Site, **changes: Any) -> StrongSwanClient:
    """The branch's strongSwan."""
    usual: dict[str, Any] = {
        "identity": BRANCH_IDENTITY,
        "pre_shared_key": BRANCH_KEY,
        "child_options": {"local_ts": ",".join(BRANCH_NETWORKS)},
    }
    return clients.site(site.client, **{**usual, **changes})


def test_networks_reach_each_other(ostiary: Ostiary, site: Site, clients: Clients, branch: Namespace) -> None:
    mark = ostiary.audit_mark()
    client = site_of(clients, site)
    result = client.connect()
    assert f"authentication of '{ostiary.settings.gateway.identity}' with pre-shared key successful" in result.output
    assert carries(branch, site)
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "that someone was let in")
    assert event.detail["method"] == "psk"
    assert (event.detail["user"], event.detail["rule"]) == ("site:branch", "branches")
    live = ostiary.live_session("site:branch")
    assert (live.user_name, live.device_name, live.method) == ("site:branch", "site:branch", "psk")
    assert (live.virtual_ipv4, live.virtual_ipv6) == (None, None)
    client.rekey_child()
    assert carries(branch, site)
    client.rekey_ike()
    assert carries(branch, site)
    client.terminate()
    ended = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert ended.terminate_cause == "USER_REQUEST"
    assert ended.packets_in >= 4 * PINGS
    # Without the tunnel nothing gets through, in the clear or otherwise.
    assert site.inside.ping(BRANCH_IPV4, wait_s=1) == 0


def test_it_signs_in_again_and_its_traffic_goes_on(
    ostiary: Ostiary, site: Site, clients: Clients, branch: Namespace
) -> None:
    first = site_of(clients, site)
    first.connect()
    first.kill()
    second = site_of(clients, site)
    second.connect()
    assert carries(branch, site)
    assert [row.device_id for row in ostiary.sessions(live=True)] == ["site:branch"]
    second.terminate()


def test_it_gets_no_more_than_its_own_networks(
    ostiary: Ostiary, site: Site, clients: Clients, branch: Namespace
) -> None:
    client = site_of(clients, site, child_options={"local_ts": "10.0.0.0/8"})
    result = client.connect()
    assert "10.20.0.0/24 === 10.1.0.0/24" in result.output
    client.terminate()


def test_who_has_another_key(ostiary: Ostiary, site: Site, clients: Clients) -> None:
    reason = refused(site_of(clients, site, pre_shared_key=PLANT_KEY), ostiary, "psk-refused")
    assert reason == "branch.example is no site peer, or it has another pre-shared key"


def test_who_is_no_site(ostiary: Ostiary, site: Site, clients: Clients) -> None:
    reason = refused(site_of(clients, site, identity="stranger.example"), ostiary, "psk-refused")
    assert reason == "stranger.example is no site peer, or it has another pre-shared key"


def test_a_site_that_no_rule_names(ostiary: Ostiary, site: Site, clients: Clients) -> None:
    plant = site_of(clients, site, identity=PLANT_IDENTITY, pre_shared_key=PLANT_KEY)
    refused(plant, ostiary, "no-rule")


def test_an_operator_disconnects_it(ostiary: Ostiary, site: Site, clients: Clients, branch: Namespace) -> None:
    client = site_of(clients, site)
    client.connect()
    live = ostiary.live_session("site:branch")
    ostiary.command("session", "disconnect", live.id, "--reason", "maintenance")
    wait_for(lambda: client.list_sas() == [], 5, "the end of the site's SA")
    ended = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert ended.terminate_cause == "ADMIN_RESET"


def test_devices_sign_in_beside_it(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    branch_client = site_of(clients, site)
    branch_client.connect()
    device = clients.eap_mschapv2(site.home, laptop)
    device.connect()
    assert site.home.ping(INSIDE_IPV4, count=PINGS) == PINGS
    assert {row.method for row in ostiary.sessions(live=True)} == {"psk", "eap-mschapv2"}
    device.terminate()
    branch_client.terminate()
