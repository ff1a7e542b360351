"""strongSwan signs in with the directory's password, by EAP-GTC inside EAP-TTLS.

The picture of `tests.lab.topology`, and slapd on the loopback of the gateway's namespace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.interop.clients import Clients, refused, use_tunnel
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.enrolment import Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.slapd import GROUPS, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, Slapd
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

ALICE = Laptop("alice", "", "", "alice's password")
MALLORY = Laptop("alice", "", "", "another password")


@pytest.fixture(scope="module")
def slapd(lab: Lab, site: Site) -> Iterator[Slapd]:
    """Alice is in `vpn users`."""
    authority = LabAuthority.root()
    (lab.directory / "ca.pem").write_text(certificate_pem(authority.certificate))
    (lab.directory / "password").write_text(SERVICE_PASSWORD)
    (lab.directory / "password").chmod(0o600)
    with Slapd(site.gateway, lab.directory / "slapd", authority, address="127.0.0.1") as slapd:
        slapd.add_group("vpn users", slapd.add_person("alice", ALICE.access_code))
        yield slapd


@pytest.fixture(scope="module")
def gateway_settings(lab: Lab, slapd: Slapd) -> Mapping[str, Mapping[str, TomlValue]]:
    """Who is in `vpn users` may enter, on any device."""
    directory: dict[str, TomlValue] = {
        "name": "corp",
        "servers": [slapd.ldaps],
        "ca_file": str(lab.directory / "ca.pem"),
        "bind_dn": SERVICE_DN,
        "bind_password_file": str(lab.directory / "password"),
        "user_base": PEOPLE,
        "group_base": GROUPS,
        "dead_time_s": 0.5,
    }
    rule: dict[str, TomlValue] = {"name": "vpn", "groups": ["vpn users"], "device_states": ["unmanaged"]}
    methods: list[TomlValue] = ["ttls"]
    inner: list[TomlValue] = ["gtc"]
    return {"aaa": {"directories": [directory], "rules": [rule], "eap_methods": methods, "eap_inner_methods": inner}}


def test_the_right_password_and_a_wrong_one(ostiary: Ostiary, site: Site, clients: Clients, slapd: Slapd) -> None:
    client = clients.eap_ttls(site.client, ALICE)
    client.connect()
    use_tunnel(client)
    [session] = ostiary.sessions(live=True)
    assert (session.user_name, session.device_name, session.method) == ("alice", "corp/alice", "eap-ttls")
    client.terminate()
    wait_for(lambda: ostiary.sessions(live=True) == [], 5.0, "the end of the session")
    refused(clients.eap_ttls(site.home, MALLORY), ostiary, "wrong-credential")
    slapd.set(f"uid=alice,{PEOPLE}", "pwdAccountLockedTime", "000001010000Z")
    assert "locked" in refused(client, ostiary, "locked-user")
    slapd.set(f"uid=alice,{PEOPLE}", "pwdAccountLockedTime")


def test_without_its_directory_nobody_gets_in(ostiary: Ostiary, site: Site, clients: Clients, slapd: Slapd) -> None:
    client = clients.eap_ttls(site.client, ALICE)
    slapd.kill()
    reason = refused(client, ostiary, "directory-unavailable")
    assert slapd.ldaps in reason
    slapd.start()
    wait_for(lambda: client.initiate().ok or None, 10.0, "a sign-in once the directory is back", interval_s=0.3)
    client.terminate()
    slapd.stop()
