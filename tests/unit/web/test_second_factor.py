"""What ends sessions or gives rights asks for a code of the last five minutes."""

from __future__ import annotations

import pytest
from flask import Flask

from aaa import devices, users
from core.audit import SYSTEM, recent_events
from core.runtime import Runtime
from posture.models import Device
from tests.unit.web.visitor import Person, Visitor


@pytest.fixture
def device(runtime: Runtime) -> Device:
    """Somebody's laptop."""
    with runtime.database.transaction() as session:
        users.create_user(session, "ines", actor=SYSTEM)
    return devices.add_device(runtime, "ines", "ines-laptop", "Linux", SYSTEM).device


def _state(runtime: Runtime, device: Device) -> str:
    with runtime.database.reading() as session:
        return session.get_one(Device, device.id).state


def test_a_fresh_one_is_not_asked_again(administrator: Visitor, runtime: Runtime, device: Device) -> None:
    """Within five minutes of the sign-in."""
    page = administrator.get(f"/devices/{device.id}/revoke").text
    assert 'name="code"' not in page
    administrator.post(f"/devices/{device.id}/revoke", {"cause": "Other"})
    assert _state(runtime, device) == "revoked"


def test_a_stale_one_is(administrator: Visitor, runtime: Runtime, maria: Person, device: Device) -> None:
    """In the same form; without the code, or with a wrong one, nothing happens."""
    maria.grow_stale()
    path = f"/devices/{device.id}/revoke"
    assert 'name="code"' in administrator.get(path).text
    without = administrator.post(path, {"cause": "Lost or stolen", "note": "on the train"})
    assert without.status_code == 400
    assert "Type the six digits" in without.text
    assert 'value="on the train"' in without.text
    wrong = administrator.post(path, {"cause": "Other", "code": maria.wrong_code()})
    assert "That code is not right" in wrong.text
    assert _state(runtime, device) == "trusted"
    administrator.post(path, {"cause": "Other", "code": maria.code()})
    assert _state(runtime, device) == "revoked"
    # And now it is fresh, for the next act.
    assert 'name="code"' not in administrator.get("/devices/add").text


def test_a_used_code_is_refused_with_the_time_to_wait(
    app: Flask, administrator: Visitor, maria: Person, device: Device
) -> None:
    """It is no failure, so the person isn't punished for being quick."""
    other = Visitor(app)
    maria.sign_in(other)
    maria.grow_stale()
    for _ in range(7):
        answer = administrator.post(f"/devices/{device.id}/revoke", {"cause": "Other", "code": maria.code()})
        assert "That code has been used already. Wait for the next one:" in answer.text
    with maria.runtime.database.reading() as session:
        assert recent_events(session, action="console.confirm") == []


def test_guessing_in_an_open_session_ends_it(
    administrator: Visitor, runtime: Runtime, maria: Person, device: Device
) -> None:
    """Whoever sits at an unlocked desk gets five guesses."""
    maria.grow_stale()
    path = f"/devices/{device.id}/revoke"
    for _ in range(4):
        assert administrator.post(path, {"cause": "Other", "code": maria.wrong_code()}).status_code == 400
    last = administrator.post(path, {"cause": "Other", "code": maria.wrong_code()})
    assert last.status_code == 401
    assert "You have been signed out everywhere" in last.text
    assert administrator.get("/").status_code == 302
    assert _state(runtime, device) == "trusted"
    with runtime.database.reading() as session:
        events = recent_events(session, action="console.confirm")
    assert len(events) == 5
    assert events[0].outcome == "refused"
    assert events[0].reason == "wrong second factor too often; signed out everywhere"


def test_to_have_closed_the_sign_in_before_buys_no_guesses(
    app: Flask, administrator: Visitor, maria: Person, device: Device
) -> None:
    """The counts of the sign-in are past their limits then."""
    maria.grow_stale()
    thief = Visitor(app)
    for name in ["maria"] * 5 + [f"user-{number}" for number in range(20)]:
        thief.post("/sign-in", {"name": name, "password": "wrong"})
    path = f"/devices/{device.id}/revoke"
    codes = [administrator.post(path, {"cause": "Other", "code": maria.wrong_code()}).status_code for _ in range(5)]
    assert codes == [400, 400, 400, 400, 401]
    assert administrator.get("/").status_code == 302


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/devices/add", {"owner": "ines", "name": "new-laptop", "platform": "Linux"}),
        ("/add-user", {"name": "new", "role": "administrator"}),
        ("/users/ines/role", {"role": "administrator"}),
        ("/users/ines/state", {"state": "disabled", "reason": "left"}),
        ("/users/maria/invitation", {}),
    ],
)
def test_every_act_that_gives_or_takes_access_asks(
    administrator: Visitor, runtime: Runtime, maria: Person, device: Device, path: str, form: dict[str, str]
) -> None:
    """And changes nothing before it has its answer; the form is carried along."""
    maria.grow_stale()
    with runtime.database.reading() as session:
        before = recent_events(session, limit=1)[0].id
    answer = administrator.post(path, form)
    assert 'name="code"' in answer.text
    for value in form.values():
        assert f'value="{value}"' in answer.text
    with runtime.database.reading() as session:
        assert recent_events(session, limit=1)[0].id == before
    confirmed = administrator.post(path, {**form, "code": maria.code()})
    assert confirmed.status_code in {200, 302}
    with runtime.database.reading() as session:
        assert recent_events(session, limit=1)[0].id > before
