"""Post-quantum pre-shared keys (RFC 8784) with strongSwan: both sides have one, one has another, or none insists."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.interop.clients import Clients, Deployment, connect_and_check, deployment, refused
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

NAME = "quantum-1"
KEY = "0x" + secrets.token_hex(32)
OTHER_KEY = "0x" + secrets.token_hex(32)
WAYS = ["certificate", "eap-mschapv2", "certificate+eap-mschapv2"]


def settings(lab: Lab, *, required: bool) -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway with one such key."""
    file = lab.directory / "quantum.key"
    file.write_text(KEY + "\n", encoding="ascii")
    file.chmod(0o600)
    return {"gateway": {"ppks": [{"name": NAME, "secret_file": str(file)}], "ppk_required": required}}


@pytest.fixture(scope="module")
def gateway_settings(lab: Lab) -> Mapping[str, Mapping[str, TomlValue]]:
    """Not everybody has to have it."""
    return settings(lab, required=False)


def client_by(
    way: str, clients: Clients, site: Site, enrolment: Enrolment, laptop: Laptop, **changes: Any
) -> StrongSwanClient:
    """A client that signs in this way."""
    if way == "eap-mschapv2":
        return clients.eap_mschapv2(site.client, laptop, **changes)
    if way == "certificate+eap-mschapv2":
        changes = {
            "then": "eap-mschapv2",
            "eap_identity": laptop.user_name,
            "password": laptop.access_code,
            **changes,
        }
    return clients.certificate(site.client, laptop, enrolment.certificate(laptop), **changes)


@pytest.mark.parametrize("required", [True, False], ids=["client-insists", "client-does-not"])
@pytest.mark.parametrize("way", WAYS)
def test_both_have_it(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop, way: str, required: bool
) -> None:
    client = client_by(way, clients, site, enrolment, laptop, ppk=(NAME, KEY), ppk_required=required)
    result = connect_and_check(client, ostiary, laptop, way, large=False)
    assert f"using PPK for PPK_ID '{NAME}'" in result.output
    assert "N(USE_PPK)" in result.output
    # One that does not insist proves itself both ways, and the gateway takes the better one.
    assert ("N(NO_PPK)" in result.output) is (not required)


@pytest.mark.parametrize("way", WAYS)
def test_a_client_without_one(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop, way: str
) -> None:
    result = connect_and_check(client_by(way, clients, site, enrolment, laptop), ostiary, laptop, way, large=False)
    assert "PPK" not in result.output


@pytest.mark.parametrize("way", ["certificate", "eap-mschapv2"])
def test_one_that_the_gateway_does_not_know_is_left_out(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop, way: str
) -> None:
    client = client_by(way, clients, site, enrolment, laptop, ppk=("quantum-2", KEY))
    result = connect_and_check(client, ostiary, laptop, way, large=False)
    assert "peer didn't use PPK for PPK_ID 'quantum-2'" in result.output


@pytest.mark.parametrize("way", ["certificate", "eap-mschapv2"])
def test_one_that_the_gateway_does_not_know_and_the_client_insists(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop, way: str
) -> None:
    client = client_by(way, clients, site, enrolment, laptop, ppk=("quantum-2", KEY), ppk_required=True)
    refused(client, ostiary, "ppk-refused")


@pytest.mark.parametrize("required", [True, False], ids=["client-insists", "client-does-not"])
@pytest.mark.parametrize("way", WAYS)
def test_another_key_under_the_same_name(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop, way: str, required: bool
) -> None:
    """There is no way back to none: then whoever is in between could have it left out."""
    client = client_by(way, clients, site, enrolment, laptop, ppk=(NAME, OTHER_KEY), ppk_required=required)
    code = "authentication-failed" if way == "eap-mschapv2" else "signature-refused"
    assert "pre-shared key may be another than ours" in refused(client, ostiary, code)


@pytest.fixture(scope="module")
def strict(ostiary: Ostiary, site: Site, lab: Lab) -> Iterator[Deployment]:
    """Another gateway, which insists; it takes the place of the first one."""
    ostiary.stop()
    with deployment(site.gateway, lab.directory / "strict", settings(lab, required=True)) as strict:
        yield strict
    ostiary.start()


@pytest.mark.parametrize("way", WAYS)
def test_the_gateway_insists(strict: Deployment, site: Site, way: str) -> None:
    client = client_by(way, strict.clients, site, strict.enrolment, strict.laptop, ppk=(NAME, KEY))
    connect_and_check(client, strict.ostiary, strict.laptop, way, large=False)
    client.stop()


@pytest.mark.parametrize("ppk", [None, ("quantum-2", KEY)], ids=["none", "unknown"])
@pytest.mark.parametrize("way", WAYS)
def test_the_gateway_insists_on_what_the_client_has_not(
    strict: Deployment, site: Site, way: str, ppk: tuple[str, str] | None
) -> None:
    client = client_by(way, strict.clients, site, strict.enrolment, strict.laptop, ppk=ppk)
    refused(client, strict.ostiary, "ppk-refused")
    client.stop()
