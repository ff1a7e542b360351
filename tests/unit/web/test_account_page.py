"""One's own account: password, second factor, signed-in browsers."""

from __future__ import annotations

import re

import pyotp
from flask import Flask
from sqlalchemy import select

from aaa import users
from aaa.models import User
from core.audit import recent_events
from core.runtime import Runtime
from tests.unit.web.visitor import PASSWORD, Person, Visitor
from web.models import ConsoleSession

NEW = "an entirely new sentence"


def _change(old: str = PASSWORD, new: str = NEW, repeated: str = NEW) -> dict[str, str]:
    return {"old": old, "password": new, "repeated": repeated}


def test_the_password_is_changed(app: Flask, runtime: Runtime, maria: Person, administrator: Visitor) -> None:
    """Other browsers are signed out, this one stays."""
    other = maria.signed_in(app)
    assert administrator.post("/account/password", _change()).location == "/account"
    assert "The password is changed." in administrator.get("/account").text
    assert other.get("/").status_code == 302
    with runtime.database.reading() as session:
        user = session.get_one(User, "maria")
    assert users.verify_password(user, NEW)


def test_the_old_password_is_asked(runtime: Runtime, administrator: Visitor) -> None:
    """A wrong one is an event, and five of them are enough."""
    for _ in range(5):
        answer = administrator.post("/account/password", _change(old="a guess at it"))
        assert "That is not the password until now" in answer.text
    assert "Too many attempts" in administrator.post("/account/password", _change()).text
    with runtime.database.reading() as session:
        event = recent_events(session, action="user.set-password", limit=1)[0]
        user = session.get_one(User, "maria")
    assert event.outcome == "refused"
    assert users.verify_password(user, PASSWORD)


def test_the_new_password_has_to_be_good(administrator: Visitor) -> None:
    """By the same policy as the first one."""
    for new, repeated, words in (
        ("short", "short", "Use 12 to 256"),
        ("Maria is my name", "Maria is my name", "Leave your name out"),
        (NEW, "something else", "The two passwords differ"),
    ):
        answer = administrator.post("/account/password", _change(new=new, repeated=repeated))
        assert answer.status_code == 400
        assert words in answer.text


def test_a_new_phone(app: Flask, runtime: Runtime, maria: Person, administrator: Visitor) -> None:
    """The old code first, then the new one; until then the old app works."""
    assert administrator.get("/account/second-factor").location == "/account"
    wrong = administrator.post("/account/second-factor", {"code": maria.wrong_code()})
    assert "That code is not right" in wrong.text
    assert administrator.post("/account/second-factor", {"code": maria.code()}).location == "/account/second-factor"
    page = administrator.get("/account/second-factor").text
    found = re.search(r"<code>([A-Z2-7]{32})</code>", page)
    assert found is not None
    assert found[1] != maria.secret
    assert "That code does not fit" in administrator.post("/account/second-factor/confirm", {"code": "12"}).text
    other = maria.signed_in(app)
    done = administrator.post("/account/second-factor/confirm", {"code": pyotp.TOTP(found[1]).now()})
    assert done.location == "/account"
    assert "The new app is your second factor" in administrator.get("/account").text
    assert other.get("/").status_code == 302
    again = Visitor(app)
    again.post("/sign-in", {"name": "maria", "password": PASSWORD})
    assert again.post("/sign-in/code", {"code": maria.code(1)}).status_code == 401


def test_a_new_phone_needs_the_old_one_lately(runtime: Runtime, maria: Person, administrator: Visitor) -> None:
    """A page left open overnight confirms nothing."""
    administrator.post("/account/second-factor", {"code": maria.code()})
    maria.grow_stale()
    page = administrator.get("/account/second-factor").text
    found = re.search(r"<code>([A-Z2-7]{32})</code>", page)
    assert found is not None
    code = pyotp.TOTP(found[1]).now()
    assert administrator.post("/account/second-factor/confirm", {"code": code}).location == "/account"
    with runtime.database.reading() as session:
        token = session.get_one(User, "maria").encrypted_totp_secret
    assert token is not None
    assert runtime.box.decrypt(token).reveal().decode() == maria.secret


def test_signing_out_everywhere(app: Flask, runtime: Runtime, maria: Person, administrator: Visitor) -> None:
    """All browsers, this one too, and nobody else's."""
    other = maria.signed_in(app)
    jude = Person(runtime, "jude", "auditor").signed_in(app)
    assert "this one" in administrator.get("/account").text
    assert administrator.post("/account/sign-out-everywhere").location == "/sign-in"
    assert administrator.get("/").status_code == other.get("/").status_code == 302
    assert jude.get("/").status_code == 200
    with runtime.database.reading() as session:
        assert [row.user_name for row in session.scalars(select(ConsoleSession))] == ["jude"]
