"""Clients with certificates of another company's CA: openssl's OCSP responder and CRLs run on the host inside, on a
private address that the operator has listed.

    client ── gateway ── inside 10.1.0.10: port 80 CRLs by HTTP, 81 OCSP, 82 nobody, 83 and 84 accept and say nothing

Each authority is trusted in its own way:

    corporate   revocation required, OCSP and CRLs on 10.1.0.10
    partner     best effort, its responder is down
    strict      required, its responder is down
    unlisted    required, its responder is up, but the operator did not list its address
    silent      required, its responder never answers
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from aaa.users import create_user
from pki.names import serial_text
from tests.interop.clients import Clients, use_tunnel
from tests.lab.certificates import Identity, LabAuthority, certificate_pem
from tests.lab.enrolment import ACTOR, Enrolment, Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.publisher import Publisher, http_command, wait_until_ready
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

CRL_PORT, OCSP_PORT, DEAD_PORT, SILENT_PORT, ALSO_SILENT_PORT = 80, 81, 82, 83, 84
CRL_URL = f"http://{INSIDE_IPV4}/ca.crl"
USER = "alice@corp.example"
INSIDE = ["10.1.0.0/24"]
SILENT_SERVER = (
    "import socket, time\n"
    f"servers = [socket.create_server(('', port), backlog=64) for port in ({SILENT_PORT}, {ALSO_SILENT_PORT})]\n"
    "print('Serving HTTP on', flush=True)\n"
    "time.sleep(600)\n"
)


def ocsp(port: int) -> x509.AuthorityInformationAccess:
    """Where a certificate is asked for by OCSP."""
    url = x509.UniformResourceIdentifier(f"http://{INSIDE_IPV4}:{port}/")
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, url)])


def crl() -> x509.CRLDistributionPoints:
    """Where the list is."""
    url = x509.UniformResourceIdentifier(CRL_URL)
    return x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])


@dataclass
class World:
    """The authorities, and what the first one publishes."""

    roots: dict[str, LabAuthority]
    issuing: LabAuthority
    """Below `corporate`, by whose root's OCSP responder it is known."""
    publisher: Publisher
    site: Site

    def reread_index(self) -> None:
        """openssl's responder looks whether its index has changed after each answer, so it is asked something."""
        issuer = str(self.publisher.directory / "ca.pem")
        url = f"http://127.0.0.1:{OCSP_PORT}/"
        self.site.inside.run("openssl", "ocsp", "-issuer", issuer, "-serial", "1", "-url", url, "-noverify")

    def badge(self, authority: str, *extensions: x509.ExtensionType, revoked: str = "") -> Identity:
        """A certificate for alice, in the index where its authority has one."""
        names = [x509.RFC822Name(USER)]
        identity = self.roots[authority].issue("Alice Adams", names, *extensions, usage="client")
        if authority == "corporate":
            self.publisher.knows(identity.certificate, revoked=revoked)
            self.reread_index()
        return identity


@pytest.fixture(scope="module")
def world(lab: Lab, site: Site) -> World:
    """The authorities, published on the host inside."""
    names = ("corporate", "partner", "strict", "unlisted", "silent")
    roots = {name: LabAuthority.root(f"{name} root") for name in names}
    publisher = Publisher(lab.directory / "public", roots["corporate"])
    issuing = roots["corporate"].below("corporate issuing", ocsp(OCSP_PORT))
    publisher.knows(issuing.certificate)
    publisher.write_crl("ca.crl")
    commands = {
        "crl": http_command(publisher.directory, CRL_PORT),
        "ocsp": publisher.ocsp_command(OCSP_PORT),
        "silent": ["python3", "-c", SILENT_SERVER],
    }
    for name, command in commands.items():
        wait_until_ready(site.inside.start(*command, log_file=lab.directory / f"{name}.log"))
    return World(roots, issuing, publisher, site)


@pytest.fixture(scope="module")
def gateway_settings(lab: Lab, world: World) -> Mapping[str, Mapping[str, TomlValue]]:
    """How the operator trusts each of them."""

    def trust(name: str, **changes: TomlValue) -> TomlValue:
        file = lab.directory / f"{name}.pem"
        file.write_text(certificate_pem(world.roots[name].certificate), encoding="ascii")
        ports = [CRL_PORT, OCSP_PORT, DEAD_PORT, SILENT_PORT, ALSO_SILENT_PORT]
        usual: dict[str, TomlValue] = {"user_from": "mail", "allowed_hosts": INSIDE, "allowed_ports": ports}
        return {"name": name, "file": str(file), "domains": ["corp.example"], **usual, **changes}

    return {
        "pki": {
            "trusted_authorities": [
                trust("corporate"),
                trust("partner", revocation="best-effort"),
                trust("strict"),
                trust("unlisted", allowed_hosts=[]),
                trust("silent"),
            ]
        },
        "aaa": {
            "rules": [
                {"name": "staff-anywhere", "groups": ["staff"], "device_states": ["unmanaged"]},
                {"name": "trusted-devices"},
            ]
        },
    }


@pytest.fixture(scope="module", autouse=True)
def alice(ostiary: Ostiary) -> None:
    """Alice is in the directory; her machine is not in the inventory."""
    with ostiary.runtime.database.transaction() as session:
        create_user(session, "alice", groups=["staff"], actor=ACTOR)


def client_of(clients: Clients, site: Site, badge: Identity, **changes: Any) -> StrongSwanClient:
    """A client with a certificate of another CA."""
    laptop = Laptop("alice", "", "", "")
    return clients.certificate(site.client, laptop, badge, identity=USER, **changes)


def test_good_by_ocsp(ostiary: Ostiary, site: Site, clients: Clients, world: World) -> None:
    badge = world.badge("corporate", ocsp(OCSP_PORT))
    mark = ostiary.audit_mark()
    client = client_of(clients, site, badge)
    client.connect()
    use_tunnel(client)
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "that someone was let in")
    serial = serial_text(badge.certificate)
    assert event.detail["certificate_authority"] == "corporate"
    assert event.detail["certificate"] == serial
    assert event.detail["revocation"].startswith(f"good: the certificate {serial} is good by OCSP of ")
    assert (event.detail["user"], event.detail["rule"]) == ("alice", "staff-anywhere")
    session = ostiary.wait_for_session(lambda row: row.ended_at is None, "that is up")
    assert (session.user_name, session.device_name) == ("alice", f"corporate/{serial}"[:64])
    client.terminate()


def test_good_by_ocsp_inside_eap_tls(ostiary: Ostiary, site: Site, clients: Clients, world: World) -> None:
    badge = world.badge("corporate", ocsp(OCSP_PORT))
    client = clients.eap_tls(site.client, Laptop("alice", "", "", ""), badge, identity=USER)
    client.connect()
    use_tunnel(client, large=False)
    client.terminate()


def test_an_intermediate_that_the_client_sends(
    ostiary: Ostiary, site: Site, clients: Clients, world: World, lab: Lab
) -> None:
    """The gateway knows the root only. The intermediate is checked with the root's responder, the client by a CRL."""
    folder = lab.directory / "below"
    below = Publisher(folder, world.issuing)
    names = [x509.RFC822Name(USER)]
    url = x509.UniformResourceIdentifier(f"http://{INSIDE_IPV4}/issuing.crl")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])
    badge = world.issuing.issue("Alice Adams", names, points, usage="client")
    below.knows(badge.certificate)
    below.write_crl("issuing.crl")
    (world.publisher.directory / "issuing.crl").write_bytes((folder / "issuing.crl").read_bytes())
    mark = ostiary.audit_mark()
    way_up = (world.issuing.certificate, world.roots["corporate"].certificate)
    client = client_of(clients, site, badge, known_authorities=way_up)
    result = client.connect()
    # It knows the root that the gateway asked for, and sends what is between.
    assert 'received cert request for "CN=corporate root"' in result.output
    assert 'sending issuer cert "CN=corporate issuing"' in result.output
    use_tunnel(client, large=False)
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "that someone was let in")
    assert "is good by CRL" in event.detail["revocation"]
    assert "is good by OCSP" in event.detail["revocation"]
    client.terminate()


def test_good_by_crl(ostiary: Ostiary, site: Site, clients: Clients, world: World) -> None:
    client = client_of(clients, site, world.badge("corporate", crl()))
    client.connect()
    use_tunnel(client, large=False)
    client.terminate()


@pytest.mark.parametrize(
    ("authority", "where", "revoked", "code", "reason"),
    [
        ("corporate", ocsp(OCSP_PORT), "keyCompromise", "revoked-certificate", "(keyCompromise)"),
        ("strict", ocsp(DEAD_PORT), "", "revocation-unknown", "Connection refused"),
        ("unlisted", ocsp(OCSP_PORT), "", "revocation-unknown", "is not a public address"),
        ("silent", ocsp(SILENT_PORT), "", "revocation-unknown", "no answer in time"),
    ],
    ids=["revoked", "responder-down", "address-not-listed", "responder-silent"],
)
def test_refused(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    world: World,
    authority: str,
    where: x509.ExtensionType,
    revoked: str,
    code: str,
    reason: str,
) -> None:
    """The peer is told nothing of the cause, and nobody waits longer than it was set."""
    badge = world.badge(authority, where, revoked=revoked)
    mark = ostiary.audit_mark()
    begin = time.monotonic()
    result = client_of(clients, site, badge).initiate()
    assert time.monotonic() - begin < 8
    assert not result.ok
    assert "N(AUTH_FAILED)" in result.output
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "that someone was refused")
    assert event.detail["code"] == code
    assert reason in event.reason
    assert ostiary.sessions(live=True) == []


def test_revoked_by_a_crl_that_is_fetched_anew(ostiary: Ostiary, site: Site, clients: Clients, world: World) -> None:
    """Under a URL of its own, since the list of the other tests is remembered for an hour."""
    url = x509.UniformResourceIdentifier(f"http://{INSIDE_IPV4}/second.crl")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])
    badge = world.badge("corporate", points, revoked="superseded")
    world.publisher.write_crl("second.crl")
    mark = ostiary.audit_mark()
    assert not client_of(clients, site, badge).initiate().ok
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "that someone was refused")
    assert event.detail["code"] == "revoked-certificate"
    assert "(superseded)" in event.reason


def test_best_effort_lets_in_and_says_so(ostiary: Ostiary, site: Site, clients: Clients, world: World) -> None:
    mark = ostiary.audit_mark()
    client = client_of(clients, site, world.badge("partner", ocsp(DEAD_PORT)))
    client.connect()
    use_tunnel(client, large=False)
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "that someone was let in")
    assert event.detail["revocation"].startswith("unknown: ")
    client.terminate()
    assert "a revocation source fails" in ostiary.log()


def test_others_sign_in_while_a_responder_says_nothing(
    ostiary: Ostiary, site: Site, clients: Clients, world: World, enrolment: Enrolment
) -> None:
    """Neither the gateway's loop nor the database's thread waits for it."""
    laptop = enrolment.laptop("bob", "bob-laptop")
    # Another source than that of the test before, which is left alone for a while.
    stuck = client_of(clients, site, world.badge("silent", ocsp(ALSO_SILENT_PORT)))
    quick = clients.eap_mschapv2(site.home, laptop)
    with ThreadPoolExecutor(1) as thread:
        begin = time.monotonic()
        waiting = thread.submit(stuck.initiate)
        time.sleep(0.5)
        quick.connect()
        assert time.monotonic() - begin < 2.5, "the sign-in of another client was held up"
        assert not waiting.done()
        assert not waiting.result().ok
    quick.terminate()


def test_disabling_the_user_ends_the_session(ostiary: Ostiary, site: Site, clients: Clients, world: World) -> None:
    client = client_of(clients, site, world.badge("corporate", ocsp(OCSP_PORT)))
    client.connect()
    ostiary.command("user", "disable", "alice", "--reason", "left the company")
    ended = ostiary.wait_for_session(lambda row: row.user_name == "alice" and row.ended_at is not None, "that ended")
    assert ended.terminate_cause == "ADMIN_RESET"
    assert client.list_sas() == []
    ostiary.command("user", "enable", "alice")


def test_an_operator_examines_a_certificate(ostiary: Ostiary, world: World, lab: Lab) -> None:
    file: Path = lab.directory / "badge.pem"
    file.write_text(certificate_pem(world.badge("corporate", ocsp(OCSP_PORT)).certificate), encoding="ascii")
    [row] = ostiary.command_json("ca", "examine", str(file))
    assert (row["authority"], row["user"], row["revocation"]) == ("corporate", f"{USER} or alice", "good")
    assert {row["authority"] for row in ostiary.command_json("ca", "trusted")} == set(world.roots)
