"""Signed-in browsers: a random token in a cookie, its hash and everything else in the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

import structlog
from flask import g, request
from flask import session as form_session
from sqlalchemy import ColumnElement, CursorResult, delete, or_, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from aaa.models import User
from core.clock import utc_now
from core.settings import WebSettings
from web.access import ROLES, Visitor
from web.context import remote_address, runtime
from web.cookies import SESSION_COOKIE, clear_cookie, new_token, read_token, set_cookie, token_hash
from web.models import ConsoleSession

log = structlog.get_logger(__name__)

SEEN_INTERVAL = timedelta(seconds=60)
"""How old `seen_at` may be before a request writes it again: pages that refresh must not write each time."""


def open_session(session: Session, user: User, browser: str) -> str:
    """Sign a person in, who has just proved both factors; returns the token for the cookie.

    What has ended is cleared away in passing.
    """
    now = utc_now()
    web = runtime().settings.web
    session.execute(delete(ConsoleSession).where(_ended(now, web)))
    token = new_token()
    session.add(
        ConsoleSession(
            token_hash=token_hash(token),
            user_name=user.name,
            remote_address=remote_address(),
            browser=browser,
            created_at=now,
            seen_at=now,
            second_factor_at=now,
            expires_at=now + timedelta(seconds=web.session_lifetime_s),
        )
    )
    return token


def hand_over(response: Response, token: str) -> None:
    """Put a new session's token into the browser; nothing from before the sign-in survives."""
    form_session.clear()
    set_cookie(response, SESSION_COOKIE, token)


def load_visitor() -> None:
    """Before each request: who is this? `g.visitor` is None for nobody."""
    g.visitor = None
    token = read_token(SESSION_COOKIE)
    if token is None:
        return
    now = utc_now()
    with runtime().database.reading() as session:
        row = session.scalar(select(ConsoleSession).where(ConsoleSession.token_hash == token_hash(token)))
        if row is None or not _is_alive(row, now, runtime().settings.web):
            return
        user = session.get(User, row.user_name)
        if user is None or user.disabled or user.role not in ROLES:
            return
    # A page that refreshes itself is no sign of a person in front of it.
    if now - row.seen_at > SEEN_INTERVAL and not request.headers.get("X-Fragment") and not _mark_seen(row.id, now):
        return
    g.visitor = Visitor(
        session_id=row.id,
        user_name=user.name,
        display_name=user.display_name,
        role=user.role,
        second_factor_at=row.second_factor_at,
    )


def _mark_seen(session_id: int, now: datetime) -> bool:
    """Write down that the person was here; False where the session has ended meanwhile."""
    try:
        with runtime().database.transaction() as session:
            current = session.get(ConsoleSession, session_id)
            if current is None:
                return False
            current.seen_at = now
    except OperationalError as error:
        # A full disk or a stuck lock: then of all times people need to see what the pages show.
        log.warning("a console session could not be written", error=str(error.orig))
    return True


def end_session(session: Session, session_id: int) -> None:
    """Sign one browser out."""
    session.execute(delete(ConsoleSession).where(ConsoleSession.id == session_id))


def end_sessions_of(session: Session, user_name: str, *, but: int | None = None) -> int:
    """Sign a person out of every browser, of all but one where `but` names it; returns how many there were."""
    query = delete(ConsoleSession).where(ConsoleSession.user_name == user_name)
    if but is not None:
        query = query.where(ConsoleSession.id != but)
    return cast("CursorResult[None]", session.execute(query)).rowcount


def take_back(response: Response) -> None:
    """Clear the browser's cookie after signing out."""
    form_session.clear()
    clear_cookie(response, SESSION_COOKIE)


def sessions_of(session: Session, user_name: str) -> list[ConsoleSession]:
    """The person's signed-in browsers, the newest first."""
    now = utc_now()
    rows = session.scalars(
        select(ConsoleSession).where(ConsoleSession.user_name == user_name).order_by(ConsoleSession.created_at.desc())
    )
    return [row for row in rows if _is_alive(row, now, runtime().settings.web)]


def _ended(now: datetime, web: WebSettings) -> ColumnElement[bool]:
    return or_(
        ConsoleSession.expires_at <= now,
        ConsoleSession.seen_at <= now - timedelta(seconds=web.session_idle_s),
    )


def _is_alive(row: ConsoleSession, now: datetime, web: WebSettings) -> bool:
    return row.expires_at > now and row.seen_at + timedelta(seconds=web.session_idle_s) > now
