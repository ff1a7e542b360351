"""The company's own RADIUS server (FreeRADIUS) decides who a user is, and our rules what that user may.

strongSwan client ── internet ── ostiary gateway 10.1.0.1 ── 10.1.0.10 FreeRADIUS, two of them
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from aaa import users
from tests.interop.clients import Deployment, deployment, use_tunnel
from tests.lab.certificates import Identity, LabAuthority, certificate_pem
from tests.lab.eapol import run_eapol
from tests.lab.enrolment import ACTOR
from tests.lab.freeradius import FreeRadius
from tests.lab.namespaces import Lab
from tests.lab.ostiary import TomlValue
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import GATEWAY_INSIDE_IPV4, INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

SECRET = "a secret of the lab 9kW3z"
SERVER_NAME = "radius.lab.test"
PASSWORD = "correct horse"
FIRST, SECOND = 1812, 2812
RULES: list[TomlValue] = [
    {"name": "by-radius", "methods": ["eap-radius"], "device_states": ["unmanaged"]},
    {"name": "own", "methods": ["certificate"]},
]


class Company:
    """Two RADIUS servers, of which either may be down."""

    def __init__(self, site: Site, directory: Path) -> None:
        authority = LabAuthority.root()
        self.trust = authority.certificate
        credential: Identity = authority.issue(SERVER_NAME, [x509.DNSName(SERVER_NAME)], usage="server")
        self.first, self.second = (
            FreeRadius(
                site.inside,
                directory / str(port),
                address=INSIDE_IPV4,
                port=port,
                client=GATEWAY_INSIDE_IPV4,
                secret=SECRET,
                credential=credential,
                trust_pem=certificate_pem(authority.certificate),
                users={"alice": PASSWORD, "stranger": PASSWORD},
                tells_who=port == FIRST,
            )
            for port in (FIRST, SECOND)
        )


@pytest.fixture(scope="module")
def company(lab: Lab, site: Site) -> Iterator[Company]:
    company = Company(site, lab.directory / "company")
    with company.first, company.second:
        yield company


@pytest.fixture(scope="module")
def gateway(lab: Lab, site: Site, company: Company) -> Iterator[Deployment]:
    file = lab.directory / "upstream.secret"
    file.touch(mode=0o600)
    file.write_text(SECRET, encoding="ascii")
    servers: list[TomlValue] = [
        {"name": f"company-{number}", "address": INSIDE_IPV4, "port": port, "secret_file": str(file)}
        for number, port in enumerate((FIRST, SECOND), 1)
    ]
    upstream: dict[str, TomlValue] = {
        "servers": servers,
        "timeouts_s": [0.3, 0.5],
        "dead_time_s": 2.0,
        "user_name_is_proved": True,
    }
    settings: dict[str, dict[str, TomlValue]] = {
        "radius": {"upstream": upstream},
        "aaa": {"rules": RULES, "sign_in_failures_per_minute": 1000, "interim_interval_s": 1.0},
    }
    with deployment(site.gateway, lab.directory / "gateway", settings) as deployed:
        yield deployed


@pytest.fixture(autouse=True)
def _one_client_at_a_time(gateway: Deployment) -> Iterator[None]:
    yield
    gateway.clients.stop()


def sign_in(gateway: Deployment, site: Site, name: str = "alice", password: str = PASSWORD) -> StrongSwanClient:
    """A client that is about to connect."""
    who = dataclasses.replace(gateway.laptop, user_name=name, access_code=password)
    return gateway.clients.eap_mschapv2(site.client, who)


def refused(gateway: Deployment, client: StrongSwanClient) -> tuple[str, str]:
    """Connect in vain; code and reason."""
    mark = gateway.ostiary.audit_mark()
    assert not client.initiate().ok
    client.stop()
    event = gateway.ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of a refusal")
    return event.detail["code"], event.reason


def test_signs_in_with_the_password_of_the_company(gateway: Deployment, site: Site) -> None:
    mark = gateway.ostiary.audit_mark()
    client = sign_in(gateway, site)
    client.connect()
    event = gateway.ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "of a sign-in")
    assert (event.detail["method"], event.detail["rule"]) == ("eap-radius", "by-radius")
    assert event.detail["radius_server"] == "company-1"
    use_tunnel(client)
    session = gateway.ostiary.wait_for_session(lambda row: row.ended_at is None, "that is up")
    assert (session.user_name, session.device_name) == ("alice", "radius/alice")
    client.terminate()


def test_eap_ttls_which_the_gateway_itself_does_not_speak(gateway: Deployment, company: Company, site: Site) -> None:
    who = dataclasses.replace(gateway.laptop, access_code=PASSWORD)
    client = gateway.clients.eap_mschapv2(
        site.client,
        who,
        method="eap-ttls",
        aaa_identity=SERVER_NAME,
        known_authorities=(company.trust,),
    )
    client.connect()
    use_tunnel(client)
    client.terminate()


@pytest.mark.parametrize(("port", "said"), [(FIRST, "alice"), (SECOND, "boss")], ids=["set up for it", "as it comes"])
def test_which_name_freeradius_says(
    lab: Lab, site: Site, company: Company, gateway: Deployment, port: int, said: str
) -> None:
    """Why nobody is let in by a tunnel unless the settings say so: alice's password, and another one's name."""
    del gateway
    directory = lab.directory / f"eapol-{port}"
    directory.mkdir()
    (directory / "ca.pem").write_text(certificate_pem(company.trust))
    network = {
        "eap": "TTLS",
        "phase2": '"autheap=MSCHAPV2"',
        "identity": '"alice"',
        "anonymous_identity": '"boss"',
        "password": f'"{PASSWORD}"',
        "ca_cert": f'"{directory / "ca.pem"}"',
    }
    result = run_eapol(directory, network, INSIDE_IPV4, port, SECRET, namespace=site.gateway)
    assert result.ok, result.output
    accept = result.output.rpartition("RADIUS message: code=2")[2]
    assert re.findall(r"Attribute 1 \(User-Name\) .*\n +Value: '(.*)'", accept) == [said]


def test_wrong_password(gateway: Deployment, site: Site) -> None:
    code, reason = refused(gateway, sign_in(gateway, site, password="wrong"))
    assert (code, reason) == ("radius-refused", "RADIUS server company-1 refused the sign-in")


def test_a_user_whom_only_the_server_knows(gateway: Deployment, site: Site) -> None:
    assert refused(gateway, sign_in(gateway, site, name="stranger"))[0] == "unknown-user"


def test_a_user_who_is_disabled_here(gateway: Deployment, site: Site) -> None:
    runtime = gateway.ostiary.runtime
    with runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), True, ACTOR, reason="left")
    try:
        assert refused(gateway, sign_in(gateway, site))[0] == "disabled-user"
    finally:
        with runtime.database.transaction() as session:
            users.set_disabled(session, users.get_user(session, "alice"), False, ACTOR)


def test_killed_servers(gateway: Deployment, company: Company, site: Site) -> None:
    """The other one is asked; where there is none, nobody gets in; and the first has its turn again."""

    def connects_by() -> str:
        mark = gateway.ostiary.audit_mark()
        client = sign_in(gateway, site)
        client.connect()
        event = gateway.ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "of a sign-in")
        client.stop()
        return str(event.detail["radius_server"])

    assert connects_by() == "company-1"
    company.first.kill()
    assert connects_by() == "company-2"
    company.second.kill()
    assert refused(gateway, sign_in(gateway, site))[0] == "radius-unavailable"
    company.first.start()
    company.second.start()
    assert connects_by() in ("company-1", "company-2")
