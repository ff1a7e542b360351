"""A browser for the tests: Flask's test client over HTTPS, which sends forms as a page would have it sent."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import timedelta

import pyotp
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

from aaa import mfa, users
from aaa.models import User
from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from web import browser_sessions
from web.cookies import SESSION_COOKIE
from web.models import ConsoleSession

PASSWORD = "correct horse battery staple"
ORIGIN = "https://localhost"
_CSRF = re.compile(r'name="csrf_token" value="([^"]+)"')


class Visitor:
    """One browser with its own cookies."""

    def __init__(self, app: Flask, *, address: str = "192.0.2.10") -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        self.client.environ_base["REMOTE_ADDR"] = address

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> TestResponse:
        """Open a page."""
        return self.client.get(path, base_url=ORIGIN, headers=dict(headers or {}))

    def post(self, path: str, data: Mapping[str, str] | None = None) -> TestResponse:
        """Send a form, with the token that any page of this browser carries."""
        page = self.get("/account")
        if page.status_code != 200:
            page = self.get("/sign-in")
        found = _CSRF.search(page.text)
        assert found is not None
        values = {**(data or {}), "csrf_token": found[1]}
        return self.client.post(path, base_url=ORIGIN, data=values, headers={"Referer": f"{ORIGIN}/"})

    def cookie(self, name: str) -> str | None:
        """A cookie's value."""
        found = self.client.get_cookie(name, domain="localhost")
        return found.value if found is not None else None


class Person:
    """A user with both factors, and codes that can be used one after the other."""

    def __init__(self, runtime: Runtime, name: str, role: str | None = "administrator") -> None:
        self.name = name
        self.runtime = runtime
        self.secret = mfa.new_totp_secret()
        with runtime.database.transaction() as session:
            user = users.create_user(session, name, role=role, actor=SYSTEM)
            users.set_password(session, user, PASSWORD, SYSTEM)
            mfa.enrol_totp(session, runtime.box, user, self.secret, pyotp.TOTP(self.secret).now(), SYSTEM)
            user.last_totp_step = 0

    def code(self, offset: int = 0) -> str:
        """The code of the present time step, or of one beside it."""
        return pyotp.TOTP(self.secret).generate_otp(int(time.time()) // mfa.STEP_S + offset)

    def wrong_code(self) -> str:
        """Six digits that are not right now."""
        near = {self.code(offset) for offset in (-2, -1, 0, 1, 2)}
        return next(code for code in (f"{number:06d}" for number in range(10)) if code not in near)

    def sign_in(self, visitor: Visitor) -> TestResponse:
        """Through the two forms."""
        first = visitor.post("/sign-in", {"name": self.name, "password": PASSWORD})
        assert first.status_code == 302, first.text
        return visitor.post("/sign-in/code", {"code": self.code()})

    def signed_in(self, app: Flask) -> Visitor:
        """A browser with a session, without going through the forms."""
        visitor = Visitor(app)
        with app.test_request_context(base_url=ORIGIN), self.runtime.database.transaction() as session:
            token = browser_sessions.open_session(session, session.get_one(User, self.name), "Test")
        visitor.client.set_cookie(SESSION_COOKIE, token, domain="localhost", secure=True)
        return visitor

    def grow_stale(self) -> None:
        """Let the second factor of all of the person's sessions be of an hour ago."""
        with self.runtime.database.transaction() as session:
            session.execute(update(ConsoleSession).values(second_factor_at=utc_now() - timedelta(hours=1)))
