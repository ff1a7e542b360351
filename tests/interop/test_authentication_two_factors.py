"""Device by certificate, then user by EAP, in one sign-in (RFC 4739): strongSwan's two `local` sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aaa.users import create_user
from tests.interop.clients import Clients, connect_and_check, leave, refused, use_tunnel
from tests.lab.enrolment import ACTOR, Enrolment, Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

BOTH = ["certificate+eap-mschapv2", "certificate+eap-tls"]


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """The plant's machines take everybody of the plant; elsewhere a device is its owner's, and both have to show."""
    return {
        "aaa": {
            "rules": [
                {"name": "plant", "groups": ["plant"], "methods": BOTH, "device_users": "anyone"},
                {"name": "two-factors", "methods": BOTH},
            ]
        }
    }


def both(
    clients: Clients, site: Site, enrolment: Enrolment, device: Laptop, user: Laptop, **changes: Any
) -> StrongSwanClient:
    """A client on one device with the user name and access code of another's owner, or of its own."""
    person = {"eap_identity": user.user_name, "password": user.access_code}
    credential = enrolment.certificate(device)
    return clients.certificate(site.client, device, credential, then="eap-mschapv2", **{**person, **changes})


def test_both(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop) -> None:
    client = both(clients, site, enrolment, laptop, laptop)
    result = connect_and_check(client, ostiary, laptop, "certificate+eap-mschapv2")
    log = result.output
    assert "N(MULT_AUTH)" in log
    # The gateway proves itself once, with the first of the two.
    assert log.count(f"authentication of '{ostiary.settings.gateway.identity}' with ECDSA") == 1
    assert log.index("(myself) with ECDSA_WITH_SHA256_DER successful") < log.index(
        "EAP method EAP_MSCHAPV2 succeeded"
    )


def test_certificate_then_eap_tls(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    client = clients.certificate(site.client, laptop, enrolment.certificate(laptop), then="eap-tls")
    connect_and_check(client, ostiary, laptop, "certificate+eap-tls")


def test_behind_nat(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop) -> None:
    client = clients.certificate(
        site.home,
        laptop,
        enrolment.certificate(laptop),
        then="eap-mschapv2",
        eap_identity=laptop.user_name,
        password=laptop.access_code,
    )
    client.connect()
    use_tunnel(client)
    leave(client, ostiary, laptop)


@pytest.mark.parametrize("alone", ["certificate", "eap-mschapv2", "eap-tls"])
def test_one_alone_is_not_enough(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop, alone: str
) -> None:
    if alone == "certificate":
        client = clients.certificate(site.client, laptop, enrolment.certificate(laptop))
    elif alone == "eap-tls":
        client = clients.eap_tls(site.client, laptop, enrolment.certificate(laptop))
    else:
        client = clients.eap_mschapv2(site.client, laptop)
    reason = refused(client, ostiary, "second-factor-missing")
    assert reason.endswith(f"and the client showed {alone} alone")


def test_the_right_device_and_a_wrong_code(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    refused(both(clients, site, enrolment, laptop, laptop, password="not it"), ostiary, "wrong-credential")


def test_a_device_of_somebody_else(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    bob = enrolment.laptop("bob", "bob-laptop")
    reason = refused(both(clients, site, enrolment, laptop, bob), ostiary, "wrong-owner")
    assert reason == "device alice-laptop belongs to alice, and no rule lets bob use it"


def test_a_machine_that_several_people_use(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    with ostiary.runtime.database.transaction() as session:
        create_user(session, "carol", groups=["plant"], actor=ACTOR)
    carol = enrolment.laptop("carol", "carol-laptop")
    client = both(clients, site, enrolment, laptop, carol)
    client.connect()
    use_tunnel(client, large=False)
    live = ostiary.live_session(laptop.device_id)
    assert (live.user_name, live.device_name) == ("carol", "alice-laptop")
    client.terminate()


def test_a_stolen_device_brings_nobody(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment) -> None:
    """It ends with the certificate: the user is not asked for anything."""
    stolen = enrolment.laptop("dave", "dave-laptop")
    client = both(clients, site, enrolment, stolen, stolen)
    ostiary.command("device", "revoke", "dave-laptop", "--reason", "stolen")
    refused(client, ostiary, "revoked-device")
    assert "EAP" not in client.log().rpartition("parsed IKE_AUTH response")[2]
