"""EAP-TLS as all the proof that either side gives (RFC 5998): no certificate in IKE, on a gateway that allows it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.clients import Clients, connect_and_check
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.topology import Site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """EAP-TLS is the one method that proves the gateway as well."""
    return {"gateway": {"eap_only": True}, "aaa": {"eap_methods": ["tls"]}}


def test_a_client_that_takes_it(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    """strongSwan announces it always; whether it then takes it is up to `auth` of its `remote` section."""
    credential = enrolment.certificate(laptop)
    client = clients.eap_tls(site.client, laptop, credential, gateway_method="eap-tls")
    result = connect_and_check(client, ostiary, laptop, "eap-tls")
    assert "N(EAP_ONLY)" in result.output
    assert "parsed IKE_AUTH response 1 [ IDr EAP/REQ/ID ]" in result.output
    assert "allow mutual EAP-only authentication" in result.output
    assert f"authentication of '{ostiary.settings.gateway.identity}' with EAP successful" in result.output


def test_a_client_that_wants_the_certificate(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    """It announces EAP alone without meaning it; where the gateway takes it at its word, it refuses the gateway."""
    client = clients.eap_tls(site.client, laptop, enrolment.certificate(laptop))
    result = client.initiate()
    assert not result.ok
    assert "constraint requires public key authentication, but EAP was used" in result.output
    # It had proved itself, so there was a session for a moment.
    ended = ostiary.wait_for_session(lambda row: row.device_id == laptop.device_id, "that ended")
    ostiary.wait_for_session(lambda row: row.id == ended.id and row.ended_at is not None, "that ended")


def test_certificates_in_ike_are_answered_by_one(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    client = clients.certificate(site.client, laptop, enrolment.certificate(laptop))
    connect_and_check(client, ostiary, laptop, "certificate")


def test_a_gateway_with_a_certificate_of_another_ca_is_refused(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    """EAP alone or not: the client finds out that it is not its gateway, here inside TLS."""
    other = certificate_pem(LabAuthority.root("someone else").certificate)
    client = clients.eap_tls(
        site.client, laptop, enrolment.certificate(laptop), gateway_method="eap-tls", trust_pem=other
    )
    assert not client.initiate().ok
    assert ostiary.sessions(live=True) == []
