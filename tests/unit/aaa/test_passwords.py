"""Sign-ins by a password inside a tunnel, through the in-process backend: real database, real CA, real EAP peers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aaa.backend.conversation import EapSignIn
from aaa.backend.passwords import PasswordAttempt, PasswordReply, Prompt
from aaa.backend.requests import UNAVAILABLE
from aaa.eap.ttls_avps import Avp, AvpCode, avps_to_bytes
from aaa.interface import EapAccepted, EapRejected, Refusal
from aaa.users import create_user
from core.audit import SYSTEM
from core.settings import RuleSettings
from pki.authority import CertificateAuthority
from tests.peers.eap import EapPeer, GtcPeer, MsChapV2Peer, PeapPeer, TtlsPeer
from tests.unit.aaa.driver import Conversation, Driver, context
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import enrol, expire_code

OUTSIDE = "anonymous@example.org"
Make = Callable[[Driver, str, str], EapPeer]


def _anchors(driver: Driver) -> list[bytes]:
    return [CertificateAuthority.open(driver.runtime).root.public_bytes(Encoding.DER)]


def ttls_pap(driver: Driver, identity: str, password: str) -> EapPeer:
    avps = [Avp(AvpCode.USER_NAME, identity.encode()), Avp(AvpCode.USER_PASSWORD, password.encode())]
    return TtlsPeer(OUTSIDE, GtcPeer(""), _anchors(driver), avps=avps_to_bytes(avps))


def ttls_gtc(driver: Driver, identity: str, password: str) -> EapPeer:
    return TtlsPeer(OUTSIDE, GtcPeer(identity, password), _anchors(driver))


def ttls_mschapv2(driver: Driver, identity: str, password: str) -> EapPeer:
    return TtlsPeer(OUTSIDE, MsChapV2Peer(identity, password), _anchors(driver))


def peap_gtc(driver: Driver, identity: str, password: str) -> EapPeer:
    return PeapPeer(OUTSIDE, GtcPeer(identity, password), _anchors(driver))


def peap_mschapv2(driver: Driver, identity: str, password: str) -> EapPeer:
    return PeapPeer(OUTSIDE, MsChapV2Peer(identity, password), _anchors(driver))


EACH = pytest.mark.parametrize("make", [ttls_pap, ttls_gtc, ttls_mschapv2, peap_gtc, peap_mschapv2])


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with open_runtime(tmp_path / "state", eap_methods=("ttls", "peap")) as runtime, Driver(runtime) as driver:
        yield driver


@EACH
def test_an_access_code_lets_its_device_in(driver: Driver, make: Make) -> None:
    laptop = enrol(driver.runtime)
    enrol(driver.runtime, "alice", "alice-phone", new_user=False)
    peer = make(driver, "EXAMPLE\\alice", laptop.code)
    result = driver.sign_in(peer)
    assert isinstance(result, EapAccepted)
    assert result.msk == peer.msk
    method = "eap-ttls" if isinstance(peer, TtlsPeer) else "eap-peap"
    assert (result.access.user_name, result.access.device_id, result.access.method) == ("alice", laptop.id, method)
    (event,) = driver.events("sign-in.accept")
    assert event["method"] == method
    assert event["user"] == "alice"
    assert laptop.code not in str(driver.events())


@EACH
@pytest.mark.parametrize(
    ("identity", "code"), [("alice", "wrong-credential"), ("mallory", "unknown-user"), ("bob", "no-access-code")]
)
def test_refusals_are_about_who_spoke_inside(driver: Driver, make: Make, identity: str, code: str) -> None:
    enrol(driver.runtime)
    with driver.runtime.database.transaction() as session:
        create_user(session, "bob", actor=SYSTEM)
    result = driver.sign_in(make(driver, identity, "guess"))
    assert isinstance(result, EapRejected)
    assert result.refusal.code == code
    event = driver.events("sign-in.refuse")[-1]
    assert event["code"] == code
    assert identity in str(event)
    assert OUTSIDE not in str(event)
    assert "guess" not in str(event)


@EACH
def test_an_expired_code(driver: Driver, make: Make) -> None:
    laptop = enrol(driver.runtime)
    expire_code(driver.runtime, laptop.id)
    result = driver.sign_in(make(driver, "alice", laptop.code))
    assert isinstance(result, EapRejected)
    assert result.refusal.code == "expired-access-code"


def test_wrong_passwords_close_the_door(driver: Driver) -> None:
    """By the address, whatever is said outside the tunnel."""
    laptop = enrol(driver.runtime)
    for _ in range(driver.runtime.settings.aaa.sign_in_failures_per_minute):
        driver.sign_in(ttls_pap(driver, "alice", "guess"))
    result = driver.sign_in(ttls_pap(driver, "alice", laptop.code))
    assert isinstance(result, EapRejected)
    assert result.refusal.code == "too-many-failures"


def test_a_rule_that_names_other_methods(tmp_path: Path) -> None:
    rules = (RuleSettings(name="certificates", methods=("eap-tls",)),)
    with (
        open_runtime(tmp_path / "state", rules=rules, eap_methods=("ttls",)) as runtime,
        Driver(runtime) as driver,
    ):
        laptop = enrol(driver.runtime)
        result = driver.sign_in(ttls_pap(driver, "alice", laptop.code))
        assert isinstance(result, EapRejected)
        assert driver.events("sign-in.refuse")[-1]["method"] == "eap-ttls"


class _AnotherBackend:
    """A directory that wants a second factor for one password, and can't be reached for another."""

    def open(self, identity: str, is_wanted: Callable[[], bool]) -> PasswordAttempt:
        return self

    def answer(self, text: str, *, can_ask: bool, reply: PasswordReply) -> None:
        if text == "first":
            reply(Prompt("Code: "))
        elif text == "down":
            reply(UNAVAILABLE)
        else:
            reply(Refusal("wrong-credential", "the code is not right"))


def _through(driver: Driver, peer: EapPeer) -> EapRejected:
    one = Conversation(driver, peer, context())
    assert isinstance(one.eap, EapSignIn)
    one.eap._desk = dataclasses.replace(one.eap._desk, passwords=_AnotherBackend())
    result = one.run()
    assert isinstance(result, EapRejected)
    return result


def test_a_backend_that_asks_again(driver: Driver) -> None:
    peer = GtcPeer("alice", "first", "000000")
    result = _through(driver, PeapPeer(OUTSIDE, peer, _anchors(driver)))
    assert result.refusal == Refusal("wrong-credential", "the code is not right")
    assert peer.prompts == [b"Password: ", b"Code: "]


def test_a_client_that_can_not_be_asked(driver: Driver) -> None:
    assert _through(driver, ttls_pap(driver, "alice", "first")).refusal.code == "second-factor-needed"


@pytest.mark.parametrize("make", [ttls_pap, peap_gtc])
def test_a_backend_that_is_down_lets_nobody_in(driver: Driver, make: Make) -> None:
    assert _through(driver, make(driver, "alice", "down")).refusal == UNAVAILABLE


@pytest.mark.parametrize("make", [peap_gtc, peap_mschapv2])
def test_a_client_that_leaves_when_it_hears_the_result(driver: Driver, make: Make) -> None:
    """PEAP says that it failed and waits for an answer, which many clients never give."""
    enrol(driver.runtime)
    peer = make(driver, "alice", "guess")
    assert isinstance(peer, PeapPeer)
    one = Conversation(driver, peer, context())
    while peer.result is None:
        answer = peer.receive(one.replies[-1].packet)
        assert answer is not None
        if peer.result is None:
            count = len(one.replies)
            one.eap.receive(answer, one.replies.append)
            driver.pump(lambda count=count: len(one.replies) > count)  # type: ignore[misc]
    refusal = one.eap.close()
    assert refusal == Refusal("wrong-credential", "the code is none of user alice")
