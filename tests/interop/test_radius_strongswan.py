"""strongSwan's own gateway, whose plugin eap-radius asks `ostiary radius` who may come in and reports to it.

client ── internet ── strongSwan gateway ── 10.1.0.10 ostiary radius
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from cryptography import x509

from aaa import enforcement
from core.audit import SYSTEM
from tests.interop.radius import NAS, SECRET, radius_server
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.strongswan import StrongSwanClient, StrongSwanGateway
from tests.lab.strongswan_config import ClientConfig, GatewayConfig, RadiusServerConfig
from tests.lab.topology import CLIENT_IPV4, GATEWAY_IPV4, INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

GATEWAY_NAME = "vpn.lab.test"
SESSION_LIFETIME_S = 1234.0
RULE: dict[str, TomlValue] = {"name": "at-strongswan", "gateways": [NAS], "session_lifetime_s": SESSION_LIFETIME_S}


@pytest.fixture(scope="module")
def ostiary(lab: Lab, site: Site) -> Iterator[Ostiary]:
    """In the place of a gateway: the RADIUS server alone."""
    settings: dict[str, dict[str, TomlValue]] = {"aaa": {"rules": [RULE], "sign_in_failures_per_minute": 1000}}
    with radius_server(site.inside, lab.directory / "radius", settings=settings) as ostiary:
        yield ostiary


@pytest.fixture(scope="module")
def authority() -> LabAuthority:
    return LabAuthority.root()


@pytest.fixture(scope="module")
def gateway(lab: Lab, site: Site, ostiary: Ostiary, authority: LabAuthority) -> Iterator[StrongSwanGateway]:
    config = GatewayConfig(
        identity=GATEWAY_NAME,
        credential=authority.issue(GATEWAY_NAME, [x509.DNSName(GATEWAY_NAME)], usage="server"),
        method="eap-radius",
        radius=RadiusServerConfig(address=INSIDE_IPV4, secret=SECRET),
    )
    with StrongSwanGateway(site.gateway, config, lab.directory / "strongswan") as gateway:
        yield gateway


@pytest.fixture
def config(gateway: StrongSwanGateway, authority: LabAuthority, laptop: Laptop) -> ClientConfig:
    return ClientConfig(
        remote_address=GATEWAY_IPV4,
        remote_identity=GATEWAY_NAME,
        trust_pem=certificate_pem(authority.certificate),
        method="eap-mschapv2",
        identity=laptop.user_name,
        password=laptop.access_code,
    )


def test_mschapv2_and_its_accounting(
    lab: Lab, site: Site, ostiary: Ostiary, gateway: StrongSwanGateway, config: ClientConfig, laptop: Laptop
) -> None:
    mark = ostiary.audit_mark()
    with StrongSwanClient(site.client, config, lab.directory / "mschapv2") as client:
        # AUTH is made from the MSK (RFC 7296 section 2.16): both ends have the same, or there is no connection.
        connected = client.connect()
        accepted = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "of a sign-in")
        assert (accepted.target, accepted.detail["rule"]) == (f"gateway:{NAS}", "at-strongswan")
        assert accepted.detail["remote_address"] == CLIENT_IPV4
        assert accepted.detail["client"] == "VPN (RADIUS)"
        session = ostiary.live_session(laptop.device_id)
        assert (session.gateway, session.virtual_ipv4) == (NAS, connected.virtual_ipv4)
        assert (session.remote_address, session.rule) == (CLIENT_IPV4, "at-strongswan")
        assert client.namespace.ping(INSIDE_IPV4, count=3) == 3
        assert "deleting IKE_SA after RADIUS timeout" not in gateway.log()
        client.terminate()
        ended = ostiary.wait_for_session(lambda row: row.ended_at is not None, "that has ended")
    assert ended.id == session.id
    assert ended.terminate_cause == "USER_REQUEST"
    assert ended.packets_in >= 3
    assert ended.packets_out >= 3
    assert ended.bytes_in > 0
    assert f"scheduling reauthentication in {SESSION_LIFETIME_S:.0f}s" in gateway.log()
    assert "scheduling RADIUS Interim-Updates every 60s" in gateway.log()


def test_tls(
    lab: Lab, site: Site, ostiary: Ostiary, config: ClientConfig, enrolment: Enrolment, laptop: Laptop
) -> None:
    with_certificate = dataclasses.replace(
        config,
        method="eap-tls",
        identity=laptop.host_name,
        password=None,
        credential=enrolment.certificate(laptop),
        aaa_identity=ostiary.settings.gateway.identity,
        known_authorities=(enrolment.authority.issuing, enrolment.authority.root),
    )
    mark = ostiary.audit_mark()
    with StrongSwanClient(site.client, with_certificate, lab.directory / "tls") as client:
        client.connect()
        accepted = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "of a sign-in")
        assert accepted.detail["method"] == "eap-tls"
        assert client.namespace.ping(INSIDE_IPV4) == 1


def test_wrong_password(lab: Lab, site: Site, ostiary: Ostiary, config: ClientConfig) -> None:
    mark = ostiary.audit_mark()
    wrong = dataclasses.replace(config, password="not the access code")
    with StrongSwanClient(site.client, wrong, lab.directory / "wrong") as client:
        assert not client.initiate().ok
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of a refusal")
    assert (event.detail["code"], event.target) == ("wrong-credential", f"gateway:{NAS}")


def test_a_server_that_was_killed_while_a_client_was_connected(
    lab: Lab, site: Site, ostiary: Ostiary, config: ClientConfig, laptop: Laptop
) -> None:
    """The records that follow are taken by one that remembers nothing."""
    with StrongSwanClient(site.client, config, lab.directory / "restart") as client:
        client.connect()
        session = ostiary.live_session(laptop.device_id)
        ostiary.kill()
        ostiary.start()
        assert client.namespace.ping(INSIDE_IPV4, count=3) == 3
        client.terminate()
        ended = ostiary.wait_for_session(lambda row: row.id == session.id and row.ended_at is not None, "that ended")
        assert ended.packets_in >= 3


def test_a_revoked_device_does_not_come_back(
    lab: Lab, site: Site, ostiary: Ostiary, config: ClientConfig, enrolment: Enrolment
) -> None:
    stolen = enrolment.laptop("bob", "bob-laptop")
    theirs = dataclasses.replace(config, identity="bob", password=stolen.access_code)
    with StrongSwanClient(site.client, theirs, lab.directory / "revoked") as client:
        client.connect()
        client.terminate()
        enforcement.revoke_device(ostiary.runtime, stolen.device_id, "stolen", SYSTEM)
        mark = ostiary.audit_mark()
        assert not client.initiate().ok
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of a refusal")
    assert event.detail["code"] == "revoked-device"
