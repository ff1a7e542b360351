"""The gateway is killed: its kernel state survives it, and is gone once it is back."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary
from tests.lab.topology import INSIDE_IPV4, Site
from tests.lab.xfrm import kernel_sas, policies

pytestmark = pytest.mark.interop


def test_a_killed_gateway_leaves_nothing_stale_after_its_restart(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, idle_policies: list[str]
) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    use_tunnel(client)
    left = {sa.spi for sa in kernel_sas(site.gateway)}
    assert len(left) == 2
    links = site.gateway.links()

    ostiary.kill()
    assert {sa.spi for sa in kernel_sas(site.gateway)} == left

    # The client's tunnel is dead from here on, whatever its own kernel believes.
    ostiary.start()
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies
    assert site.gateway.links() == links
    assert site.client.ping(INSIDE_IPV4, wait_s=1) == 0

    client.stop()
    again = clients.eap_mschapv2(site.client, laptop)
    again.connect()
    use_tunnel(again)
    again.terminate()
    assert kernel_sas(site.gateway) == []
