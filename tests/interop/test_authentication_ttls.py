"""EAP-TTLS over IKEv2, by strongSwan; of Debian's, that is the one method with a tunnel: it has no PEAP."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.interop.clients import Clients, connect_and_check, deployment, refused
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

TTLS: Mapping[str, TomlValue] = {"eap_methods": ["mschapv2", "ttls"]}


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """EAP-TTLS beside what is offered anyway."""
    return {"aaa": TTLS}


def test_mschapv2_inside(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_ttls(site.client, laptop)
    result = connect_and_check(client, ostiary, laptop, "eap-ttls")
    assert "negotiated TLS 1.2" in result.output
    assert "EAP method EAP_TTLS succeeded, MSK established" in result.output


def test_wrong_password(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    wrong = dataclasses.replace(laptop, access_code="not that one")
    reason = refused(clients.eap_ttls(site.client, wrong), ostiary, "wrong-credential")
    assert reason == f"the code is none of user {laptop.user_name}"


def test_a_gateway_of_another_ca_is_refused(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    other = certificate_pem(LabAuthority.root("someone else").certificate)
    client = clients.eap_ttls(site.client, laptop, trust_pem=other)
    assert not client.initiate().ok
    assert ostiary.sessions(live=True) == []


def test_gtc_inside(site: Site, ostiary: Ostiary, tmp_path: Path) -> None:
    """A password that is said in words, and checked as such."""
    ostiary.stop()
    try:
        with deployment(site.gateway, tmp_path, {"aaa": {**TTLS, "eap_inner_methods": ["gtc"]}}) as own:
            client = own.clients.eap_ttls(site.client, own.laptop)
            connect_and_check(client, own.ostiary, own.laptop, "eap-ttls")
            client.stop()
            wrong = dataclasses.replace(own.laptop, access_code="not that one")
            refused(own.clients.eap_ttls(site.client, wrong), own.ostiary, "wrong-credential")
    finally:
        ostiary.start()
