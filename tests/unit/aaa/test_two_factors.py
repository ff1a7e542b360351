"""A device by its certificate and its user by EAP, through the in-process backend; and site peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from aaa import enforcement, users
from aaa.backend.requests import UNAVAILABLE
from aaa.dynamic_authorization import Answer, Change, Peer, Selector
from aaa.enforcement import disable_user
from aaa.interface import Access, EapAccepted, EapRejected, FirstFactor, Refusal
from aaa.models import TunnelSession
from core import jobs
from core.audit import SYSTEM
from core.settings import GatewaySettings, RuleSettings, SitePeerSettings
from pki.certificates import revoke_certificate
from pki.names import serial_text
from posture import devices as inventory
from tests.peers.eap import EapPeer, MsChapV2Peer
from tests.unit.aaa.driver import Conversation, Driver, context
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import Enrolled, certify, chain_of, enrol, tls_peer

BOTH = RuleSettings(name="two-factors", methods=("certificate+eap-mschapv2", "certificate+eap-tls"))
SHARED = RuleSettings(name="kiosks", methods=("certificate+eap-mschapv2",), device_users="anyone")
Open = Callable[..., Driver]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Open]:
    """Starts a backend with rules."""
    with ExitStack() as stack:

        def start(*rules: RuleSettings) -> Driver:
            runtime = stack.enter_context(open_runtime(tmp_path / "state", rules=rules or (BOTH,)))
            return stack.enter_context(Driver(runtime))

        yield start


def first(driver: Driver, device: Enrolled, identity: str = "") -> FirstFactor | Refusal:
    """What AAA says of a device's certificate."""
    issued, authority = certify(driver.runtime, device.id)
    return check(driver, chain_of(issued, authority), identity or device.name)


def check(driver: Driver, chain_der: list[bytes], identity: str) -> FirstFactor | Refusal:
    """What AAA says of a chain."""
    answers: list[FirstFactor | Refusal] = []
    driver.backend.check_device(context(ike_identity=identity), chain_der, answers.append)
    driver.pump(lambda: bool(answers))
    return answers[0]


def second(driver: Driver, factor: FirstFactor | Refusal, peer: EapPeer) -> EapAccepted | EapRejected:
    """The user's sign-in on a device."""
    assert isinstance(factor, FirstFactor), factor
    return Conversation(driver, peer, context(ike_identity=factor.device_name), factor).run()


def refused(result: EapAccepted | EapRejected | FirstFactor | Refusal) -> Refusal:
    """The refusal that it has to be."""
    refusal = result.refusal if isinstance(result, EapRejected) else result
    assert isinstance(refusal, Refusal), result
    return refusal


class TestTheyBelongTogether:
    def test_the_owner_on_his_own_device(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        result = second(driver, first(driver, laptop), MsChapV2Peer("alice", laptop.code))
        assert isinstance(result, EapAccepted)
        access = result.access
        assert (access.user_name, access.device_id, access.rule) == ("alice", laptop.id, "two-factors")
        assert access.method == "certificate+eap-mschapv2"
        assert access.certificate_serial
        (event,) = driver.events("sign-in.accept")
        assert (event["method"], event["certificate"]) == (access.method, access.certificate_serial)
        session_id, refusal = driver.start_session(access)
        assert refusal is None
        with driver.runtime.database.reading() as session:
            row = session.get(TunnelSession, session_id)
            assert row is not None
            assert (row.method, row.user_name) == ("certificate+eap-mschapv2", "alice")

    def test_with_a_certificate_inside_eap(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        issued, authority = certify(driver.runtime, laptop.id)
        result = second(driver, first(driver, laptop), tls_peer("alice-laptop", issued, authority))
        assert isinstance(result, EapAccepted)
        assert result.access.method == "certificate+eap-tls"

    def test_somebody_else_on_it(self, start: Open) -> None:
        driver = start()
        laptop, other = enrol(driver.runtime), enrol(driver.runtime, "bob", "bob-phone")
        refusal = refused(second(driver, first(driver, laptop), MsChapV2Peer("bob", other.code)))
        assert refusal.code == "wrong-owner"
        event = driver.events("sign-in.refuse")[-1]
        assert (event["actor"], event["identity"], event["method"]) == (
            "device:alice-laptop",
            "bob",
            "certificate+eap-mschapv2",
        )

    def test_somebody_else_where_a_rule_shares_devices(self, start: Open) -> None:
        driver = start(SHARED)
        kiosk, other = enrol(driver.runtime), enrol(driver.runtime, "bob", "bob-phone")
        result = second(driver, first(driver, kiosk), MsChapV2Peer("bob", other.code))
        assert isinstance(result, EapAccepted)
        access = result.access
        assert (access.user_name, access.device_id, access.device_name) == ("bob", kiosk.id, "alice-laptop")
        _, refusal = driver.start_session(access)
        assert refusal is None


class TestOneFactorIsNotEnough:
    def test_the_certificate_alone(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        issued, authority = certify(driver.runtime, laptop.id)
        refusal = driver.certificate(chain_of(issued, authority), "alice-laptop")
        assert isinstance(refusal, Refusal)
        assert refusal.code == "second-factor-missing"
        assert "asks for certificate+eap-mschapv2" in refusal.reason

    def test_the_password_alone(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        refusal = refused(driver.sign_in(MsChapV2Peer("alice", laptop.code)))
        assert refusal.code == "second-factor-missing"

    def test_the_wrong_password_after_a_good_certificate(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        refusal = refused(second(driver, first(driver, laptop), MsChapV2Peer("alice", "wrong")))
        assert refusal.code == "wrong-credential"


class TestTheDevice:
    """It is refused before its user is asked for anything."""

    def test_unknown_identity(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        assert refused(first(driver, laptop, "bobs-laptop")).code == "identity-mismatch"

    def test_revoked(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        issued, authority = certify(driver.runtime, laptop.id)
        with driver.runtime.database.transaction() as session:
            inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "stolen", SYSTEM)
        refusal = refused(check(driver, chain_of(issued, authority), "alice-laptop"))
        assert (refusal.code, refusal.reason) == ("revoked-device", "device alice-laptop was revoked: stolen")
        event = driver.events("sign-in.refuse")[-1]
        assert (event["actor"], event["code"], event["method"]) == (
            "device:alice-laptop",
            "revoked-device",
            "certificate",
        )

    def test_with_a_revoked_certificate(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        issued, authority = certify(driver.runtime, laptop.id)
        with driver.runtime.database.transaction() as session:
            revoke_certificate(session, serial_text(issued.certificate), "lost", SYSTEM)
        assert refused(check(driver, chain_of(issued, authority), "alice-laptop")).code == "revoked-certificate"

    def test_hostile_chains(self, start: Open) -> None:
        driver = start()
        for chain in ([], [b""], [b"\x30\x80" + bytes(100)], [bytes(70_000)]):
            assert refused(check(driver, chain, "alice-laptop")).code == "malformed-certificate"

    def test_too_many_failures_close_the_door_for_devices_too(self, start: Open) -> None:
        driver = start()
        codes = [refused(check(driver, [b"?"], "alice-laptop")).code for _ in range(11)]
        assert codes[-1] == "too-many-failures"


class TestInTheMeantime:
    def test_the_device_is_revoked_between_the_two(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        factor = first(driver, laptop)
        with driver.runtime.database.transaction() as session:
            inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "stolen", SYSTEM)
        refusal = refused(second(driver, factor, MsChapV2Peer("alice", laptop.code)))
        assert refusal.code == "revoked-device"

    def test_the_certificate_is_revoked_between_the_two(self, start: Open) -> None:
        driver = start()
        laptop = enrol(driver.runtime)
        issued, authority = certify(driver.runtime, laptop.id)
        factor = check(driver, chain_of(issued, authority), "alice-laptop")
        with driver.runtime.database.transaction() as session:
            revoke_certificate(session, serial_text(issued.certificate), "lost", SYSTEM)
        refusal = refused(second(driver, factor, MsChapV2Peer("alice", laptop.code)))
        assert refusal.code == "revoked-certificate"

    def test_a_code_of_a_stolen_device_counts_on_no_other(self, start: Open) -> None:
        driver = start(SHARED)
        kiosk, phone = enrol(driver.runtime), enrol(driver.runtime, "bob", "bob-phone")
        with driver.runtime.database.transaction() as session:
            inventory.set_state(session, inventory.get(session, phone.id), "revoked", "stolen", SYSTEM)
        refusal = refused(second(driver, first(driver, kiosk), MsChapV2Peer("bob", phone.code)))
        assert refusal.code == "revoked-device"
        assert "bob-phone" in refusal.reason

    def test_whoever_is_on_a_shared_device_is_disabled_before_the_session_starts(self, start: Open) -> None:
        driver = start(SHARED)
        kiosk, phone = enrol(driver.runtime), enrol(driver.runtime, "bob", "bob-phone")
        result = second(driver, first(driver, kiosk), MsChapV2Peer("bob", phone.code))
        assert isinstance(result, EapAccepted)
        with driver.runtime.database.transaction() as session:
            users.set_disabled(session, users.get_user(session, "bob"), True, SYSTEM)
        _, refusal = driver.start_session(result.access)
        assert refusal is not None
        assert refusal.code == "disabled-user"

    def test_or_while_it_is_up(self, start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[Selector] = []

        def ask(peer: Peer, selector: Selector, change: Change | None) -> Answer:
            told.append(selector)
            return Answer(True, None, "1 ended")

        monkeypatch.setattr(enforcement, "ask", ask)
        monkeypatch.setattr(jobs, "wake", lambda _settings, outbox_id: None)
        driver = start(SHARED)
        kiosk, phone = enrol(driver.runtime), enrol(driver.runtime, "bob", "bob-phone")
        result = second(driver, first(driver, kiosk), MsChapV2Peer("bob", phone.code))
        assert isinstance(result, EapAccepted)
        session_id, _ = driver.start_session(result.access)
        disable_user(driver.runtime, "bob", "left", SYSTEM)
        assert Selector(session_id=session_id) in told


def test_a_first_factor_of_another_backend_is_no_proof(start: Open) -> None:
    driver = start()
    with pytest.raises(TypeError, match="another backend"):
        driver.backend.open_eap(context(), FirstFactor("alice-laptop", object()))


@pytest.mark.parametrize(("mutual", "ok"), [(True, False), (False, True)])
def test_a_conversation_that_has_to_prove_the_gateway_offers_no_password(start: Open, mutual: bool, ok: bool) -> None:
    driver = start(RuleSettings(name="all"))
    laptop = enrol(driver.runtime)
    conversation = Conversation(driver, MsChapV2Peer("alice", laptop.code), context(), mutual=mutual)
    result = conversation.run()
    assert isinstance(result, EapAccepted) is ok
    if not ok:
        assert refused(result).code == "no-common-method"


class TestSites:
    NETWORKS = ("10.7.0.0/16", "fd07::/64")
    RULE = RuleSettings(name="sites", methods=("psk",), session_lifetime_s=86400.0)

    @pytest.fixture
    def open_sites(self, tmp_path: Path) -> Iterator[Open]:
        """Starts a backend whose gateway knows one site."""
        with ExitStack() as stack:

            def start(*rules: RuleSettings) -> Driver:
                runtime = stack.enter_context(open_runtime(tmp_path / "state", rules=rules or (self.RULE,)))
                site = SitePeerSettings.model_validate(
                    {"name": "branch", "identity": "b.example", "secret_file": "/none", "networks": self.NETWORKS}
                )
                gateway = GatewaySettings.model_validate(
                    {**runtime.settings.gateway.model_dump(), "site_peers": [site]}
                )
                settings = runtime.settings.model_copy(update={"gateway": gateway})
                return stack.enter_context(Driver(replace(runtime, settings=settings)))

            yield start

    @staticmethod
    def ask(driver: Driver, name: str = "branch") -> Access | Refusal:
        answers: list[Access | Refusal] = []
        driver.backend.authorise_site(context(ike_identity="b.example"), name, answers.append)
        driver.pump(lambda: bool(answers))
        return answers[0]

    def test_gets_its_own_networks(self, open_sites: Open) -> None:
        driver = open_sites()
        access = self.ask(driver)
        assert isinstance(access, Access)
        assert (access.user_name, access.device_id, access.device_name) == ("site:branch",) * 3
        assert (access.method, access.rule, access.session_lifetime_s) == ("psk", "sites", 86400.0)
        assert tuple(map(str, access.peer_networks)) == self.NETWORKS
        (event,) = driver.events("sign-in.accept")
        assert (event["actor"], event["method"]) == ("device:site:branch", "psk")

    def test_its_session_is_accounted_for(self, open_sites: Open) -> None:
        driver = open_sites()
        access = self.ask(driver)
        assert isinstance(access, Access)
        session_id, refusal = driver.start_session(access)
        assert refusal is None
        with driver.runtime.database.reading() as session:
            row = session.get(TunnelSession, session_id)
            assert row is not None
            assert (row.user_name, row.device_id, row.method) == ("site:branch", "site:branch", "psk")

    def test_no_rule_no_tunnel(self, open_sites: Open) -> None:
        driver = open_sites(RuleSettings(name="people"))
        refusal = self.ask(driver)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "no-rule"
        event = driver.events("sign-in.refuse")[-1]
        assert (event["actor"], event["code"]) == ("device:site:branch", "no-rule")

    def test_a_site_that_is_not_in_the_settings_has_no_networks(self, open_sites: Open) -> None:
        access = self.ask(open_sites(), "elsewhere")
        assert isinstance(access, Access)
        assert access.peer_networks == ()

    def test_fails_closed_without_a_database(self, open_sites: Open) -> None:
        driver = open_sites()
        answers: list[Access | Refusal] = []
        driver.backend._or_write(context(), answers.append, "psk")(UNAVAILABLE)
        driver.pump(lambda: bool(answers))
        assert isinstance(answers[0], Refusal)
        assert driver.events("sign-in.refuse")[-1]["code"] == "backend-unavailable"
