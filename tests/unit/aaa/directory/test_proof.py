"""What is decided on somebody whose password a directory took."""

from __future__ import annotations

from aaa import users
from aaa.backend.deciding import Decider, Outcome
from aaa.backend.requests import DecideSignIn, Proof
from aaa.decision import Rule
from aaa.directory import sync
from aaa.directory.proof import proof_of
from aaa.interface import Access, Refusal
from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from core.settings import RuleSettings
from tests.unit.aaa.directory.people import person
from tests.unit.aaa.driver import context
from tests.unit.aaa.people import certify, enrol

ANYWHERE = RuleSettings(name="anywhere", groups=("vpn users",), device_states=("unmanaged",))
BOTH = RuleSettings(name="both", groups=("vpn users",), methods=("certificate+eap-mschapv2",))


def decide(runtime: Runtime, *rules: RuleSettings, first: Proof | None = None) -> Access | Refusal:
    """The decision on Alice, whose password was right."""
    answers: list[Access | Refusal] = []
    proof = proof_of(person("alice"), "alice@corp.example", "eap-mschapv2")
    request = DecideSignIn(context(), proof, answers.append, lambda: True, first)
    outcome = Outcome([], [])
    with runtime.database.reading() as session:
        Decider(lambda: [Rule.from_settings(rule) for rule in rules], 60, utc_now).decide(
            session.connection(), [request], outcome
        )
    for reply in outcome.replies:
        reply()
    (answer,) = answers
    return answer


def test_a_password_names_no_device(runtime: Runtime) -> None:
    assert sync.remember(runtime, person("alice", "vpn users"), SYSTEM) is None
    access = decide(runtime, ANYWHERE)
    assert isinstance(access, Access)
    assert (access.user_name, access.device_name, access.managed) == ("alice", "corp/alice", False)
    assert access.rule == "anywhere"
    refusal = decide(runtime, RuleSettings(name="trusted"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "unknown-device"


def test_groups_and_the_state_of_the_user_count(runtime: Runtime) -> None:
    refusal = decide(runtime, ANYWHERE)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "unknown-user"
    sync.remember(runtime, person("alice", "others"), SYSTEM)
    refusal = decide(runtime, ANYWHERE)
    assert isinstance(refusal, Refusal)
    sync.remember(runtime, person("alice", "vpn users"), SYSTEM)
    assert isinstance(decide(runtime, ANYWHERE), Access)
    with runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM)
    refusal = decide(runtime, ANYWHERE)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "disabled-user"


def test_after_the_device_s_certificate(runtime: Runtime) -> None:
    sync.remember(runtime, person("alice", "vpn users"), SYSTEM)
    laptop = enrol(runtime, new_user=False)
    issued, _authority = certify(runtime, laptop.id)
    serial = f"{issued.certificate.serial_number:x}"
    device = Proof("certificate", laptop.name, laptop.id, certificate_serial=serial)
    access = decide(runtime, BOTH, first=device)
    assert isinstance(access, Access), access
    assert (access.user_name, access.device_name, access.method) == (
        "alice",
        "alice-laptop",
        "certificate+eap-mschapv2",
    )
