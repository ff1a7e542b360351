"""Client and gateway rekey the same child SA at the same moment, with the kernel's ESP: no packet is lost."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients, use_tunnel
from tests.interop.pinging import pinging
from tests.lab.crossing import Crossing
from tests.lab.enrolment import Enrolment
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.topology import Site
from tests.lab.xfrm import kernel_sas, policies

pytestmark = pytest.mark.interop

SOON_S = 15.0
"""When the gateway rekeys; its child SA ends a fifth later."""
SETTLED_S = 15.0


def test_both_rekey_the_child_sa(lab: Lab, site: Site, ostiary: Ostiary) -> None:
    """In the place of the guest's own gateway, which rekeys after hours."""
    directory = lab.directory / "collisions"
    settings: dict[str, dict[str, TomlValue]] = {
        "gateway": {
            "data_plane": "kernel",
            "child_rekey_s": SOON_S,
            "retransmit_timeouts_s": [*[0.3] * 4, 0.5, 1.0, 2.0, 4.0],
            "dpd_interval_s": 300.0,
        }
    }
    ostiary.stop()
    try:
        with Ostiary(site.gateway, directory, settings=settings) as own:
            enrolment = Enrolment(own.runtime)
            clients = Clients(own, enrolment.authority.trust_pem(), directory / "clients", esp="kernel")
            try:
                collide(own, site, clients, enrolment)
            finally:
                clients.stop()
    finally:
        ostiary.start()


def collide(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment) -> None:
    """Once, under traffic."""
    idle = policies(site.gateway)
    laptop = enrolment.laptop("alice", "alice-laptop")
    client = clients.eap_mschapv2(site.client, laptop, charon_options={"retransmit_timeout": "0.5"})
    client.connect()
    live = ostiary.live_session(laptop.device_id)
    [before] = client.list_sas()
    with pinging(site.client, client.directory) as pings:
        Crossing(site.internet, SOON_S + 5.0).cross(lambda: client.begin_rekeying("child"), both_notice=True)
        client.wait_for_log(r"CHILD_SA rekey(/delete)? collision", SETTLED_S)

        def settled() -> bool:
            [sa] = client.list_sas()
            return sa.child_count == 1 and sa.child_spi_in != before.child_spi_in

        wait_for(settled, SETTLED_S, f"one child SA\n{client.log()[-4000:]}")
    use_tunnel(client)
    client.terminate()
    session = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert session.packets_in >= pings.sent
    assert session.packets_out >= pings.sent
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle
