"""How many devices a user may have connected, through the whole backend, and what the workers are asked for then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from aaa.interface import Access, EapAccepted, TerminateCause
from aaa.models import User
from core import outbox
from core.outbox import OutboxItem
from core.settings import RuleSettings
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver, usage
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import enrol

Start = Callable[..., Driver]
"""An installation with these rules, and its backend."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda *rules: stack.enter_context(
            Driver(stack.enter_context(open_runtime(tmp_path / "state", rules=rules)))
        )


def access_of(driver: Driver, device: str, user: str = "alice") -> Access:
    """A device that has signed in."""
    with driver.runtime.database.reading() as session:
        new_user = session.get(User, user) is None
    result = driver.sign_in(MsChapV2Peer(user, enrol(driver.runtime, user, device, new_user=new_user).code))
    assert isinstance(result, EapAccepted)
    return result.access


def connect(driver: Driver, access: Access) -> str:
    """Its session's id."""
    session_id, refusal = driver.start_session(access)
    assert refusal is None
    return session_id


def to_be_ended(driver: Driver) -> list[str]:
    """The sessions that the gateways are to be told to end, in order."""
    with driver.runtime.database.reading() as session:
        items = session.scalars(select(OutboxItem).order_by(OutboxItem.id)).all()
        assert outbox.due_ids(session) == [item.id for item in items]
        assert {item.payload["gateway"] for item in items} <= {"gateway-1"}
        return [item.payload["session_id"] for item in items]


def test_the_device_that_connected_first_makes_room(start: Start) -> None:
    driver = start(RuleSettings(name="two", devices_at_once=2))
    laptop, phone, tablet = (access_of(driver, name) for name in ("laptop", "phone", "tablet"))
    first = connect(driver, laptop)
    connect(driver, phone)
    assert to_be_ended(driver) == []
    connect(driver, tablet)
    assert to_be_ended(driver) == [first]
    (event,) = driver.events("session.disconnect")
    assert event["target"] == f"session:{first}"
    assert event["reason"] == "alice may have 2 devices connected at once, and another one connected"
    assert (event["actor"], event["device"], event["user"]) == ("system:ostiary", "laptop", "alice")
    # A worker was told at once, and need not be found by its sweep.
    assert list((driver.runtime.settings.state_dir / "queue").rglob("*.msg"))


def test_two_tunnels_of_one_device_count_once(start: Start) -> None:
    driver = start(RuleSettings(name="one", devices_at_once=1))
    phone = access_of(driver, "phone")
    wifi, mobile = connect(driver, phone), connect(driver, phone)
    assert to_be_ended(driver) == []
    connect(driver, access_of(driver, "laptop"))
    assert to_be_ended(driver) == [wifi, mobile]


def test_whoever_connected_anew_is_the_newest(start: Start) -> None:
    driver = start(RuleSettings(name="two", devices_at_once=2))
    laptop, phone = access_of(driver, "laptop"), access_of(driver, "phone")
    connect(driver, laptop)
    second = connect(driver, phone)
    connect(driver, laptop)
    connect(driver, access_of(driver, "tablet"))
    assert to_be_ended(driver) == [second]


def test_a_session_that_is_over_does_not_count(start: Start) -> None:
    driver = start(RuleSettings(name="one", devices_at_once=1))
    first = connect(driver, access_of(driver, "laptop"))
    driver.backend.session_ended(usage(first, 1), TerminateCause.USER_REQUEST)
    connect(driver, access_of(driver, "phone"))
    assert to_be_ended(driver) == []


def test_users_do_not_count_for_one_another(start: Start) -> None:
    driver = start(RuleSettings(name="one", devices_at_once=1))
    connect(driver, access_of(driver, "laptop"))
    connect(driver, access_of(driver, "bobs-laptop", "bob"))
    assert to_be_ended(driver) == []


def test_without_a_limit_there_is_none(start: Start) -> None:
    driver = start(RuleSettings(name="all"))
    for number in range(12):
        connect(driver, access_of(driver, f"device-{number}"))
    assert to_be_ended(driver) == []


def test_the_directory_limits_where_the_rule_says_nothing(tmp_path: Path) -> None:
    with open_runtime(tmp_path / "state") as runtime:
        rules = (RuleSettings(name="it", users=("bob",), devices_at_once=2), RuleSettings(name="all"))
        aaa = runtime.settings.aaa.model_copy(update={"devices_at_once": 1, "rules": rules})
        settings = runtime.settings.model_copy(update={"aaa": aaa})
        with Driver(replace(runtime, settings=settings)) as driver:
            first = connect(driver, access_of(driver, "laptop"))
            connect(driver, access_of(driver, "phone"))
            connect(driver, access_of(driver, "bobs-laptop", "bob"))
            connect(driver, access_of(driver, "bobs-phone", "bob"))
            assert to_be_ended(driver) == [first]
