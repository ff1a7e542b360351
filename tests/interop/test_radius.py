"""`ostiary radius` asked by wpa_supplicant (`eapol_test`) and by FreeRADIUS's `radclient`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.radius import ACCOUNTING, NAS, SECRET, SERVER, radius_server
from tests.lab.eapol import EapolResult, run_eapol, tls_network
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary
from tests.lab.radclient import exchange, radclient
from tests.lab.topology import GATEWAY_INSIDE_IPV4, INSIDE_IPV4, INSIDE_IPV6, Site
from tests.peers.radius import ACCEPT, ACCESS_REQUEST, CHALLENGE, STATUS, eap_attributes, packet, read_answer

pytestmark = pytest.mark.interop

KEYS_AGREE = "MPPE keys OK: 1  mismatch: 0"
EAPOL_ADDRESS = (INSIDE_IPV4, 1812, SECRET)
ALICE = b"\x02\x01\x00\x0a\x01alice"


@pytest.fixture(scope="module")
def ostiary(lab: Lab, site: Site) -> Iterator[Ostiary]:
    """In the place of a gateway: the RADIUS server alone."""
    with radius_server(site.inside, lab.directory / "radius") as ostiary:
        yield ostiary


@pytest.fixture
def directory(lab: Lab) -> Path:
    return lab.directory / f"peer-{next(_numbers)}"


_numbers = itertools.count()


def mschapv2(directory: Path, site: Site, identity: str, password: str) -> EapolResult:
    network = {"eap": "MSCHAPV2", "identity": f'"{identity}"', "password": f'"{password}"'}
    return run_eapol(directory, network, *EAPOL_ADDRESS, namespace=site.gateway)


class TestEap:
    def test_mschapv2(self, ostiary: Ostiary, site: Site, laptop: Laptop, directory: Path) -> None:
        mark = ostiary.audit_mark()
        result = mschapv2(directory, site, laptop.user_name, laptop.access_code)
        assert result.ok, result.output
        assert KEYS_AGREE in result.output
        event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "of a sign-in")
        assert event.target == f"gateway:{NAS}"
        assert event.detail["rule"] == "trusted-devices"
        assert event.detail["client"] == "Wi-Fi (RADIUS)"

    @pytest.mark.parametrize("tls_1_3", [True, False], ids=["TLS 1.3", "TLS 1.2"])
    def test_tls(
        self, ostiary: Ostiary, site: Site, enrolment: Enrolment, laptop: Laptop, directory: Path, tls_1_3: bool
    ) -> None:
        credential = enrolment.certificate(laptop)
        trust = enrolment.authority.trust_pem()
        network = tls_network(directory, laptop.host_name, credential, trust, tls_1_3=tls_1_3)
        result = run_eapol(directory, network, *EAPOL_ADDRESS, namespace=site.gateway)
        assert result.ok, result.output
        assert f"SSL: Using TLS version TLSv1.{3 if tls_1_3 else 2}" in result.output
        assert KEYS_AGREE in result.output

    def test_tls_without_a_hint_of_the_identity_by_the_client(
        self, ostiary: Ostiary, site: Site, enrolment: Enrolment, laptop: Laptop, directory: Path
    ) -> None:
        """EAP-Start (RFC 3579 section 2.1): `eapol_test` never sends it, so it is sent by hand before."""
        start = packet(ACCESS_REQUEST, SECRET.encode(), [(1, b"alice"), *eap_attributes(b"")])
        [answer] = exchange(site.gateway, (INSIDE_IPV4, 1812), [start], answers=1)
        read = read_answer(start, answer, SECRET.encode())
        assert (read.code, read.eap[0], read.eap[4]) == (CHALLENGE, 1, 1)

    @pytest.mark.parametrize("wrong", ["password", "user", "method"])
    def test_refused(self, ostiary: Ostiary, site: Site, laptop: Laptop, directory: Path, wrong: str) -> None:
        mark = ostiary.audit_mark()
        if wrong == "method":
            network = {"eap": "MD5", "identity": '"alice"', "password": '"x"'}
            result = run_eapol(directory, network, *EAPOL_ADDRESS, namespace=site.gateway)
        else:
            name = "mallory" if wrong == "user" else laptop.user_name
            result = mschapv2(directory, site, name, "wrong")
        assert not result.ok
        assert "(Access-Reject)" in result.output
        code = {"password": "wrong-credential", "user": "unknown-user", "method": "no-common-method"}[wrong]
        event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of a refusal")
        assert (event.detail["code"], event.target) == (code, f"gateway:{NAS}")

    def test_many_at_once(self, ostiary: Ostiary, site: Site, enrolment: Enrolment, directory: Path) -> None:
        """Each with its own State; from one port, as an access point asks."""
        mark = ostiary.audit_mark()
        requests = [
            packet(ACCESS_REQUEST, SECRET.encode(), [(1, b"alice"), *eap_attributes(ALICE)], identifier=number)
            for number in range(100)
        ]
        answers = exchange(site.gateway, (INSIDE_IPV4, 1812), requests, answers=100)
        by_identifier = {answer[1]: answer for answer in answers}
        states = set()
        for request in requests:
            read = read_answer(request, by_identifier[request[1]], SECRET.encode())
            assert read.code == CHALLENGE
            states.add(read.values(24)[0])
        assert len(states) == 100
        assert [event.action for event in ostiary.audit_since(mark)] == []


class TestClients:
    def test_status_server(self, ostiary: Ostiary, site: Site) -> None:
        for server in (SERVER, ACCOUNTING):
            result = radclient(site.gateway, server, "status", SECRET, ["Message-Authenticator = 0x00"])
            assert result.ok, result.output
            assert "Message-Authenticator = 0x" in result.output.partition("Received")[2]

    def test_accounting(self, ostiary: Ostiary, site: Site) -> None:
        """Of the client itself; sessions of a sign-in are strongSwan's to tell (test_radius_strongswan)."""
        mark = ostiary.audit_mark()
        asked = ["Acct-Status-Type = Accounting-On", "NAS-Identifier = office"]
        result = radclient(site.gateway, ACCOUNTING, "acct", SECRET, asked)
        assert result.ok, result.output
        assert "Received Accounting-Response" in result.output
        assert not radclient(site.gateway, ACCOUNTING, "acct", "another secret", asked).ok
        # Its name is one machine's, so none of its sessions is left, which is told once.
        [event] = ostiary.audit_since(mark)
        assert (event.action, event.target) == ("gateway.start", f"gateway:{NAS}")

    def test_over_ipv6_from_the_address_that_was_asked(self, ostiary: Ostiary, site: Site) -> None:
        request = packet(STATUS, SECRET.encode(), [])
        [answer] = exchange(site.gateway, (INSIDE_IPV6, 1812), [request], answers=1)
        assert read_answer(request, answer, SECRET.encode()).code == ACCEPT

    def test_wrong_secret(self, ostiary: Ostiary, site: Site) -> None:
        result = radclient(site.gateway, SERVER, "status", "another secret", ["Message-Authenticator = 0x00"])
        assert not result.ok
        assert "No reply from server" in result.output

    def test_no_message_authenticator(self, ostiary: Ostiary, site: Site) -> None:
        """CVE-2024-3596: what nothing vouches for gets no answer, which could be turned into another."""
        asked = ["User-Name = alice", "User-Password = secret"]
        result = radclient(site.gateway, SERVER, "auth", SECRET, asked)
        assert not result.ok
        assert "No reply from server" in result.output
        assert "no Message-Authenticator" in ostiary.log("radius")

    def test_a_password_is_refused(self, ostiary: Ostiary, site: Site) -> None:
        asked = ["User-Name = alice", "User-Password = secret", "Message-Authenticator = 0x00"]
        result = radclient(site.gateway, SERVER, "auth", SECRET, asked)
        assert "Received Access-Reject" in result.output
        assert "Message-Authenticator = 0x" in result.output.partition("Received")[2]

    def test_proxy_state_comes_back(self, ostiary: Ostiary, site: Site) -> None:
        asked = ["Message-Authenticator = 0x00", "Proxy-State = 0x0102", "Proxy-State = 0x03"]
        answer = radclient(site.gateway, SERVER, "status", SECRET, asked).output.partition("Received")[2]
        assert answer.index("Proxy-State = 0x0102") < answer.index("Proxy-State = 0x03")

    def test_a_stranger(self, ostiary: Ostiary, site: Site) -> None:
        """From an address that is no client's, with the right secret."""
        result = radclient(site.inside, SERVER, "status", SECRET, ["Message-Authenticator = 0x00"])
        assert not result.ok
        assert "the address is no client's" in ostiary.log("radius")

    def test_duplicates(self, ostiary: Ostiary, site: Site) -> None:
        """Three copies of a request: carried out once, answered alike (RFC 5080 section 2.2.2)."""
        request = packet(ACCESS_REQUEST, SECRET.encode(), [(1, b"alice"), *eap_attributes(ALICE)])
        answers = exchange(site.gateway, (INSIDE_IPV4, 1812), [request, request], answers=2)
        first, *others = [*answers, *exchange(site.gateway, (INSIDE_IPV4, 1812), [request], answers=1)]
        assert read_answer(request, first, SECRET.encode()).code == CHALLENGE
        # The copy that came while the request was being worked on may have been answered with it, by one answer.
        assert set(others[:-1]) <= {first}
        # From another port it is another request.
        assert others[-1] != first


def test_ostiary_up_runs_it(lab: Lab, site: Site, ostiary: Ostiary) -> None:
    """With everything else, and on its own state."""
    with radius_server(site.gateway, lab.directory / "up", addresses=[INSIDE_IPV4], parts=["up"]) as everything:
        told = "\n".join(everything.ready_lines["up"])
        assert re.search(rf"^RADIUS: +0\.0\.0\.0 and ::, UDP 1812 and 1813, for {NAS}$", told, re.M), told
        server = f"{GATEWAY_INSIDE_IPV4}:1812"
        result = radclient(site.inside, server, "status", SECRET, ["Message-Authenticator = 0x00"])
        assert result.ok, result.output


def test_what_ostiary_check_says(ostiary: Ostiary) -> None:
    found = ostiary.command("check")
    assert re.search(rf"radius: clients and their secrets\W+{NAS}", found), found
    assert re.search(r"radius: UDP 0.0.0.0 port 1812\W+in use", found), found
