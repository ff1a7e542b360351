"""A peer comes back with a ticket: revocation beats tickets, and so does every other change that decides on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aaa import users
from aaa.interface import Access, EapAccepted, Refusal, Resumed
from core.audit import SYSTEM
from core.runtime import Runtime
from core.settings import RuleSettings
from pki.certificates import revoke_certificate
from posture import devices as inventory
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver, context
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import certify, chain_of, enrol, expire_code


@pytest.fixture
def driver(runtime: Runtime) -> Iterator[Driver]:
    with Driver(runtime) as driver:
        yield driver


def signed_in(driver: Driver, device: str = "alice-laptop") -> Resumed:
    """A sign-in by access code, as a ticket remembers it."""
    laptop = enrol(driver.runtime, "alice", device)
    result = driver.sign_in(MsChapV2Peer("alice", laptop.code))
    assert isinstance(result, EapAccepted)
    return remembered(result.access)


def remembered(access: Access) -> Resumed:
    """What a ticket keeps."""
    return Resumed(
        access.user_name,
        access.device_id,
        access.device_name,
        access.method,
        access.rule,
        access.certificate_serial,
    )


def come_back(driver: Driver, resumed: Resumed) -> Access | Refusal:
    """AAA is asked anew."""
    answers: list[Access | Refusal] = []
    driver.backend.authorise_resumption(context(), resumed, answers.append)
    driver.pump(lambda: bool(answers))
    return answers[0]


def test_it_gets_what_it_would_get_by_a_sign_in(driver: Driver) -> None:
    resumed = signed_in(driver)
    access = come_back(driver, resumed)
    assert isinstance(access, Access)
    assert remembered(access) == resumed
    assert access.session_lifetime_s == driver.runtime.settings.aaa.rules[0].session_lifetime_s
    assert access.interim_interval_s == driver.runtime.settings.aaa.interim_interval_s
    first, second = driver.events("sign-in.accept")
    assert "by_ticket" not in first
    assert second["by_ticket"] is True
    assert second["actor"] == "device:alice-laptop"


def test_a_revoked_device(driver: Driver) -> None:
    resumed = signed_in(driver)
    with driver.runtime.database.transaction() as session:
        device = inventory.get(session, resumed.device_id)
        inventory.set_state(session, device, inventory.REVOKED, "left on a train", SYSTEM)
    refusal = come_back(driver, resumed)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "revoked-device"
    event = driver.events("sign-in.refuse")[-1]
    assert (event["code"], event["actor"]) == ("revoked-device", "device:alice-laptop")


def test_a_disabled_user(driver: Driver) -> None:
    resumed = signed_in(driver)
    with driver.runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM, reason="left")
    refusal = come_back(driver, resumed)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "disabled-user"


def test_a_revoked_certificate(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)
    access = driver.certificate(chain_of(issued, authority), "alice-laptop")
    assert isinstance(access, Access)
    resumed = remembered(access)
    assert isinstance(come_back(driver, resumed), Access)
    with driver.runtime.database.transaction() as session:
        revoke_certificate(session, resumed.certificate_serial, "lost", SYSTEM)
    refusal = come_back(driver, resumed)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "revoked-certificate"


def test_an_access_code_is_for_signing_in(driver: Driver) -> None:
    """It opened the session; the session's own lifetime says when it ends."""
    resumed = signed_in(driver)
    expire_code(driver.runtime, resumed.device_id)
    assert isinstance(come_back(driver, resumed), Access)


def test_another_rule_decides_now(tmp_path: Path) -> None:
    rules = (RuleSettings(name="everybody", device_states=()),)
    with open_runtime(tmp_path / "state", rules=rules) as runtime, Driver(runtime) as driver:
        refusal = come_back(driver, replace(signed_in(driver), rule="staff"))
        assert isinstance(refusal, Refusal)
        assert refusal.code == "decision-changed"
        assert refusal.reason == "what decides on this device has changed since it signed in"


def test_a_device_that_is_gone(driver: Driver) -> None:
    resumed = replace(signed_in(driver), device_id="00000000-0000-0000-0000-000000000000")
    assert isinstance(come_back(driver, resumed), Refusal)


def test_a_device_that_is_somebody_elses_now(driver: Driver) -> None:
    resumed = replace(signed_in(driver), user_name="bob")
    refusal = come_back(driver, resumed)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "decision-changed"
