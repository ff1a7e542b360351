"""Who is not let in, what the peer is told, and what the security team reads about it."""

from __future__ import annotations

import pytest
from cryptography import x509

from aaa import users
from core.audit import AuditEvent
from pki.devices import revoke_device_certificates
from tests.interop.clients import Clients
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.enrolment import ACTOR, Enrolment, Laptop
from tests.lab.ostiary import Ostiary
from tests.lab.processes import wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import CLIENT_IPV4, Site

pytestmark = pytest.mark.interop

EAP_FAILURE = "EAP/FAIL"
AUTHENTICATION_FAILED = "N(AUTH_FAILED)"
NO_PROPOSAL_CHOSEN = "N(NO_PROP)"


def assert_refused(client: StrongSwanClient, ostiary: Ostiary, *, notify: str, code: str) -> AuditEvent:
    """The client is answered with `notify`, the audit log has the `code`, and nothing is left of the attempt."""
    mark = ostiary.audit_mark()
    result = client.initiate()
    assert not result.ok
    assert notify in result.output
    event = ostiary.wait_for_audit(
        mark, lambda event: event.action == "sign-in.refuse" and event.detail["code"] == code, f"with code {code}"
    )
    assert [other.id for other in ostiary.audit_since(mark) if other.action == "sign-in.refuse"] == [event.id]
    assert event.outcome == "refused"
    assert event.reason
    assert event.detail["remote_address"] == CLIENT_IPV4
    assert ostiary.sessions(live=True) == []
    wait_for(lambda: client.list_sas() == [], 3.0, "the end of the client's SA")
    return event


def test_wrong_password(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop, password="not the access code")
    event = assert_refused(client, ostiary, notify=EAP_FAILURE, code="wrong-credential")
    assert event.actor == "user:alice"


def test_unknown_user(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop, identity="mallory")
    event = assert_refused(client, ostiary, notify=EAP_FAILURE, code="unknown-user")
    assert event.actor == "user:mallory"


def test_unknown_user_sees_what_a_wrong_password_sees(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop
) -> None:
    """Message by message and byte by byte, so that user names can't be found out."""
    shapes = []
    for changes in ({"password": "not the access code"}, {"identity": "malic"}):
        output = clients.eap_mschapv2(site.client, laptop, **changes).initiate().output
        clients.stop()
        # Before the identity is asked for, only the length of the gateway's ECDSA signature may vary.
        conversation = output[output.index("EAP/REQ/ID") :].splitlines()
        shapes.append([line for line in conversation if "received packet" in line or "parsed IKE_AUTH" in line])
    assert len(shapes[0]) >= 4
    assert shapes[0] == shapes[1]


def test_disabled_user(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment) -> None:
    laptop = enrolment.laptop("bob", "bob-laptop")
    with ostiary.runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "bob"), True, ACTOR, reason="left the company")
    client = clients.eap_mschapv2(site.client, laptop)
    assert_refused(client, ostiary, notify=EAP_FAILURE, code="disabled-user")


@pytest.mark.parametrize("method", ["eap-tls", "certificate"])
def test_revoked_certificate(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, method: str
) -> None:
    laptop = enrolment.laptop("carol", f"carol-{method}")
    credential = enrolment.certificate(laptop)
    with ostiary.runtime.database.transaction() as session:
        assert revoke_device_certificates(session, laptop.device_id, "lost on a train", ACTOR) == 1
    if method == "eap-tls":
        client = clients.eap_tls(site.client, laptop, credential)
        event = assert_refused(client, ostiary, notify=EAP_FAILURE, code="revoked-certificate")
    else:
        client = clients.certificate(site.client, laptop, credential)
        event = assert_refused(client, ostiary, notify=AUTHENTICATION_FAILED, code="revoked-certificate")
    assert "lost on a train" in event.reason


@pytest.mark.parametrize("method", ["eap-tls", "certificate"])
def test_expired_certificate(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop, method: str
) -> None:
    credential = enrolment.expired_certificate(laptop)
    if method == "eap-tls":
        client = clients.eap_tls(site.client, laptop, credential)
        assert_refused(client, ostiary, notify="EAP", code="expired-certificate")
    else:
        client = clients.certificate(site.client, laptop, credential)
        assert_refused(client, ostiary, notify=AUTHENTICATION_FAILED, code="expired-certificate")


@pytest.mark.parametrize("method", ["eap-tls", "certificate"])
def test_certificate_of_another_authority(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, method: str
) -> None:
    """It carries the names of a device that exists: only the signature over it is somebody else's."""
    names = [
        x509.UniformResourceIdentifier(f"urn:uuid:{laptop.device_id}"),
        x509.DNSName(laptop.host_name),
    ]
    credential = LabAuthority.root("Ostiary Root CA").issue(laptop.device_name, names, usage="client")
    if method == "eap-tls":
        client = clients.eap_tls(site.client, laptop, credential)
        assert_refused(client, ostiary, notify="EAP", code="untrusted-certificate")
    else:
        client = clients.certificate(site.client, laptop, credential)
        assert_refused(client, ostiary, notify=AUTHENTICATION_FAILED, code="untrusted-certificate")


def test_certificate_that_does_not_name_the_identity(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    other = enrolment.laptop("dave", "dave-laptop")
    credential = enrolment.certificate(other)
    client = clients.certificate(site.client, laptop, credential)
    event = assert_refused(client, ostiary, notify=AUTHENTICATION_FAILED, code="identity-mismatch")
    assert "dave-laptop" in event.reason


@pytest.mark.parametrize(
    "proposals",
    ["3des-sha1-modp1024", "aes256-sha1-modp1536", "aes256-sha256-modp1024", "aes128ctr-sha256-x25519"],
)
def test_weak_proposal(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, proposals: str) -> None:
    client = clients.eap_mschapv2(site.client, laptop, proposals=proposals)
    assert_refused(client, ostiary, notify=NO_PROPOSAL_CHOSEN, code="no-proposal-chosen")


@pytest.mark.parametrize(
    ("changes", "notify", "code"),
    [
        ({"esp_proposals": "3des-sha1,aes128-sha1"}, NO_PROPOSAL_CHOSEN, "no-proposal-chosen"),
        ({"remote_selectors": "172.16.0.0/16"}, "N(TS_UNACCEPT)", "ts-unacceptable"),
        ({"virtual_addresses": ""}, "N(FAIL_CP_REQ)", "failed-cp-required"),
    ],
    ids=["ESP proposal", "selectors", "no virtual address"],
)
def test_tunnel_that_is_not_given(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    laptop: Laptop,
    changes: dict[str, str],
    notify: str,
    code: str,
) -> None:
    """Signed in, but no child SA: the client hears why, and the IKE SA is ended."""
    client = clients.eap_mschapv2(site.client, laptop, **changes)
    assert_refused(client, ostiary, notify=notify, code=code)


def test_client_that_does_not_trust_the_gateway(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop
) -> None:
    trust_pem = certificate_pem(LabAuthority.root().certificate)
    client = clients.eap_mschapv2(site.client, laptop, trust_pem=trust_pem)
    assert_refused(client, ostiary, notify=AUTHENTICATION_FAILED, code="client-gave-up")
