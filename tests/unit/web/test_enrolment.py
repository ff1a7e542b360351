"""One-time links: single use, replaced at start, ended in time, and no account before both factors are there."""

from __future__ import annotations

from datetime import timedelta

import pyotp
import pytest
from flask import Flask
from sqlalchemy import select, update

from aaa import users
from aaa.models import User
from aaa.users import UserError
from core.audit import SYSTEM, Actor, recent_events
from core.clock import utc_now
from core.runtime import Runtime
from tests.unit.web.visitor import PASSWORD, Person, Visitor
from web import invitations
from web.cookies import PENDING_COOKIE
from web.models import ConsoleSession, Invitation, PendingSignIn

ADMIN = Actor("user", "maria")


def _path(link: str | None) -> str:
    assert link is not None
    assert link.startswith("https://localhost:8443/")
    return link.removeprefix("https://localhost:8443")


def _first_run(runtime: Runtime) -> str:
    return _path(invitations.first_run_link(runtime))


def _invite(runtime: Runtime, *, role: str = "auditor", name: str | None = None) -> str:
    with runtime.database.transaction() as session:
        return _path(invitations.invite(session, runtime, role=role, user_name=name, actor=ADMIN))


def _form(name: str = "maria", password: str = PASSWORD, repeated: str | None = None) -> dict[str, str]:
    return {"name": name, "display_name": "", "password": password, "repeated": repeated or password}


def _secret(runtime: Runtime, visitor: Visitor) -> str:
    """The secret that the page shows, checked to be the one that is kept."""
    page = visitor.get("/enrolment").text
    with runtime.database.reading() as session:
        tokens = session.scalars(select(PendingSignIn.encrypted_totp_secret)).all()
    secrets = [runtime.box.decrypt(token).reveal().decode() for token in tokens if token]
    shown = [secret for secret in secrets if secret in page]
    assert len(shown) == 1
    return shown[0]


def _finish(runtime: Runtime, visitor: Visitor) -> int:
    return visitor.post("/enrolment", {"code": pyotp.TOTP(_secret(runtime, visitor)).now()}).status_code


def test_the_first_administrator(runtime: Runtime, visitor: Visitor) -> None:
    """Link, name and password, second factor: signed in, and the link is used up."""
    path = _first_run(runtime)
    assert "Create the first administrator" in visitor.get(path).text
    assert visitor.post(path, _form()).location == "/enrolment"
    with runtime.database.reading() as session:
        assert session.get(User, "maria") is None
    assert "<svg role=" in visitor.get("/enrolment").text
    assert _finish(runtime, visitor) == 302
    assert visitor.get("/users").status_code == 200
    with runtime.database.reading() as session:
        user = session.get_one(User, "maria")
        actions = {event.action for event in recent_events(session, actor="user:maria")}
        assert session.scalars(select(PendingSignIn)).all() == []
    assert user.role == "administrator"
    assert user.password_hash is not None
    assert user.password_hash.startswith("$argon2id$")
    assert {"user.add", "user.set-password", "user.enrol-totp", "console.sign-in"} <= actions
    assert visitor.get(path).status_code == 404
    assert invitations.first_run_link(runtime) is None


def test_a_restart_replaces_the_link(runtime: Runtime, visitor: Visitor) -> None:
    """What an old log shows opens nothing, not even for who was halfway through."""
    first = _first_run(runtime)
    visitor.post(first, _form())
    second = _first_run(runtime)
    assert first != second
    assert visitor.get(first).status_code == 404
    assert visitor.post("/enrolment", {"code": "123456"}).status_code == 404
    assert visitor.get(second).status_code == 200


def test_the_first_run_link_outlives_no_administrator(runtime: Runtime, visitor: Visitor, maria: Person) -> None:
    """Once somebody can administer, a start kills an open link."""
    with runtime.database.transaction() as session:
        session.get_one(User, "maria").disabled = True
    path = _first_run(runtime)
    with runtime.database.transaction() as session:
        session.get_one(User, "maria").disabled = False
    assert invitations.first_run_link(runtime) is None
    assert visitor.get(path).status_code == 404


def test_the_first_run_link_dies_when_somebody_becomes_administrator_by_another_way(
    runtime: Runtime, visitor: Visitor
) -> None:
    """Not only at the next start: until then an old log would make whoever reads it administrator too."""
    path = _first_run(runtime)
    visitor.post(path, _form("mallory"))
    Person(runtime, "maria")
    assert visitor.get(path).status_code == 404
    assert _finish(runtime, visitor) == 404
    with runtime.database.reading() as session:
        assert [user.name for user in users.list_users(session)] == ["maria"]


def test_only_one_of_two_guests_gets_in(app: Flask, runtime: Runtime) -> None:
    """Two browsers hold the same link; the second to begin throws the first out."""
    path = _first_run(runtime)
    one, two = Visitor(app), Visitor(app)
    one.post(path, _form("one"))
    two.post(path, _form("two"))
    assert one.post("/enrolment", {"code": "123456"}).status_code == 404
    assert _finish(runtime, two) == 302
    with runtime.database.reading() as session:
        assert session.scalars(select(User.name)).all() == ["two"]


def test_a_wrong_first_code_makes_no_account(runtime: Runtime, visitor: Visitor) -> None:
    """The page stays, the link stays, and nobody is made."""
    path = _first_run(runtime)
    visitor.post(path, _form())
    secret = _secret(runtime, visitor)
    wrong = "000000" if not pyotp.TOTP(secret).verify("000000", valid_window=2) else "111111"
    answer = visitor.post("/enrolment", {"code": wrong})
    assert answer.status_code == 400
    assert "That code does not fit" in answer.text
    assert secret in answer.text
    with runtime.database.reading() as session:
        assert session.get(User, "maria") is None
        assert session.scalars(select(ConsoleSession)).all() == []
    assert _finish(runtime, visitor) == 302


@pytest.mark.parametrize("ended", ["invitation", "enrolment"])
def test_links_and_enrolments_end(runtime: Runtime, visitor: Visitor, ended: str) -> None:
    """In time, whether or not anybody looks."""
    path = _first_run(runtime)
    visitor.post(path, _form())
    secret = _secret(runtime, visitor)
    with runtime.database.transaction() as session:
        table = Invitation if ended == "invitation" else PendingSignIn
        session.execute(update(table).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert visitor.post("/enrolment", {"code": pyotp.TOTP(secret).now()}).status_code == 404
    assert visitor.get(path).status_code == (404 if ended == "invitation" else 200)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (_form(password="short"), "Use 12 to 256 characters"),
        (_form(password="my name is Maria, hello"), "Leave your name out"),
        (_form(password="aaaaaaaaaaaaaaaa"), "more different characters"),
        (_form(repeated="correct horse battery stable"), "The two passwords differ"),
        (_form(name="../../etc"), "can&#39;t be used"),
        (_form(name="taken"), "This name is taken"),
        ({"name": "maria"}, "Fill this in"),
    ],
)
def test_what_the_guest_chooses_is_checked_first(
    runtime: Runtime, visitor: Visitor, form: dict[str, str], words: str
) -> None:
    """With a sentence that says what to do better, and what was typed still there."""
    with runtime.database.transaction() as session:
        users.create_user(session, "taken", actor=SYSTEM)
    answer = visitor.post(_first_run(runtime), form)
    assert answer.status_code == 400
    assert words in answer.text
    assert f'value="{form["name"]}"' in answer.text
    assert PASSWORD not in answer.text
    with runtime.database.reading() as session:
        assert session.scalars(select(User.name)).all() == ["taken"]
        assert session.scalars(select(PendingSignIn)).all() == []


def test_an_invitation_carries_its_role(runtime: Runtime, visitor: Visitor) -> None:
    """And no other, whatever the form says."""
    path = _invite(runtime, role="auditor")
    assert "You are invited as <strong>auditor</strong>" in visitor.get(path).text
    visitor.post(path, {**_form("eve"), "role": "administrator"})
    assert _finish(runtime, visitor) == 302
    assert visitor.get("/users").status_code == 403
    with runtime.database.reading() as session:
        assert session.get_one(User, "eve").role == "auditor"


def test_an_invitation_by_name_is_for_that_name(runtime: Runtime, visitor: Visitor) -> None:
    """The guest can't become somebody else."""
    path = _invite(runtime, name="jude")
    visitor.post(path, _form("maria"))
    _finish(runtime, visitor)
    with runtime.database.reading() as session:
        assert session.scalars(select(User.name)).all() == ["jude"]


def test_a_lost_phone_is_replaced_by_an_invitation(app: Flask, runtime: Runtime, maria: Person) -> None:
    """Password and second factor are new, the old ones and the old sessions are gone."""
    old = maria.signed_in(app)
    path = _invite(runtime, role="administrator", name="maria")
    visitor = Visitor(app)
    visitor.post(path, _form(password="an entirely new sentence"))
    assert old.get("/").status_code == 200
    assert _finish(runtime, visitor) == 302
    assert old.get("/").status_code == 302
    again = Visitor(app)
    assert again.post("/sign-in", {"name": "maria", "password": PASSWORD}).status_code == 401
    assert again.post("/sign-in", {"name": "maria", "password": "an entirely new sentence"}).status_code == 302
    assert again.post("/sign-in/code", {"code": maria.code()}).status_code == 401


def test_a_new_invitation_kills_the_one_before(runtime: Runtime, visitor: Visitor) -> None:
    """Of the same person."""
    first = _invite(runtime, name="jude")
    second = _invite(runtime, name="jude")
    assert visitor.get(first).status_code == 404
    assert visitor.get(second).status_code == 200


def test_an_invitation_opens_nothing_for_who_was_disabled_since(
    runtime: Runtime, visitor: Visitor, maria: Person
) -> None:
    """Before the first step and after it."""
    path = _invite(runtime, name="maria")
    visitor.post(path, _form(password="an entirely new sentence"))
    secret = _secret(runtime, visitor)
    with runtime.database.transaction() as session:
        users.set_disabled(session, session.get_one(User, "maria"), True, SYSTEM)
    assert visitor.get(path).status_code == 404
    assert visitor.post("/enrolment", {"code": pyotp.TOTP(secret).now()}).status_code == 404


def test_nobody_is_invited_under_a_name_that_can_not_be(runtime: Runtime) -> None:
    """Nor to a role that is none."""
    with runtime.database.transaction() as session:
        with pytest.raises(UserError):
            invitations.invite(session, runtime, role="auditor", user_name="no name!", actor=ADMIN)
        with pytest.raises(ValueError, match="no such role"):
            invitations.invite(session, runtime, role="root", user_name=None, actor=ADMIN)


def test_tokens_and_secrets_are_not_in_the_database(runtime: Runtime, visitor: Visitor) -> None:
    """A copy of it opens no door: hashes of tokens, and secrets encrypted."""
    path = _first_run(runtime)
    visitor.post(path, _form())
    secret = _secret(runtime, visitor)
    runtime.database.close()
    stored = b"".join(file.read_bytes() for file in runtime.settings.state_dir.glob("ostiary.db*"))
    assert b"web_invitation" in stored
    for hidden in (path.rpartition("/")[2], secret, PASSWORD, visitor.cookie(PENDING_COOKIE) or "missing"):
        assert hidden.encode() not in stored


@pytest.mark.parametrize("token", ["x", "a" * 200, "..", "%00", "é"])
def test_made_up_links_open_nothing(visitor: Visitor, token: str) -> None:
    """And say no more than that."""
    assert visitor.get(f"/first-run/{token}").status_code == 404
