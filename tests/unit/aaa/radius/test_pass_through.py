"""A sign-in that a RADIUS server decides, and our own rules after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aaa import users
from aaa.backend.pass_through import FRAMED_MTU, LONGEST_EAP_BYTES, PassThrough
from aaa.eap.packet import EapType, request, response, success
from aaa.interface import EapAccepted, EapContinue, EapRejected, EapReply, FirstFactor
from aaa.radius.client import Done, Items, Verdict
from aaa.radius.constants import Attribute, Code
from core.audit import SYSTEM
from core.runtime import Runtime
from core.settings import RuleSettings
from tests.unit.aaa.driver import Driver, context
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import certify, chain_of, enrol

MSK = bytes(range(64))
CHALLENGE = Verdict(1, Code.ACCESS_CHALLENGE, request(9, EapType.TTLS, b"hello"), b"state", b"", "", None)
ACCEPT = Verdict(1, Code.ACCESS_ACCEPT, success(9), None, MSK, "alice", None)
REJECT = Verdict(1, Code.ACCESS_REJECT, b"\x04\x09\x00\x04", None, b"", "", None)
RULES = (
    RuleSettings(name="by-radius", methods=("eap-radius",), device_states=("unmanaged",), session_lifetime_s=3600.0),
    RuleSettings(name="both", methods=("certificate+eap-radius",), device_users="anyone"),
)


class Company:
    """The RADIUS servers: what they were asked, and what they answer, one after the other."""

    domains = frozenset(("example", "corp.example"))

    def __init__(self, *verdicts: Verdict | None, user_name_is_proved: bool = True) -> None:
        self.user_name_is_proved = user_name_is_proved
        self.verdicts = list(verdicts)
        self.asked: list[tuple[dict[Attribute, bytes], bytes, int | None]] = []

    def ask(self, items: Items, eap: bytes, server: int | None, done: Done) -> None:
        self.asked.append((dict(items), eap, server))
        done(self.verdicts.pop(0))

    def name_of(self, server: int) -> str:
        return f"radius-{server}"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with open_runtime(tmp_path / "state", rules=RULES) as runtime, Driver(runtime) as driver:
        with runtime.database.transaction() as session:
            users.create_user(session, "alice", groups=["staff"], actor=SYSTEM)
        yield driver


class SignIn:
    """One, from the gateway's side."""

    def __init__(self, driver: Driver, company: Company, first: FirstFactor | None = None) -> None:
        self.driver = driver
        proof = first.proof if first is not None else None
        self.eap = PassThrough(driver.backend._desk, company, context(), proof, os.urandom)  # type: ignore[arg-type]
        self.replies: list[EapReply] = []
        self.eap.start(self.replies.append)

    def answer(self, eap_type: int, data: bytes, identifier: int | None = None) -> EapReply:
        """The peer answers the last request."""
        count, last = len(self.replies), self.replies[-1].packet
        self.eap.receive(response(last[1] if identifier is None else identifier, eap_type, data), self.replies.append)
        self.driver.pump(lambda: len(self.replies) > count)
        return self.replies[-1]

    def identify(self, name: str = "EXAMPLE\\Alice") -> EapReply:
        """The first answer."""
        return self.answer(EapType.IDENTITY, name.encode())


def refusal(reply: EapReply) -> str:
    """Why."""
    assert isinstance(reply, EapRejected)
    assert reply.packet[0] == 4
    return reply.refusal.code


class TestConversation:
    def test_the_packets_are_carried(self, driver: Driver) -> None:
        company = Company(CHALLENGE, ACCEPT)
        sign_in = SignIn(driver, company)
        assert sign_in.identify() == EapContinue(CHALLENGE.eap)
        done = sign_in.answer(EapType.TTLS, b"there")
        assert isinstance(done, EapAccepted)
        assert (done.packet, done.msk) == (ACCEPT.eap, MSK)
        first, second = company.asked
        assert first[0][Attribute.USER_NAME] == b"EXAMPLE\\Alice"
        assert first[0][Attribute.CALLING_STATION_ID] == b"192.0.2.7"
        assert first[0][Attribute.NAS_IDENTIFIER] == b"gateway-1"
        assert first[0][Attribute.FRAMED_MTU] == FRAMED_MTU.to_bytes(4, "big")
        assert (first[2], Attribute.STATE in first[0]) == (None, False)
        # To the same server, with its State.
        assert (second[0][Attribute.STATE], second[2]) == (b"state", 1)
        assert second[1][4:] == bytes((EapType.TTLS,)) + b"there"

    def test_an_identity_that_somebody_else_asked_for(self, driver: Driver) -> None:
        """As it comes by RADIUS: this gateway's own server passes through as well."""
        company, replies = Company(ACCEPT), list[EapReply]()
        eap = PassThrough(driver.backend._desk, company, context(), None, os.urandom)
        eap.begin(response(77, EapType.IDENTITY, b"alice"), replies.append)
        driver.pump(lambda: bool(replies))
        assert isinstance(replies[0], EapAccepted)
        assert company.asked[0][1] == response(77, EapType.IDENTITY, b"alice")

    def test_a_conversation_that_was_closed_hears_nothing_more(self, driver: Driver) -> None:
        sign_in = SignIn(driver, Company(ACCEPT))
        sign_in.eap.receive(
            response(sign_in.replies[0].packet[1], EapType.IDENTITY, b"alice"), sign_in.replies.append
        )
        assert sign_in.eap.close() is None
        driver.run_posted()
        assert len(sign_in.replies) == 1
        assert driver.events("sign-in.accept") == []

    def test_our_rules_decide_as_well(self, driver: Driver) -> None:
        sign_in = SignIn(driver, Company(ACCEPT))
        done = sign_in.identify()
        assert isinstance(done, EapAccepted)
        access = done.access
        assert (access.user_name, access.method, access.rule) == ("alice", "eap-radius", "by-radius")
        assert (access.device_name, access.managed) == ("radius/alice", False)
        [event] = driver.events("sign-in.accept")
        assert (event["rule"], event["radius_server"]) == ("by-radius", "radius-1")
        _, problem = driver.start_session(access)
        assert problem is None

    def test_the_name_that_the_server_says_counts(self, driver: Driver) -> None:
        """The identity may be an anonymous one."""
        done = SignIn(driver, Company(replace(ACCEPT, user_name="alice@corp.example"))).identify("anonymous")
        assert isinstance(done, EapAccepted)
        assert done.access.user_name == "alice"

    @pytest.mark.parametrize(
        ("methods", "is_proved"),
        [
            ([EapType.MSCHAPV2], True),
            ([EapType.NOTIFICATION, EapType.MSCHAPV2, EapType.MSCHAPV2], True),
            ([EapType.TTLS], False),
            ([EapType.PEAP], False),
            ([EapType.TLS], False),
            ([EapType.GTC], False),
            ([EapType.MSCHAPV2, EapType.TTLS], False),
            ([EapType.NOTIFICATION], False),
            ([], False),
        ],
    )
    @pytest.mark.parametrize(
        ("said", "reliable", "problem"),
        [("", True, "did not say whom"), ("alice", False, "that proves no name"), ("", False, "that proves no name")],
    )
    def test_a_name_that_nobody_proved(
        self, driver: Driver, methods: list[EapType], is_proved: bool, said: str, reliable: bool, problem: str
    ) -> None:
        """Mallory has a password of his own, and calls himself alice outside; the server repeats that."""
        challenges = [replace(CHALLENGE, eap=request(9, method, b"x")) for method in methods]
        verdicts = *challenges, replace(ACCEPT, user_name=said)
        sign_in = SignIn(driver, Company(*verdicts, user_name_is_proved=reliable))
        reply = sign_in.identify("alice")
        for method in methods:
            assert isinstance(reply, EapContinue)
            reply = sign_in.answer(method, b"y")
        assert isinstance(reply, EapAccepted if is_proved else EapRejected)
        if isinstance(reply, EapRejected):
            assert (reply.refusal.code, problem in reply.refusal.reason) == ("radius-refused", True)

    @pytest.mark.parametrize(("said", "given"), [(900, 900.0), (86_400, 3600.0), (None, 3600.0), (0, 3600.0)])
    def test_the_shorter_time_counts(self, driver: Driver, said: int | None, given: float) -> None:
        done = SignIn(driver, Company(replace(ACCEPT, session_timeout_s=said))).identify()
        assert isinstance(done, EapAccepted)
        assert done.access.session_lifetime_s == given

    def test_a_device_that_proved_itself_before(self, driver: Driver) -> None:
        laptop = enrol(driver.runtime, "bob", "bob-laptop")
        issued, authority = certify(driver.runtime, laptop.id)
        answers: list[object] = []
        circumstances = context(ike_identity="bob-laptop.devices.ostiary.internal")
        driver.backend.check_device(circumstances, chain_of(issued, authority), answers.append)
        driver.pump(lambda: bool(answers))
        [first] = answers
        assert isinstance(first, FirstFactor)
        done = SignIn(driver, Company(ACCEPT), first).identify()
        assert isinstance(done, EapAccepted)
        access = done.access
        assert (access.user_name, access.device_name, access.managed) == ("alice", "bob-laptop", True)
        assert (access.method, access.rule) == ("certificate+eap-radius", "both")


class TestRefused:
    def test_what_no_server_would_answer_goes_to_none(self, driver: Driver) -> None:
        """They would count as down, and everybody would wait for them."""
        company = Company(CHALLENGE)
        sign_in = SignIn(driver, company)
        sign_in.identify()
        refused = sign_in.answer(EapType.TTLS, bytes(LONGEST_EAP_BYTES))
        assert isinstance(refused, EapRejected)
        assert (refused.refusal.code, len(company.asked)) == ("protocol-error", 1)

    @pytest.mark.parametrize(
        ("verdict", "code"),
        [
            (REJECT, "radius-refused"),
            (None, "radius-unavailable"),
            (replace(ACCEPT, msk=b""), "radius-refused"),
            (replace(ACCEPT, eap=b"\x04\x09\x00\x04"), "radius-refused"),
            (replace(ACCEPT, eap=b""), "radius-refused"),
            (replace(REJECT, eap=success(9), msk=MSK), "radius-refused"),
            (replace(CHALLENGE, eap=success(9)), "radius-refused"),
            (replace(CHALLENGE, eap=b"\x01\x01"), "radius-refused"),
            (replace(ACCEPT, user_name="mallory"), "unknown-user"),
            # A namesake whom a partner's server vouches for.
            (replace(ACCEPT, user_name="alice@partner.example"), "unknown-user"),
            (replace(ACCEPT, user_name="PARTNER\\alice"), "unknown-user"),
            (replace(ACCEPT, user_name="partner\\alice@corp.example"), "unknown-user"),
            (replace(ACCEPT, user_name="\x00"), "unknown-user"),
        ],
    )
    def test_by_server_or_rules(self, driver: Driver, verdict: Verdict | None, code: str) -> None:
        assert refusal(SignIn(driver, Company(verdict)).identify()) == code
        [event] = driver.events("sign-in.refuse")
        assert (event["code"], event["method"]) == (code, "eap-radius")
        assert driver.events("sign-in.accept") == []

    def test_a_disabled_user(self, driver: Driver) -> None:
        with driver.runtime.database.transaction() as session:
            users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM, reason="left")
        assert refusal(SignIn(driver, Company(ACCEPT)).identify()) == "disabled-user"

    def test_no_rule_that_names_such_devices(self, runtime: Runtime) -> None:
        with Driver(runtime) as driver:
            with runtime.database.transaction() as session:
                users.create_user(session, "alice", groups=[], actor=SYSTEM)
            assert refusal(SignIn(driver, Company(ACCEPT)).identify()) == "unknown-device"

    def test_what_is_no_answer_goes_to_no_server(self, driver: Driver) -> None:
        company = Company(CHALLENGE)
        sign_in = SignIn(driver, company)
        assert refusal(sign_in.answer(EapType.TTLS, b"")) == "protocol-error"
        other = SignIn(driver, company)
        other.identify()
        assert refusal(other.answer(EapType.TTLS, b"", identifier=10)) == "protocol-error"
        assert len(company.asked) == 1

    def test_guessing_ends_soon(self, driver: Driver) -> None:
        for _ in range(10):
            assert refusal(SignIn(driver, Company(REJECT)).identify()) == "radius-refused"
        blocked = SignIn(driver, Company())
        driver.pump(lambda: bool(blocked.replies))
        assert refusal(blocked.replies[0]) == "too-many-failures"

    def test_an_outage_blocks_nobody(self, driver: Driver) -> None:
        for _ in range(20):
            assert refusal(SignIn(driver, Company(None)).identify()) == "radius-unavailable"
        assert isinstance(SignIn(driver, Company(ACCEPT)).identify(), EapAccepted)
