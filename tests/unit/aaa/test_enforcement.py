"""Revocation and disconnection, with gateways in memory in place of the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from sqlalchemy import select

from aaa import enforcement, users
from aaa.accounting import gateway_started
from aaa.dynamic_authorization import Answer, Change, NoAnswer, Peer, Selector
from aaa.enforcement import NotDisconnected, deliver, disable_user, disconnect_session, revoke_device
from aaa.interface import Access, EapAccepted, GatewayHello
from aaa.tasks import HANDLERS
from core import jobs, outbox
from core.audit import Actor, AuditEvent, verify_chain
from core.errors import ConflictError, NotFoundError
from core.outbox import OutboxItem
from core.runtime import Runtime
from core.settings import RuleSettings
from pki.certificates import list_certificates
from posture import devices as inventory
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver
from tests.unit.aaa.people import certify, enrol

ALICE = Actor("user", "security-officer")


@dataclass
class Network:
    """The gateways, by name, and what they were told."""

    answers: dict[str, Answer | None] = field(default_factory=dict)
    told: list[tuple[str, Selector]] = field(default_factory=list)
    woken: list[int] = field(default_factory=list)
    together: threading.Barrier | None = None

    changes: list[tuple[str | None, Change | None]] = field(default_factory=list)
    """What each session named by its id was to become, None for its end."""

    def ask(self, peer: Peer, selector: Selector, change: Change | None) -> Answer:
        self.told.append((peer.name, selector))
        if selector.session_id is not None:
            self.changes.append((selector.session_id, change))
        if self.together is not None:
            self.together.wait(10)
        answer = self.answers[peer.name]
        if answer is None:
            raise NoAnswer(f"gateway {peer.name}: no answer")
        return answer


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(enforcement, "ask", network.ask)
    monkeypatch.setattr(jobs, "wake", lambda _settings, outbox_id: network.woken.append(outbox_id))
    return network


@pytest.fixture
def driver(runtime: Runtime, network: Network) -> Iterator[Driver]:
    with Driver(runtime) as driver:
        network.answers["gateway-1"] = Answer(True, None, "1 ended")
        yield driver


def _another_gateway(driver: Driver, network: Network, name: str, answer: Answer | None) -> None:
    with driver.runtime.database.transaction() as session:
        gateway_started(session, GatewayHello(name, "192.0.2.2", 3799, "kernel"))
    network.answers[name] = answer


def _items(runtime: Runtime) -> list[dict[str, Any]]:
    with runtime.database.reading() as session:
        return [
            {"id": item.id, "done": item.done_at is not None, "error": item.last_error, **item.payload}
            for item in session.scalars(select(OutboxItem).order_by(OutboxItem.id))
        ]


def _last_events(runtime: Runtime, count: int) -> list[AuditEvent]:
    with runtime.database.reading() as session:
        verify_chain(session)
        found = list(session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(count)))
        session.expunge_all()
        return found[::-1]


def test_a_revoked_device_is_out_everywhere(driver: Driver, network: Network) -> None:
    laptop = enrol(driver.runtime)
    certify(driver.runtime, laptop.id)
    certify(driver.runtime, laptop.id)
    _another_gateway(driver, network, "gateway-2", Answer(False, 503, ""))
    network.together = threading.Barrier(2)  # breaks unless both are told at the same time
    result = revoke_device(driver.runtime, laptop.id, "left on a train", ALICE)
    assert (result.device_name, result.certificates_revoked) == ("alice-laptop", 2)
    assert [(a.gateway, a.acknowledged, a.sessions_ended, a.detail) for a in result.answers] == [
        ("gateway-1", True, "1 ended", "acknowledged"),
        ("gateway-2", True, "", "no such session there"),
    ]
    assert all(0 <= answer.elapsed_ms <= result.elapsed_ms for answer in result.answers)
    assert sorted(network.told, key=str) == [
        ("gateway-1", Selector(device_id=laptop.id)),
        ("gateway-2", Selector(device_id=laptop.id)),
    ]
    with driver.runtime.database.reading() as session:
        device = inventory.get(session, laptop.id)
        assert (device.state, device.state_reason) == ("revoked", "left on a train")
        revoked = list_certificates(session, device_id=laptop.id)
        assert [row.revoked_at is not None for row in revoked] == [True, True]
    *certificates, event = _last_events(driver.runtime, 3)
    assert [found.action for found in certificates] == ["certificate.revoke", "certificate.revoke"]
    assert (event.action, event.actor, event.reason) == ("device.revoke", "user:security-officer", "left on a train")
    assert event.detail["certificates_revoked"] == 2
    assert [item["done"] for item in _items(driver.runtime)] == [True, True]
    assert network.woken == []


def test_without_a_gateway_there_is_nobody_to_tell(runtime: Runtime, network: Network) -> None:
    laptop = enrol(runtime)
    result = revoke_device(runtime, laptop.id, "lost", ALICE)
    assert (result.answers, network.told) == ([], [])


@pytest.mark.parametrize("answer", [None, Answer(False, 403, "not me"), Answer(False, None, "")])
def test_who_does_not_confirm_is_asked_again_until_it_has(
    driver: Driver, network: Network, answer: Answer | None
) -> None:
    laptop = enrol(driver.runtime)
    _another_gateway(driver, network, "gateway-2", answer)
    result = revoke_device(driver.runtime, laptop.id, "lost", ALICE)
    assert {a.gateway: a.acknowledged for a in result.answers} == {"gateway-1": True, "gateway-2": False}
    (item,) = [item for item in _items(driver.runtime) if not item["done"]]
    assert (item["gateway"], item["device_id"]) == ("gateway-2", laptop.id)
    assert item["error"]
    assert network.woken == [item["id"]], "a worker is woken for it"

    # The worker's part, which a sweep repeats; the gateway is still away, then back.
    assert not jobs.deliver_item(driver.runtime, HANDLERS, item["id"])
    network.answers["gateway-2"] = Answer(True, None, "1 ended")
    with driver.runtime.database.transaction() as session:
        assert outbox.due_ids(session) == [], "not before its time"
        row = session.get(OutboxItem, item["id"])
        assert row is not None
        assert row.attempts == 2
        row.due_at = row.created_at
    assert jobs.sweep_due(driver.runtime) == [item["id"]]
    assert jobs.deliver_item(driver.runtime, HANDLERS, item["id"])
    assert all(item["done"] for item in _items(driver.runtime))


def test_revoking_twice_tells_again(driver: Driver, network: Network) -> None:
    laptop = enrol(driver.runtime)
    first = revoke_device(driver.runtime, laptop.id, "lost", ALICE)
    second = revoke_device(driver.runtime, laptop.id, "sure", ALICE)
    assert (first.certificates_revoked, second.certificates_revoked) == (0, 0)
    assert len(network.told) == 2
    assert [event.action for event in _last_events(driver.runtime, 2)] == ["device.revoke", "device.disconnect"]
    with driver.runtime.database.reading() as session:
        assert inventory.get(session, laptop.id).state_reason == "lost"


def test_nothing_is_told_of_what_did_not_happen(driver: Driver, network: Network) -> None:
    with pytest.raises(NotFoundError):
        revoke_device(driver.runtime, "11111111-2222-4333-8444-555555555555", "lost", ALICE)
    with pytest.raises(NotFoundError):
        disconnect_session(driver.runtime, "1", "bye", ALICE)
    with pytest.raises(NotFoundError):
        disable_user(driver.runtime, "nobody", "left", ALICE)
    assert (network.told, _items(driver.runtime)) == ([], [])


def _session(driver: Driver, owner: str = "alice", name: str = "alice-laptop") -> tuple[str, str]:
    laptop = enrol(driver.runtime, owner, name)
    accepted = driver.sign_in(MsChapV2Peer(owner, laptop.code))
    assert isinstance(accepted, EapAccepted)
    return laptop.id, driver.start_session(accepted.access)[0]


def test_one_session_is_ended_on_its_gateway_only(driver: Driver, network: Network) -> None:
    _another_gateway(driver, network, "gateway-2", None)
    _, session_id = _session(driver)
    result = disconnect_session(driver.runtime, session_id, "maintenance", ALICE)
    assert (result.device_name, result.certificates_revoked) == ("alice-laptop", 0)
    assert network.told == [("gateway-1", Selector(session_id=session_id))]
    (event,) = _last_events(driver.runtime, 1)
    assert (event.action, event.target, event.reason) == (
        "session.disconnect",
        f"session:{session_id}",
        "maintenance",
    )
    driver.backend.goodbye()
    with pytest.raises(ConflictError, match="has ended already"):
        disconnect_session(driver.runtime, session_id, "maintenance", ALICE)


def test_a_disabled_user_loses_all_sessions_and_keeps_the_devices(driver: Driver, network: Network) -> None:
    _another_gateway(driver, network, "gateway-2", None)
    laptop, _ = _session(driver)
    phone = enrol(driver.runtime, "alice", "alice-phone", new_user=False)
    enrol(driver.runtime, "bob", "bob-laptop")
    results = disable_user(driver.runtime, "Alice", "left the company", ALICE)
    told = {(name, selector.device_id) for name, selector in network.told}
    assert told == {(name, device) for name in ("gateway-1", "gateway-2") for device in (laptop, phone.id)}
    assert {result.device_name: [a.acknowledged for a in result.answers] for result in results} == {
        "alice-laptop": [True, False],
        "alice-phone": [True, False],
    }
    with driver.runtime.database.reading() as session:
        assert users.get_user(session, "alice").disabled
        assert inventory.get(session, laptop).state == "trusted"
    assert _last_events(driver.runtime, 1)[0].action == "user.disable"


def test_a_late_request_does_not_hit_who_came_back_rightfully(driver: Driver, network: Network) -> None:
    network.answers["gateway-1"] = None
    laptop, session_id = _session(driver)
    disable_user(driver.runtime, "alice", "by mistake", ALICE)
    disconnect_session(driver.runtime, session_id, "maintenance", ALICE)
    keys = ("gateway", "device_id", "session_id")
    payloads = [{key: item[key] for key in keys if key in item} for item in _items(driver.runtime)]
    assert payloads == [
        {"gateway": "gateway-1", "device_id": laptop},
        {"gateway": "gateway-1", "session_id": session_id},
    ]
    for payload in payloads:
        with pytest.raises(NotDisconnected):
            deliver(driver.runtime, payload)
    with driver.runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), False, ALICE)
    driver.backend.goodbye()  # the session is over
    network.told.clear()
    for payload in payloads:
        deliver(driver.runtime, payload)
    deliver(driver.runtime, {"gateway": "dismantled", "device_id": laptop})
    assert network.told == []


def test_the_workers_know_the_handlers() -> None:
    handlers = jobs.load_handlers()
    assert handlers[enforcement.DISCONNECT] is deliver
    assert handlers[enforcement.CHANGE] is enforcement.deliver_change


QUARANTINE = RuleSettings(
    name="quarantine", device_states=("quarantined",), networks=(IPv4Network("10.1.0.80/32"),), session_lifetime_s=600
)
STAFF = RuleSettings(name="staff")


class TestChangedState:
    access: Access
    """What the laptop was given when it signed in."""

    def started(self, driver: Driver, *rules: RuleSettings) -> tuple[Runtime, str, str]:
        """A laptop that is up, under rules that hold from now on."""
        laptop = enrol(driver.runtime)
        accepted = driver.sign_in(MsChapV2Peer("alice", laptop.code))
        assert isinstance(accepted, EapAccepted)
        self.access = accepted.access
        session_id, _ = driver.start_session(accepted.access)
        aaa = driver.runtime.settings.aaa.model_copy(update={"rules": rules})
        settings = driver.runtime.settings.model_copy(update={"aaa": aaa})
        return replace(driver.runtime, settings=settings), laptop.id, session_id

    def test_each_session_gets_what_the_rules_give_it_now(self, driver: Driver, network: Network) -> None:
        runtime, device_id, session_id = self.started(driver, QUARANTINE, STAFF)
        result = enforcement.change_device_state(runtime, device_id, "quarantined", "disk encryption is off", ALICE)
        assert [answer.acknowledged for answer in result.answers] == [True]
        ((told, change),) = network.changes
        assert (told, change is not None) == (session_id, True)
        assert change is not None
        assert (change.rule, change.networks, change.reason) == (
            "quarantine",
            QUARANTINE.networks,
            "disk encryption is off",
        )
        assert 590 <= change.session_timeout_s <= 600
        enforcement.change_device_state(runtime, device_id, "trusted", "encrypted again", ALICE)
        change = network.changes[1][1]
        assert change is not None
        assert (change.rule, change.networks) == ("staff", ())
        reasons = [item["reason"] for item in _items(driver.runtime) if "reason" in item]
        assert reasons == ["disk encryption is off", "encrypted again"]

    def test_a_session_that_no_rule_allows_any_more_ends(self, driver: Driver, network: Network) -> None:
        runtime, device_id, session_id = self.started(driver, STAFF)
        enforcement.change_device_state(runtime, device_id, "quarantined", "rooted", ALICE)
        assert network.changes == [(session_id, None)]

    def test_a_gateway_that_does_not_answer_is_told_again_what_holds_by_then(
        self, driver: Driver, network: Network
    ) -> None:
        runtime, device_id, session_id = self.started(driver, QUARANTINE, STAFF)
        network.answers["gateway-1"] = None
        result = enforcement.change_device_state(runtime, device_id, "quarantined", "rooted", ALICE)
        assert [answer.acknowledged for answer in result.answers] == [False]
        assert len(network.woken) == 1
        payload = {"gateway": "gateway-1", "session_id": session_id, "reason": "rooted"}
        with pytest.raises(NotDisconnected):
            enforcement.deliver_change(runtime, payload)
        network.answers["gateway-1"] = Answer(True, None, "1 changed")
        with runtime.database.transaction() as session:
            inventory.set_state(session, inventory.get(session, device_id), "trusted", "", ALICE)
        enforcement.deliver_change(runtime, payload)
        change = network.changes[-1][1]
        assert change is not None
        assert change.rule == "staff"

    def test_nobody_is_told_of_a_session_that_is_over(self, driver: Driver, network: Network) -> None:
        runtime, device_id, session_id = self.started(driver, QUARANTINE, STAFF)
        driver.backend.goodbye()
        enforcement.change_device_state(runtime, device_id, "quarantined", "rooted", ALICE)
        enforcement.deliver_change(runtime, {"gateway": "gateway-1", "session_id": session_id, "reason": "rooted"})
        assert network.changes == []

    def test_a_revoked_device_stays_revoked(self, driver: Driver, network: Network) -> None:
        runtime, device_id, _ = self.started(driver, STAFF)
        enforcement.revoke_device(runtime, device_id, "stolen", ALICE)
        with pytest.raises(ConflictError):
            enforcement.change_device_state(runtime, device_id, "trusted", "found", ALICE)

    def test_no_session_begins_unseen_while_its_device_goes_into_quarantine(
        self, driver: Driver, network: Network
    ) -> None:
        """Each session that starts meanwhile is told of it, or is not let in: none keeps what it was given before."""
        runtime, device_id, first = self.started(driver, QUARANTINE, STAFF)
        access = self.access
        officer = threading.Thread(
            target=enforcement.change_device_state,
            args=(runtime, device_id, "quarantined", "disk encryption is off", ALICE),
        )
        begun = {first}
        for count in range(10_000):
            if count == 5:
                officer.start()
            session_id, refusal = driver.start_session(access)
            if refusal is not None:
                assert refusal.code in ("decision-changed", "quarantined-device")
                break
            begun.add(session_id)
        officer.join(20)
        assert driver.start_session(access)[1] is not None
        assert {session_id for session_id, _ in network.changes} == begun
