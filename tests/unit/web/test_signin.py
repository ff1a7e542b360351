"""Signing in and out: two factors, one message for all failures, and limits on guessing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from aaa import users
from aaa.models import User
from core.audit import SYSTEM, recent_events
from core.clock import utc_now
from core.runtime import Runtime
from tests.unit.web.visitor import PASSWORD, Person, Visitor
from web.cookies import PENDING_COOKIE, SESSION_COOKIE
from web.models import ConsoleSession, PendingSignIn


def _last_sign_in(runtime: Runtime) -> tuple[str, str, str]:
    with runtime.database.reading() as session:
        event = recent_events(session, action="console.sign-in", limit=1)[0]
    return event.actor, event.outcome, event.reason


def test_both_factors_open_a_session(runtime: Runtime, visitor: Visitor, maria: Person) -> None:
    """And only both."""
    first = visitor.post("/sign-in", {"name": "maria", "password": PASSWORD})
    assert first.location == "/sign-in/code"
    assert visitor.get("/").status_code == 302
    second = visitor.post("/sign-in/code", {"code": maria.code()})
    assert second.location == "/"
    assert visitor.get("/").status_code == 200
    assert _last_sign_in(runtime) == ("user:maria", "success", "password and code")


def test_cookies_are_for_this_host_https_and_no_script(visitor: Visitor, maria: Person) -> None:
    """`__Host-` with Secure and Path, HttpOnly, SameSite; the token in the database is a hash."""
    answer = maria.sign_in(visitor)
    lines = [line for line in answer.headers.getlist("Set-Cookie") if line.startswith(SESSION_COOKIE)]
    assert len(lines) == 1
    attributes = {part.strip().lower() for part in lines[0].split(";")[1:]}
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)
    token = visitor.cookie(SESSION_COOKIE)
    assert token is not None
    assert len(token) >= 43
    with maria.runtime.database.reading() as session:
        row = session.scalars(select(ConsoleSession)).one()
    assert token.encode() not in row.token_hash
    assert visitor.cookie(PENDING_COOKIE) is None


def test_a_new_sign_in_is_a_new_token_and_a_new_form_secret(visitor: Visitor, maria: Person) -> None:
    """What a browser held before the sign-in is worth nothing after it (session fixation)."""
    visitor.client.set_cookie(SESSION_COOKIE, "chosen-by-somebody-else", domain="localhost")
    form_cookie = "__Host-ostiary-form"
    visitor.get("/sign-in")
    before = visitor.cookie(form_cookie)
    maria.sign_in(visitor)
    assert visitor.cookie(SESSION_COOKIE) != "chosen-by-somebody-else"
    visitor.get("/account")
    assert visitor.cookie(form_cookie) != before


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [
        ("maria", "not her password", "wrong password"),
        ("nobody", PASSWORD, "unknown user"),
        ("disabled", PASSWORD, "user is disabled"),
        ("employee", PASSWORD, "no role in the console"),
        ("halfway", PASSWORD, "no second factor is enrolled"),
    ],
)
def test_every_failure_looks_the_same(
    runtime: Runtime, visitor: Visitor, maria: Person, name: str, password: str, reason: str
) -> None:
    """The page says one thing; the audit log says which."""
    with runtime.database.transaction() as session:
        for other, role in (("disabled", "auditor"), ("employee", None), ("halfway", "auditor")):
            user = users.create_user(session, other, role=role, actor=SYSTEM)
            users.set_password(session, user, PASSWORD, SYSTEM)
            user.encrypted_totp_secret = None if other == "halfway" else b"x"
        users.set_disabled(session, session.get_one(User, "disabled"), True, SYSTEM)
    answer = visitor.post("/sign-in", {"name": name, "password": password})
    assert answer.status_code == 401
    assert "Name or password is not right." in answer.text
    assert _last_sign_in(runtime) == (f"user:{name}", "refused", reason)
    assert visitor.cookie(PENDING_COOKIE) is None


def test_the_name_may_be_typed_in_capitals(visitor: Visitor, maria: Person) -> None:
    """As phones like to do."""
    assert visitor.post("/sign-in", {"name": " Maria ", "password": PASSWORD}).location == "/sign-in/code"


def test_a_code_works_once(app: Flask, maria: Person) -> None:
    """In a second browser the same code is refused, kindly, and counts as no failure."""
    code = maria.code()
    first, second = Visitor(app), Visitor(app)
    for browser in (first, second):
        browser.post("/sign-in", {"name": "maria", "password": PASSWORD})
    assert first.post("/sign-in/code", {"code": code}).location == "/"
    answer = second.post("/sign-in/code", {"code": code})
    assert answer.status_code == 401
    assert "That code has been used already. Wait for the next one:" in answer.text
    assert second.post("/sign-in/code", {"code": maria.code(1)}).location == "/"


def test_too_many_wrong_codes_begin_anew(runtime: Runtime, visitor: Visitor, maria: Person) -> None:
    """The pending sign-in is gone, and so is the chance to guess on."""
    visitor.post("/sign-in", {"name": "maria", "password": PASSWORD})
    for _ in range(4):
        assert "That code is not right" in visitor.post("/sign-in/code", {"code": maria.wrong_code()}).text
    assert "Start again" in visitor.post("/sign-in/code", {"code": maria.wrong_code()}).text
    assert visitor.post("/sign-in/code", {"code": maria.code()}).location == "/sign-in"
    assert _last_sign_in(runtime)[1:] == ("refused", "wrong code; further attempts are refused for a while")
    # Even the right password has to wait now.
    assert visitor.post("/sign-in", {"name": "maria", "password": PASSWORD}).status_code == 429


def test_guessing_is_stopped_for_account_and_address(app: Flask, runtime: Runtime, maria: Person) -> None:
    """Five failures from one address close the account to it, and to no other address."""
    guesser, owner = Visitor(app, address="203.0.113.5"), Visitor(app, address="198.51.100.20")
    for _ in range(5):
        assert guesser.post("/sign-in", {"name": "maria", "password": "a guess"}).status_code == 401
    answer = guesser.post("/sign-in", {"name": "maria", "password": PASSWORD})
    assert answer.status_code == 429
    assert "Try again in 15 minutes" in answer.text
    assert maria.sign_in(owner).location == "/"


def test_the_code_has_to_come_in_time(runtime: Runtime, visitor: Visitor, maria: Person) -> None:
    """Five minutes after the password it begins anew."""
    visitor.post("/sign-in", {"name": "maria", "password": PASSWORD})
    with runtime.database.transaction() as session:
        session.scalars(select(PendingSignIn)).one().expires_at = utc_now() - timedelta(seconds=1)
    assert visitor.get("/sign-in/code").location == "/sign-in"
    assert visitor.post("/sign-in/code", {"code": maria.code()}).location == "/sign-in"


def test_who_loses_the_role_between_the_steps_stays_out(runtime: Runtime, visitor: Visitor, maria: Person) -> None:
    """The second step asks again."""
    visitor.post("/sign-in", {"name": "maria", "password": PASSWORD})
    with runtime.database.transaction() as session:
        users.set_disabled(session, session.get_one(User, "maria"), True, SYSTEM)
    assert visitor.post("/sign-in/code", {"code": maria.code()}).status_code == 401
    assert visitor.cookie(SESSION_COOKIE) is None


def test_the_way_back_to_a_page_is_kept(visitor: Visitor, maria: Person) -> None:
    """From the page that asked for the sign-in, through both steps."""
    asked = visitor.get("/devices?state=revoked")
    assert asked.location == "/sign-in?next=/devices?state%3Drevoked"
    visitor.post("/sign-in", {"name": "maria", "password": PASSWORD, "next": "/devices?state=revoked"})
    assert visitor.post("/sign-in/code", {"code": maria.code()}).location == "/devices?state=revoked"


def test_the_way_back_leads_to_no_other_site(visitor: Visitor, maria: Person) -> None:
    """An open redirect would lend the portal's name to a phishing page."""
    visitor.post("/sign-in", {"name": "maria", "password": PASSWORD, "next": "//evil.example/"})
    assert visitor.post("/sign-in/code", {"code": maria.code()}).location == "/"


def test_signing_out_ends_the_session_on_the_server(runtime: Runtime, visitor: Visitor, maria: Person) -> None:
    """A copy of the cookie is worth nothing afterwards."""
    maria.sign_in(visitor)
    token = visitor.cookie(SESSION_COOKIE)
    assert token is not None
    assert visitor.post("/sign-out").location == "/sign-in"
    visitor.client.set_cookie(SESSION_COOKIE, token, domain="localhost", secure=True)
    assert visitor.get("/").status_code == 302
    with runtime.database.reading() as session:
        assert recent_events(session, action="console.sign-out", limit=1)[0].actor == "user:maria"


def test_the_theme_is_kept_and_nothing_else(visitor: Visitor) -> None:
    """Only known names reach the page."""
    assert 'data-theme="system"' in visitor.get("/sign-in").text
    assert visitor.post("/theme", {"theme": "dark", "back": "/sign-in"}).location == "/sign-in"
    assert 'data-theme="dark"' in visitor.get("/sign-in").text
    visitor.post("/theme", {"theme": '"><script>', "back": "//evil.example"})
    assert 'data-theme="dark"' in visitor.get("/sign-in").text


def test_a_broken_form_is_a_failure_like_any_other(visitor: Visitor, maria: Person) -> None:
    """Nothing missing or oversized is more than a refusal."""
    assert visitor.post("/sign-in", {"name": "maria"}).status_code == 400
    assert visitor.post("/sign-in", {"name": "m" * 500, "password": PASSWORD}).status_code == 400
    assert visitor.post("/sign-in", {"name": "maria", "password": "x" * 1000}).status_code == 401
