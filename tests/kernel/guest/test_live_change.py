"""A live session is narrowed and widened with the kernel's ESP on both sides: its policies say what passes."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import GATEWAY_INSIDE_IPV4, INSIDE_IPV4, INSIDE_IPV6, INSIDE_NETWORKS, Site
from tests.lab.xfrm import kernel_sas, policies

pytestmark = pytest.mark.interop

HELP_DESK = f"{GATEWAY_INSIDE_IPV4}/32"
SETTLED_S = 10.0


@pytest.mark.parametrize(("interface", "place"), [("on", "client"), ("off", "home")])
def test_quarantine_and_back(lab: Lab, site: Site, ostiary: Ostiary, interface: str, place: str) -> None:
    """In the place of the guest's own gateway, which has no rule for it."""
    directory = lab.directory / f"quarantine-{interface}-{place}"
    rules: list[TomlValue] = [
        {"name": "quarantine", "device_states": ["quarantined"], "networks": [HELP_DESK]},
        {"name": "staff"},
    ]
    settings: dict[str, dict[str, TomlValue]] = {
        "gateway": {"data_plane": "kernel", "xfrm_interface": interface},
        "aaa": {"rules": rules, "interim_interval_s": 1.0},
    }
    ostiary.stop()
    try:
        with Ostiary(site.gateway, directory, settings=settings) as own:
            enrolment = Enrolment(own.runtime)
            clients = Clients(own, enrolment.authority.trust_pem(), directory / "clients", esp="kernel")
            laptop = enrolment.laptop("quinn", "quinn-laptop")
            try:
                where = {"client": site.client, "home": site.home}[place]
                narrow_and_widen(own, site, clients.eap_mschapv2(where, laptop), laptop)
            finally:
                clients.stop()
    finally:
        ostiary.start()


def narrow_and_widen(ostiary: Ostiary, site: Site, client: StrongSwanClient, laptop: Laptop) -> None:
    """Quarantine and back, without a new sign-in."""
    idle = policies(site.gateway)
    client.connect()
    use_tunnel(client)
    live = ostiary.live_session(laptop.device_id)
    assert opened(site, idle) == set(INSIDE_NETWORKS)

    ostiary.command("device", "quarantine", laptop.device_name, "--reason", "disk encryption is off")
    # The command is over when the gateway has acknowledged: from here on nothing else passes.
    assert opened(site, idle) == {HELP_DESK}
    wait_until_reaches(client, {HELP_DESK})
    for _ in range(2):
        assert client.namespace.ping(INSIDE_IPV4, wait_s=1) == 0
        assert client.namespace.ping(INSIDE_IPV6, wait_s=1) == 0
        assert client.namespace.ping(GATEWAY_INSIDE_IPV4, count=3) == 3
        client.rekey_child()

    ostiary.command("device", "trust", laptop.device_name, "--reason", "encrypted again")
    wait_until_reaches(client, set(INSIDE_NETWORKS))
    wait_for(lambda: opened(site, idle) == set(INSIDE_NETWORKS), SETTLED_S, "the policies of the wide child SA")
    use_tunnel(client)
    assert ostiary.live_session(laptop.device_id).id == live.id
    client.terminate()
    ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle


def opened(site: Site, idle: list[str]) -> set[str]:
    """What the gateway's policies let its client reach, by those that have to do with forwarding."""
    selectors = [policy.split() for policy in policies(site.gateway) if policy not in idle and "dir fwd" in policy]
    return {words[words.index("dst") + 1] for words in selectors}


def wait_until_reaches(client: StrongSwanClient, networks: set[str]) -> None:
    """The client has one child SA, with these selectors."""

    def there() -> bool:
        [sa] = client.list_sas()
        return sa.child_count == 1 and set(sa.remote_selectors) == networks

    wait_for(there, SETTLED_S, f"a child SA for {networks}\n{client.log()[-3000:]}")
