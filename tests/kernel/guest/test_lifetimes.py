"""Working days in seconds: the guest's clock jumps ahead whenever nobody has anything to do."""

from __future__ import annotations

import time

import pytest

from tests.interop.clients import Clients, use_tunnel
from tests.interop.pinging import pinging
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.ostiary import Ostiary
from tests.lab.topology import Site
from tests.lab.xfrm import kernel_sas, policies

pytestmark = [pytest.mark.interop, pytest.mark.guest(time_travel=True)]

HOUR_S = 3600.0
NO_REKEYING = {"rekey_time": "0s"}


@pytest.fixture
def fresh_laptop(enrolment: Enrolment, request: pytest.FixtureRequest) -> Laptop:
    """With an access code that was not there yesterday."""
    return enrolment.laptop("alice", f"laptop-{abs(hash(request.node.name)):x}")


@pytest.mark.parametrize(
    ("place", "who", "connection", "child", "fewest_children", "fewest_ike_sas"),
    [
        ("home", "client", {"rekey_time": "4h"}, {"rekey_time": "1h"}, 10, 2),
        ("client", "gateway", {**NO_REKEYING, "over_time": "10m"}, NO_REKEYING, 3, 0),
    ],
    ids=["the client rekeys", "the gateway rekeys"],
)
def test_a_working_day(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    fresh_laptop: Laptop,
    idle_policies: list[str],
    place: str,
    who: str,
    connection: dict[str, str],
    child: dict[str, str],
    fewest_children: int,
    fewest_ike_sas: int,
) -> None:
    namespace = {"client": site.client, "home": site.home}[place]
    client = clients.eap_mschapv2(namespace, fresh_laptop, connection_options=connection, child_options=child)
    client.connect()
    live = ostiary.live_session(fresh_laptop.device_id)
    with pinging(namespace, client.directory, interval_s=60.0) as pings:
        time.sleep(11 * HOUR_S)
    assert pings.sent > 600
    log = client.log()
    assert log.count("CHILD_SA closed") >= fewest_children, f"the {who} did not rekey"
    assert log.count("deleting IKE_SA") + log.count("rekeyed between") >= fewest_ike_sas
    assert ostiary.live_session(fresh_laptop.device_id).id == live.id
    assert len(kernel_sas(site.gateway)) == 2

    # The client was told when its session ends (RFC 4478), and signs in anew before; its access code is too old then.
    mark = ostiary.audit_mark()
    time.sleep(1.1 * HOUR_S)
    [ended] = [row for row in ostiary.sessions() if row.id == live.id]
    assert ended.terminate_cause == "USER_REQUEST"
    assert ended.ended_at is not None
    assert 11 * HOUR_S < (ended.ended_at - ended.started_at).total_seconds() <= 12 * HOUR_S
    assert {event.action for event in ostiary.audit_since(mark)} == {"sign-in.refuse"}
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies


@pytest.mark.parametrize(
    ("mobike", "patience_s"), [("no", 0.0), ("yes", 300.0)], ids=["a client that stays", "one that may be on its way"]
)
def test_a_client_that_vanished_is_noticed(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    fresh_laptop: Laptop,
    idle_policies: list[str],
    mobike: str,
    patience_s: float,
) -> None:
    client = clients.eap_mschapv2(site.client, fresh_laptop, connection_options={"mobike": mobike})
    client.connect()
    use_tunnel(client)
    live = ostiary.live_session(fresh_laptop.device_id)
    settings = ostiary.settings.gateway
    site.internet.ip("link", "set", "client", "down")
    try:
        time.sleep(max(patience_s, settings.dpd_interval_s))
        assert len(kernel_sas(site.gateway)) == 2
        # The kernel counts packets and does not say when the last one came; the gateway finds out by looking twice.
        time.sleep(settings.dpd_interval_s + sum(settings.retransmit_timeouts_s) + 20)
    finally:
        site.internet.ip("link", "set", "client", "up")
    [ended] = [row for row in ostiary.sessions() if row.id == live.id]
    assert ended.terminate_cause == "LOST_SERVICE"
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies
