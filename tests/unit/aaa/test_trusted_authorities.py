"""Whole sign-ins with certificates of another company's CA: real database, real CA of ours, OCSP by script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from aaa import enforcement, users
from aaa.backend.own_certificates import MOST_NAMED_AUTHORITIES, key_sha1
from aaa.dynamic_authorization import Answer, Change, Peer, Selector
from aaa.enforcement import disable_user
from aaa.interface import Access, EapAccepted, EapRejected, Refusal
from aaa.models import TunnelSession
from core import jobs
from core.audit import SYSTEM
from core.settings import RuleSettings
from pki.authority import CertificateAuthority
from pki.errors import PkiError
from pki.names import serial_text
from pki.revocation import service
from pki.revocation.evidence import NotUsable
from posture import devices as inventory
from tests.peers.eap import MsChapV2Peer, TlsPeer
from tests.unit.aaa.driver import Driver, context
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import certify, chain_of, enrol
from tests.unit.pki.employer import CRL_URL, OCSP_URL, Badge, Employer
from tests.unit.pki.foreign_forge import principal
from tests.unit.pki.revocation.scripted_web import ScriptedWeb

EMPLOYER = Employer()
UNMANAGED = RuleSettings(name="partners", device_states=("unmanaged",))
TRUSTED = RuleSettings(name="trusted-devices")
Open = Callable[..., Driver]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> ScriptedWeb:
    """Where OCSP and CRLs come from; the root's list calls the issuing CA good."""
    web = ScriptedWeb()
    web.answers[CRL_URL] = EMPLOYER.root_list()
    monkeypatch.setattr(service, "Fetcher", lambda: web)
    return web


@pytest.fixture
def start(tmp_path: Path, web: ScriptedWeb) -> Iterator[Open]:
    """Starts a backend that trusts the employer."""
    with ExitStack() as stack:

        def start(
            *, rules: tuple[RuleSettings, ...] = (TRUSTED, UNMANAGED), user: str = "alice", **settings: Any
        ) -> Driver:
            authorities = (EMPLOYER.settings(tmp_path, **settings),)
            runtime = stack.enter_context(open_runtime(tmp_path / "state", rules=rules, authorities=authorities))
            with runtime.database.transaction() as session:
                users.create_user(session, user, groups=["staff"], actor=SYSTEM)
            return stack.enter_context(Driver(runtime))

        yield start


def sign_in(driver: Driver, badge: Badge, identity: str = "alice@corp.example", **changes: Any) -> Access | Refusal:
    return driver.certificate(badge.chain_der, identity, **changes)


def eap_tls(driver: Driver, badge: Badge, identity: str = "alice@corp.example") -> EapAccepted | EapRejected:
    root = CertificateAuthority.open(driver.runtime).root.public_bytes(Encoding.DER)
    return driver.sign_in(TlsPeer(identity, badge.chain_der, badge.key, [root]))


def code_of(answer: Access | Refusal | EapAccepted | EapRejected) -> str:
    refusal = answer.refusal if isinstance(answer, EapRejected) else answer
    assert isinstance(refusal, Refusal), answer
    return refusal.code


class TestUsersOfAnUnknownDevice:
    def test_get_in_by_a_rule_that_says_so(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        access = sign_in(driver, badge)
        assert isinstance(access, Access)
        assert (access.user_name, access.rule, access.method) == ("alice", "partners", "certificate")
        assert (access.certificate_authority, access.managed) == ("corporate", False)
        serial = serial_text(badge.certificate)
        assert (access.certificate_serial, access.device_name) == (serial, f"corporate/{serial}")
        [event] = driver.events("sign-in.accept")
        assert event["certificate_authority"] == "corporate"
        assert event["revocation"].startswith("good: the certificate ")
        assert event["user"] == "alice"

    def test_get_in_by_eap_tls_too(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        result = eap_tls(driver, badge)
        assert isinstance(result, EapAccepted)
        assert (result.access.user_name, result.access.method) == ("alice", "eap-tls")
        assert result.access.certificate_authority == "corporate"

    @pytest.mark.parametrize("rules", [(TRUSTED,), (RuleSettings(name="all", device_states=()),), ()])
    def test_do_not_get_in_by_others(self, start: Open, web: ScriptedWeb, rules: tuple[RuleSettings, ...]) -> None:
        driver, badge = start(rules=rules), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        assert code_of(sign_in(driver, badge)) == "unknown-device"

    def test_are_the_same_device_each_time(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        first, second = sign_in(driver, badge), sign_in(driver, badge)
        assert isinstance(first, Access)
        assert isinstance(second, Access)
        assert first.device_id == second.device_id

    @pytest.mark.parametrize("name", ["bob@corp.example", "alice@partner.example", "alice@corp.example.evil"])
    def test_are_nobody_under_another_name(self, start: Open, web: ScriptedWeb, name: str) -> None:
        driver, badge = start(), EMPLOYER.badge(principal(name))
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        assert code_of(sign_in(driver, badge, name)) == "unknown-user"

    def test_may_be_in_the_directory_with_their_domain(self, start: Open, web: ScriptedWeb) -> None:
        driver = start(user="alice@partner.example")
        badge = EMPLOYER.badge(principal("Alice@Partner.example"))
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        access = sign_in(driver, badge, "alice@partner.example")
        assert isinstance(access, Access)
        assert access.user_name == "alice@partner.example"

    def test_stay_out_once_they_are_disabled(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        with driver.runtime.database.transaction() as session:
            users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM)
        assert code_of(sign_in(driver, badge)) == "disabled-user"

    def test_must_call_themselves_what_the_certificate_says(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        assert code_of(sign_in(driver, badge, "bob@corp.example")) == "identity-mismatch"
        assert code_of(eap_tls(driver, badge, "bob@corp.example")) == "identity-mismatch"
        # And nobody was asked for them.
        assert web.asked == []


class TestKnownDevices:
    def badge(self, host: str = "alice-laptop.corp.example") -> Badge:
        return EMPLOYER.badge(principal("alice@corp.example"), x509.DNSName(host))

    def test_are_judged_as_the_inventory_says(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(device_from="dns"), self.badge()
        laptop = enrol(driver.runtime, new_user=False)
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        access = sign_in(driver, badge)
        assert isinstance(access, Access)
        assert (access.device_id, access.device_name, access.managed) == (laptop.id, "alice-laptop", True)
        assert access.rule == "trusted-devices"
        _, refusal = driver.start_session(access)
        assert refusal is None
        for state, code in (("quarantined", "quarantined-device"), ("revoked", "revoked-device")):
            with driver.runtime.database.transaction() as session:
                inventory.set_state(session, inventory.get(session, laptop.id), state, "", SYSTEM)
            assert code_of(sign_in(driver, badge)) == code
            _, refusal = driver.start_session(access)
            assert refusal is not None
            assert refusal.code == code

    def test_must_be_the_users_own(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(device_from="dns"), self.badge("bob-laptop.corp.example")
        enrol(driver.runtime, "bob", "bob-laptop")
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        assert code_of(sign_in(driver, badge)) == "wrong-owner"

    def test_of_another_domain_are_not_known(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(device_from="dns"), self.badge("alice-laptop.evil.example")
        enrol(driver.runtime, new_user=False)
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        access = sign_in(driver, badge)
        assert isinstance(access, Access)
        assert not access.managed

    def test_by_a_machines_certificate_belong_to_their_owner(self, start: Open, web: ScriptedWeb) -> None:
        driver = start(user_from=None, device_from="dns")
        badge = EMPLOYER.badge(x509.DNSName("alice-laptop.corp.example"))
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        assert code_of(sign_in(driver, badge, "alice-laptop.corp.example")) == "unknown-device"
        laptop = enrol(driver.runtime, new_user=False)
        access = sign_in(driver, badge, "alice-laptop.corp.example")
        assert isinstance(access, Access)
        assert (access.user_name, access.device_id) == ("alice", laptop.id)

    def test_by_their_id(self, start: Open, web: ScriptedWeb) -> None:
        driver = start(user_from=None, device_from="uri")
        laptop = enrol(driver.runtime, new_user=False)
        badge = EMPLOYER.badge(x509.UniformResourceIdentifier(f"urn:uuid:{laptop.id}"))
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        access = sign_in(driver, badge, f"urn:uuid:{laptop.id}")
        assert isinstance(access, Access)
        assert access.device_id == laptop.id

    def test_are_not_named_by_their_id_unless_the_operator_says_so(self, start: Open, web: ScriptedWeb) -> None:
        driver = start()
        laptop = enrol(driver.runtime, new_user=False)
        uri = x509.UniformResourceIdentifier(f"urn:uuid:{laptop.id}")
        badge = EMPLOYER.badge(principal("alice@corp.example"), uri)
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        access = sign_in(driver, badge)
        assert isinstance(access, Access)
        assert (access.managed, access.device_id == laptop.id) == (False, False)


class TestRevocation:
    @pytest.mark.parametrize("by_eap", [False, True])
    @pytest.mark.parametrize("policy", ["required", "best-effort"])
    def test_who_is_revoked_stays_out(self, start: Open, web: ScriptedWeb, policy: str, by_eap: bool) -> None:
        driver, badge = start(revocation=policy), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge, "revoked", reason=x509.ReasonFlags.key_compromise)
        answer = eap_tls(driver, badge) if by_eap else sign_in(driver, badge)
        assert code_of(answer) == "revoked-certificate"
        [event] = driver.events("sign-in.refuse")
        assert "(keyCompromise)" in event["reason"]

    def test_a_revoked_ca_keeps_its_clients_out(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers |= {OCSP_URL: EMPLOYER.says(badge), CRL_URL: EMPLOYER.root_list(77)}
        assert code_of(sign_in(driver, badge)) == "revoked-certificate"

    @pytest.mark.parametrize("by_eap", [False, True])
    def test_where_nobody_says_anything_required_means_no(self, start: Open, web: ScriptedWeb, by_eap: bool) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers[OCSP_URL] = NotUsable("it answers HTTP 503")
        answer = eap_tls(driver, badge) if by_eap else sign_in(driver, badge)
        assert code_of(answer) == "revocation-unknown"
        [event] = driver.events("sign-in.refuse")
        assert "it answers HTTP 503" in event["reason"]

    def test_and_best_effort_means_yes_but_is_written_down(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(revocation="best-effort"), EMPLOYER.badge()
        web.answers[OCSP_URL] = NotUsable("it answers HTTP 503")
        assert isinstance(sign_in(driver, badge), Access)
        [event] = driver.events("sign-in.accept")
        assert event["revocation"].startswith("unknown: ")
        assert "HTTP 503" in event["revocation"]

    def test_off_asks_nobody(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(revocation="off"), EMPLOYER.badge()
        assert isinstance(sign_in(driver, badge), Access)
        assert web.asked == []
        [event] = driver.events("sign-in.accept")
        assert event["revocation"] == "not asked"

    def test_what_the_client_brings_saves_the_question(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        assert isinstance(sign_in(driver, badge, ocsp_responses=[EMPLOYER.says(badge)]), Access)
        assert web.asked == [CRL_URL]

    def test_an_outage_counts_against_nobody(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        for _ in range(15):
            assert code_of(sign_in(driver, badge)) == "revocation-unknown"
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        assert code_of(sign_in(driver, badge)) == "revocation-unknown"

    def test_revoked_ones_count(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge, "revoked")
        codes = [code_of(sign_in(driver, badge)) for _ in range(12)]
        assert codes[-1] == "too-many-failures"

    def test_who_left_while_it_was_asked_gets_no_answer(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        answers: list[object] = []
        driver.backend.authorise_certificate(
            context(ike_identity="alice@corp.example"), badge.chain_der, answers.append
        )
        driver.backend.goodbye()
        driver.run_posted()
        assert answers == []


class TestOurOwn:
    def test_is_still_judged_by_the_register(self, start: Open, web: ScriptedWeb) -> None:
        driver = start()
        laptop = enrol(driver.runtime, new_user=False)
        issued, authority = certify(driver.runtime, laptop.id)
        access = driver.certificate(chain_of(issued, authority), "alice-laptop")
        assert isinstance(access, Access)
        assert (access.certificate_authority, access.managed) == ("", True)
        assert web.asked == []

    def test_access_codes_work_beside_it(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime, new_user=False)
        assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code)), EapAccepted)

    def test_can_not_be_trusted_a_second_time(self, tmp_path: Path, web: ScriptedWeb) -> None:
        with open_runtime(tmp_path / "state") as runtime:
            file = tmp_path / "own.pem"
            file.write_text(CertificateAuthority.open(runtime).trust_pem())
        authority = EMPLOYER.settings(tmp_path).model_copy(update={"file": file})
        with (
            open_runtime(tmp_path / "state", authorities=(authority,)) as runtime,
            pytest.raises(PkiError, match="Ostiary's own CA"),
        ):
            Driver(runtime)

    @pytest.mark.parametrize("chain", [[], [b""], [b"\x30\x80" + bytes(100)], [bytes(70_000)]])
    def test_hostile_chains_are_refused(self, start: Open, chain: list[bytes]) -> None:
        assert code_of(start().certificate(chain, "alice")) == "malformed-certificate"

    def test_a_stranger_is_refused(self, start: Open, web: ScriptedWeb) -> None:
        driver, badge = start(), Employer().badge()
        assert code_of(sign_in(driver, badge)) == "untrusted-certificate"
        assert code_of(eap_tls(driver, badge)) == "untrusted-certificate"
        assert web.asked == [], "no URL of a stranger's is followed"


class TestSessions:
    def session(self, driver: Driver, web: ScriptedWeb) -> tuple[Access, str]:
        badge = EMPLOYER.badge()
        web.answers[OCSP_URL] = EMPLOYER.says(badge)
        access = sign_in(driver, badge)
        assert isinstance(access, Access)
        session_id, refusal = driver.start_session(access)
        assert refusal is None
        return access, session_id

    def test_are_accounted_for(self, start: Open, web: ScriptedWeb) -> None:
        driver = start()
        access, session_id = self.session(driver, web)
        with driver.runtime.database.reading() as session:
            row = session.get(TunnelSession, session_id)
            assert row is not None
            assert (row.user_name, row.device_id, row.device_name) == ("alice", access.device_id, access.device_name)

    def test_do_not_begin_for_a_user_who_was_just_disabled(self, start: Open, web: ScriptedWeb) -> None:
        driver = start()
        access, _ = self.session(driver, web)
        with driver.runtime.database.transaction() as session:
            users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM)
        _, refusal = driver.start_session(access)
        assert refusal is not None
        assert refusal.code == "disabled-user"

    def test_end_when_the_user_is_disabled(
        self, start: Open, web: ScriptedWeb, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[tuple[str, Selector]] = []

        def ask(peer: Peer, selector: Selector, change: Change | None) -> Answer:
            told.append((peer.name, selector))
            return Answer(True, None, "1 ended")

        monkeypatch.setattr(enforcement, "ask", ask)
        monkeypatch.setattr(jobs, "wake", lambda _settings, outbox_id: None)
        driver = start()
        laptop = enrol(driver.runtime, new_user=False)
        access, session_id = self.session(driver, web)
        done = disable_user(driver.runtime, "alice", "left", SYSTEM)
        assert [one.device_name for one in done] == ["alice-laptop", access.device_name]
        assert {selector for _, selector in told} == {
            Selector(device_id=laptop.id),
            Selector(session_id=session_id),
        }
        assert all(answer.acknowledged for one in done for answer in one.answers)


class TestWhatTheGatewayIsTold:
    def test_every_accepted_ca_and_a_proof_that_it_is_good(self, start: Open) -> None:
        driver = start()
        (credential,) = driver.backend.gateway_credentials()
        authority = CertificateAuthority.open(driver.runtime)
        named = [authority.root, authority.issuing, EMPLOYER.root.certificate]
        assert list(driver.backend.accepted_authorities()) == [key_sha1(ca) for ca in named]
        assert len(driver.backend.accepted_authorities()) <= MOST_NAMED_AUTHORITIES
        assert list(credential.issuers_spki_sha1) == [key_sha1(ca) for ca in named[:2]]
        assert credential.ocsp_response_der == driver.backend.gateway_credentials()[0].ocsp_response_der
        assert credential.ocsp_not_after > EMPLOYER.now
