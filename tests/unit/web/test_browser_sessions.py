"""Sessions of browsers: how they end, and what keeps them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import event, select

from aaa import users
from aaa.models import User
from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from tests.unit.web.visitor import ORIGIN, Person, Visitor
from web import browser_sessions
from web.browser_name import browser_name
from web.cookies import SESSION_COOKIE
from web.models import ConsoleSession


def _row(runtime: Runtime) -> ConsoleSession:
    with runtime.database.reading() as session:
        return session.scalars(select(ConsoleSession)).one()


def _change(runtime: Runtime, column: str, value: datetime) -> None:
    with runtime.database.transaction() as session:
        setattr(session.scalars(select(ConsoleSession)).one(), column, value)


def test_idleness_ends_a_session(runtime: Runtime, administrator: Visitor) -> None:
    """After half an hour, by the settings."""
    _change(runtime, "seen_at", utc_now() - timedelta(seconds=1700))
    assert administrator.get("/").status_code == 200
    _change(runtime, "seen_at", utc_now() - timedelta(seconds=1801))
    assert administrator.get("/").status_code == 302


def test_time_ends_a_session_however_busy(runtime: Runtime, administrator: Visitor) -> None:
    """The absolute end."""
    assert _row(runtime).expires_at - _row(runtime).created_at == timedelta(hours=12)
    _change(runtime, "expires_at", utc_now() - timedelta(seconds=1))
    assert administrator.get("/").status_code == 302


def test_a_page_that_refreshes_itself_keeps_no_session_alive(runtime: Runtime, administrator: Visitor) -> None:
    """Only a person does; and a person not with a write for each page."""
    long_ago = utc_now() - timedelta(minutes=20)
    _change(runtime, "seen_at", long_ago)
    assert administrator.get("/sessions/live", headers={"X-Fragment": "1"}).status_code == 200
    assert _row(runtime).seen_at == long_ago
    administrator.get("/sessions")
    seen = _row(runtime).seen_at
    assert utc_now() - seen < timedelta(seconds=10)
    administrator.get("/sessions")
    assert _row(runtime).seen_at == seen


def test_pages_are_shown_where_nothing_can_be_written(runtime: Runtime, administrator: Visitor) -> None:
    """On a full disk people look here first; that they were here is not worth an error page."""
    long_ago = utc_now() - timedelta(seconds=1700)
    _change(runtime, "seen_at", long_ago)
    event.listen(
        runtime.database.engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only=ON")
    )
    runtime.database.engine.dispose()
    assert administrator.get("/").status_code == 200
    assert _row(runtime).seen_at == long_ago


@pytest.mark.parametrize("change", ["disabled", "no role"])
def test_losing_the_right_ends_it_at_once(runtime: Runtime, administrator: Visitor, change: str) -> None:
    """The next page asks the directory, not the cookie."""
    with runtime.database.transaction() as session:
        user = session.get_one(User, "maria")
        if change == "disabled":
            users.set_disabled(session, user, True, SYSTEM)
        else:
            users.set_role(session, user, None, SYSTEM)
    assert administrator.get("/").status_code == 302


def test_opening_one_clears_away_the_dead(app: Flask, runtime: Runtime, maria: Person) -> None:
    """The table does not grow for ever."""
    maria.signed_in(app)
    _change(runtime, "seen_at", utc_now() - timedelta(hours=2))
    maria.signed_in(app)
    assert _row(runtime).seen_at > utc_now() - timedelta(minutes=1)


@pytest.mark.parametrize("value", ["", "x", "a" * 129, "é", "' OR 1=1 --"])
def test_made_up_cookies_are_nobody(visitor: Visitor, value: str) -> None:
    """Whatever they hold."""
    visitor.client.set_cookie(SESSION_COOKIE, value, domain="localhost", secure=True)
    assert visitor.get("/").status_code == 302


def test_the_list_shows_only_what_is_alive(app: Flask, runtime: Runtime, maria: Person) -> None:
    """Newest first."""
    maria.signed_in(app)
    _change(runtime, "seen_at", utc_now() - timedelta(minutes=29))
    maria.signed_in(app)
    with app.test_request_context(base_url=ORIGIN), runtime.database.reading() as session:
        rows = browser_sessions.sessions_of(session, "maria")
        assert [row.id for row in rows] == [2, 1]
    _change_all(runtime, utc_now() - timedelta(hours=1))
    with app.test_request_context(base_url=ORIGIN), runtime.database.reading() as session:
        assert browser_sessions.sessions_of(session, "maria") == []


def _change_all(runtime: Runtime, seen_at: datetime) -> None:
    with runtime.database.transaction() as session:
        for row in session.scalars(select(ConsoleSession)):
            row.seen_at = seen_at


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0.0.0 Edg/130.0",
            "Edge on Windows",
        ),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Version/17 Safari/605", "Safari on macOS"),
        ("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36", "Chrome on Android"),
        ("<script>alert(1)</script>", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_browsers_are_guessed_and_never_quoted(header: str, name: str) -> None:
    """The list on the account page."""
    assert browser_name(header) == name
