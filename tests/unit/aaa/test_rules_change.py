"""The rules change while sessions are up, with gateways in memory in place of the network."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from aaa import enforcement, rules_change
from aaa.dynamic_authorization import Answer, Change, Peer, Selector
from aaa.interface import EapAccepted, EapRejected
from core import jobs
from core.outbox import OutboxItem
from core.runtime import Runtime
from core.settings.live_rules import LiveRules
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import enrol

ALL = '[[rules]]\nname = "all"\n'


class Installation:
    """A gateway whose rules are in a file, and what it is told of sessions."""

    def __init__(self, driver: Driver, rules_file: Path) -> None:
        self.driver = driver
        self.rules_file = rules_file
        self.told: list[tuple[str | None, Change | None]] = []
        self.woken: list[int] = []

    def write(self, text: str) -> None:
        """Written, and looked at anew until it counts: seconds have passed."""
        self.rules_file.write_text(text)
        seconds = count()
        live = LiveRules(self.driver.runtime.settings, clock=lambda: float(next(seconds)))
        object.__setattr__(self.driver.runtime, "rules", live)
        for _ in range(4):
            live.current()

    def apply(self) -> None:
        """What a worker does now and then, and with what comes of it."""
        rules_change.apply(self.driver.runtime, {})
        self.deliver()

    def deliver(self) -> None:
        """What waits for a worker."""
        handlers = jobs.load_handlers()
        for outbox_id in self.woken:
            jobs.deliver_item(self.driver.runtime, handlers, outbox_id)
        self.woken.clear()

    def ask(self, peer: Peer, selector: Selector, change: Change | None) -> Answer:
        assert peer.name == "gateway-1"
        self.told.append((selector.session_id, change))
        return Answer(True, None, "")

    def connect(self, name: str) -> str:
        """Returns the session's id."""
        laptop = enrol(self.driver.runtime, owner=name, name=f"{name}-laptop")
        accepted = self.driver.sign_in(MsChapV2Peer(name, laptop.code))
        assert isinstance(accepted, EapAccepted)
        session_id, refusal = self.driver.start_session(accepted.access)
        assert refusal is None
        return session_id

    def changes(self) -> list[dict[str, Any]]:
        return self.driver.events(rules_change.CHANGED)


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    rules_file = tmp_path / "rules.toml"
    rules_file.write_text(ALL)
    with open_runtime(tmp_path / "state", rules_file=rules_file) as runtime, Driver(runtime) as driver:
        made = Installation(driver, rules_file)
        monkeypatch.setattr(enforcement, "ask", made.ask)
        monkeypatch.setattr(jobs, "wake", lambda _settings, outbox_id: made.woken.append(outbox_id))
        made.apply()
        yield made


def waiting(runtime: Runtime) -> int:
    with runtime.database.reading() as session:
        return len(session.scalars(select(OutboxItem).where(OutboxItem.done_at.is_(None))).all())


def test_at_the_beginning_the_rules_are_noted_and_nobody_is_told(installation: Installation) -> None:
    (event,) = installation.changes()
    assert (event["actor"], event["target"]) == ("system:worker", "policy:rules")
    assert event["reason"] == "the rules at the beginning"
    assert list(event["rules"]) == ["all"]
    installation.connect("alice")
    installation.apply()
    assert (len(installation.changes()), installation.told) == (1, [])


def test_sessions_get_what_the_new_rules_give(installation: Installation) -> None:
    alice, bob = installation.connect("alice"), installation.connect("bob")
    installation.write('[[rules]]\nname = "a"\nusers = ["alice"]\nnetworks = ["10.9.0.0/24"]\n')
    installation.apply()
    told = dict(installation.told)
    assert told[bob] is None
    change = told[alice]
    assert change is not None
    assert (change.rule, change.networks) == ("a", (ip_network("10.9.0.0/24"),))
    assert change.reason == "the access rules have changed"
    assert installation.changes()[-1]["reason"] == "new: 'a'; gone: 'all'"
    # And that was all, but for those whom a gateway has let in by the old rules meanwhile.
    assert waiting(installation.driver.runtime) == 1
    installation.told.clear()
    installation.apply()
    assert installation.told == []
    rules_change.tell_again(installation.driver.runtime, {})
    installation.deliver()
    assert set(dict(installation.told)) == {alice, bob}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ALL + "session_lifetime_s = 60.0\n", "changed: 'all'"),
        ('[[rules]]\nname = "first"\nusers = ["alice"]\n' + ALL, "new: 'first'"),
    ],
)
def test_what_has_changed_is_said(installation: Installation, text: str, reason: str) -> None:
    installation.write(text)
    installation.apply()
    assert installation.changes()[-1]["reason"] == reason


def test_another_order_is_a_change(installation: Installation) -> None:
    first = '[[rules]]\nname = "first"\nusers = ["alice"]\n'
    installation.write(first + ALL)
    installation.apply()
    installation.write(ALL + first)
    installation.apply()
    assert installation.changes()[-1]["reason"] == "another order"


def test_what_is_not_valid_changes_nothing(installation: Installation) -> None:
    installation.connect("alice")
    installation.write("[[rules]\n")
    installation.apply()
    assert (len(installation.changes()), installation.told) == (1, [])


def test_the_next_sign_in_is_decided_by_the_new_rules(installation: Installation) -> None:
    laptop = enrol(installation.driver.runtime)
    installation.write('[[rules]]\nname = "closed"\neffect = "deny"\nreason = "closed for repair"\n')
    installation.driver.backend.goodbye()
    with Driver(installation.driver.runtime) as driver:
        refused = driver.sign_in(MsChapV2Peer("alice", laptop.code))
    assert isinstance(refused, EapRejected)
    assert (refused.refusal.code, refused.refusal.reason) == ("denied-by-rule", "closed for repair")


def test_a_sign_in_is_refused_from_elsewhere(installation: Installation) -> None:
    laptop = enrol(installation.driver.runtime)
    installation.write('[[rules]]\nname = "office"\nfrom_networks = ["203.0.113.0/24", "2001:db8::/32"]\n')
    installation.driver.backend.goodbye()
    with Driver(installation.driver.runtime) as driver:
        for address, kind in (("203.0.113.7", EapAccepted), ("2001:db8::7", EapAccepted), ("192.0.2.7", EapRejected)):
            assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code), remote_address=address), kind)
