"""Users: added, given roles, invited, disabled; and somebody always stays to administer."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from aaa import users
from aaa.models import User
from core.audit import SYSTEM, recent_events
from core.runtime import Runtime
from tests.unit.web import world
from tests.unit.web.visitor import Person, Visitor


def _user(runtime: Runtime, name: str) -> User:
    with runtime.database.reading() as session:
        return session.get_one(User, name)


def test_an_employee_is_added(runtime: Runtime, administrator: Visitor) -> None:
    """With groups; without a role there is nothing to invite to."""
    form = {"name": "Ines", "display_name": "Inês Duarte", "groups": "sales, , lisbon", "role": ""}
    assert administrator.post("/add-user", form).location == "/users"
    user = _user(runtime, "ines")
    assert (user.display_name, user.groups, user.role) == ("Inês Duarte", ["lisbon", "sales"], None)
    page = administrator.get("/users").text
    assert "ines was added." in page
    assert "Inês Duarte" in page


def test_a_colleague_gets_a_link_that_works(app: Flask, runtime: Runtime, administrator: Visitor) -> None:
    """Shown once, to be handed over."""
    page = administrator.post("/add-user", {"name": "jude", "role": "security"}).text
    found = re.search(r"<code>https://localhost:8443(/invitation/[^<]+)</code>", page)
    assert found is not None
    assert "You are invited as <strong>security</strong>" in Visitor(app).get(found[1]).text
    assert "Not set up" in administrator.get("/users").text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"name": "maria"}, "exists already"),
        ({"name": "no name!"}, "can&#39;t be used"),
        ({"name": ""}, "Fill this in"),
        ({"name": "x", "role": "root"}, "Choose one of the list"),
        ({"name": "x", "groups": "a/b"}, "can&#39;t be used"),
    ],
)
def test_a_user_that_can_not_be_says_why(
    runtime: Runtime, administrator: Visitor, form: dict[str, str], words: str
) -> None:
    """And nobody is made."""
    answer = administrator.post("/add-user", form)
    assert answer.status_code == 400
    assert words in answer.text
    with runtime.database.reading() as session:
        assert [user.name for user in users.list_users(session)] == ["maria"]


def test_a_role_is_given_and_taken(app: Flask, runtime: Runtime, administrator: Visitor) -> None:
    """Taking it ends the person's console sessions."""
    jude = Person(runtime, "jude", "security")
    browser = jude.signed_in(app)
    administrator.post("/users/jude/role", {"role": "auditor"})
    assert browser.get("/sessions").status_code == 200
    administrator.post("/users/jude/role", {"role": ""})
    assert _user(runtime, "jude").role is None
    assert browser.get("/sessions").status_code == 302
    with runtime.database.reading() as session:
        event = recent_events(session, action="user.set-role", limit=1)[0]
    assert (event.actor, event.target) == ("user:maria", "user:jude")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/users/jude/role", {"role": "auditor"}),
        ("/users/jude/role", {"role": ""}),
        ("/users/jude/state", {"state": "disabled"}),
    ],
)
def test_an_open_invitation_does_not_bring_back_what_was_taken(
    app: Flask, runtime: Runtime, administrator: Visitor, path: str, form: dict[str, str]
) -> None:
    """Jude keeps the link of the day when jude became administrator."""
    Person(runtime, "jude")
    page = administrator.post("/users/jude/invitation").text
    found = re.search(r"<code>https://localhost:8443(/invitation/[^<]+)</code>", page)
    assert found is not None
    assert Visitor(app).get(found[1]).status_code == 200
    assert administrator.post(path, form).status_code == 302
    administrator.post("/users/jude/state", {"state": "enabled"})
    assert Visitor(app).get(found[1]).status_code == 404


def test_the_last_administrator_stays(runtime: Runtime, administrator: Visitor) -> None:
    """Not by role, not by disabling; one who can't sign in yet does not count."""
    with runtime.database.transaction() as session:
        users.create_user(session, "invited", role="administrator", actor=SYSTEM)
    answer = administrator.post("/users/maria/role", {"role": "auditor"})
    assert answer.status_code == 400
    assert "This is the last administrator" in answer.text
    assert _user(runtime, "maria").role == "administrator"
    myself = administrator.post("/users/maria/state", {"state": "disabled"})
    assert "You can&#39;t disable yourself" in myself.text
    assert not _user(runtime, "maria").disabled
    Person(runtime, "second")
    assert administrator.post("/users/maria/role", {"role": "auditor"}).status_code == 302


def test_disabling_ends_sessions_and_enabling_undoes_it(app: Flask, runtime: Runtime, administrator: Visitor) -> None:
    """Devices keep their state."""
    browser = Person(runtime, "jude", "security").signed_in(app)
    device = world.add_device(runtime, "jude", "jude-laptop")
    administrator.post("/users/jude/state", {"state": "disabled", "reason": "on leave"})
    assert _user(runtime, "jude").disabled
    assert browser.get("/").status_code == 302
    assert "Disabled" in administrator.get(f"/devices/{device.id}").text
    with runtime.database.reading() as session:
        event = recent_events(session, action="user.disable", limit=1)[0]
    assert (event.actor, event.reason) == ("user:maria", "on leave")
    administrator.post("/users/jude/state", {"state": "enabled"})
    assert not _user(runtime, "jude").disabled


def test_only_people_with_a_role_are_invited(runtime: Runtime, administrator: Visitor) -> None:
    """There is nothing to sign in to for others."""
    with runtime.database.transaction() as session:
        users.create_user(session, "ines", actor=SYSTEM)
    assert administrator.post("/users/ines/invitation").status_code == 400
    assert "Make a link" not in administrator.get("/users/ines").text


@pytest.mark.parametrize("path", ["/users/nobody", "/users/nobody/role", "/users/nobody/invitation"])
def test_nobody_is_not_found(administrator: Visitor, path: str) -> None:
    """The page that says so."""
    answer = administrator.get(path) if path == "/users/nobody" else administrator.post(path, {"role": ""})
    assert answer.status_code == 404
