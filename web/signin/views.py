"""Sign-in in two steps, and sign-out.

GET  /sign-in        name and password
POST /sign-in        right: a pending sign-in, on to the code; wrong: the same page, one message for all causes
GET  /sign-in/code   six digits
POST /sign-in/code   right: a session with a new token; wrong five times: back to the start
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from aaa import mfa
from aaa.models import User
from aaa.users import verify_password
from core.audit import record
from web import browser_sessions, pending, throttle
from web.access import ROLES, Permission, requires, safe_next, visitor
from web.browser_name import browser_name
from web.context import record_sign_in, remote_address, runtime
from web.cookies import THEME_COOKIE, THEMES, set_cookie
from web.forms import Code, Form, FormError, Line, OptionalLine, Password, read_form
from web.models import PendingSignIn
from web.second_factor import is_used, used_code_message

signin = Blueprint("signin", __name__)

WRONG = "Name or password is not right."
_THEME_COOKIE_S = 365 * 24 * 3600


class PasswordForm(Form):
    """The first step."""

    name: Line
    password: Password
    next: OptionalLine = ""


class CodeForm(Form):
    """The second step."""

    code: Code


class ThemeForm(Form):
    """The switch between light and dark."""

    theme: Line
    back: OptionalLine = ""


@signin.get("/sign-in")
@requires(Permission.PUBLIC)
def password() -> ResponseReturnValue:
    """Ask for name and password, where nobody is signed in."""
    if g.visitor is not None:
        return redirect(safe_next(request.args.get("next", "")))
    return render_template("signin/password.html", next=request.args.get("next", ""))


@signin.post("/sign-in")
@requires(Permission.PUBLIC)
def check_password() -> ResponseReturnValue:
    """Check name and password; who fails learns neither which was wrong nor who exists."""
    try:
        form = read_form(PasswordForm)
    except FormError:
        return _password_page(WRONG, 400)
    name, address = form.name.lower(), remote_address()
    with runtime().database.reading() as session:
        wait_s = throttle.wait_s(session, name, address)
        user = session.get(User, name)
    if wait_s:
        return _password_page(_too_many(wait_s), 429)
    # Outside of any transaction: the hash takes a tenth of a second, and as long for a user that does not exist.
    matches = verify_password(user, form.password)
    if user is None or not matches or user.role not in ROLES or user.encrypted_totp_secret is None:
        _record_failure(name, _why_not(user, matches))
        return _password_page(WRONG, 401)
    with runtime().database.transaction() as session:
        token = pending.begin_code(session, user.name, safe_next(form.next) if form.next else "")
    response = redirect(url_for("signin.code"))
    pending.hand_over(response, token)
    return response


@signin.get("/sign-in/code")
@requires(Permission.PUBLIC)
def code() -> ResponseReturnValue:
    """Ask for the second factor."""
    with runtime().database.reading() as session:
        if pending.current(session, enrolment=False) is None:
            return redirect(url_for("signin.password"))
    return render_template("signin/code.html")


@dataclass(frozen=True, slots=True)
class _Refused:
    message: str
    start_again: bool = False


@signin.post("/sign-in/code")
@requires(Permission.PUBLIC)
def check_code() -> ResponseReturnValue:
    """Check the second factor and open a session."""
    try:
        typed = read_form(CodeForm).code
    except FormError:
        typed = ""
    with runtime().database.reading() as session:
        row = pending.current(session, enrolment=False)
        if row is None:
            return redirect(url_for("signin.password"))
        wait_s = throttle.wait_s(session, row.user_name, remote_address())
    if wait_s:
        return _code_page(_too_many(wait_s), 429)
    outcome = _second_step(row, typed)
    if isinstance(outcome, _Refused):
        return _password_page(outcome.message, 401) if outcome.start_again else _code_page(outcome.message, 401)
    response = redirect(row.next_path or url_for("overview.show"))
    pending.take_back(response)
    browser_sessions.hand_over(response, outcome)
    return response


def _second_step(row: PendingSignIn, typed: str) -> str | _Refused:
    """One transaction: the code, the failure counts, the session, the audit event. Returns the session's token."""
    address = remote_address()
    with runtime().database.transaction() as session:
        waiting = session.get(PendingSignIn, row.token_hash)
        user = session.get(User, row.user_name)
        if waiting is None or user is None or user.disabled or user.role not in ROLES:
            return _Refused(WRONG, start_again=True)
        if mfa.verify_totp(session, runtime().box, user, typed):
            session.delete(waiting)
            throttle.forget(session, user.name, address)
            record_sign_in(session, user.name, outcome="success", reason="password and code")
            return browser_sessions.open_session(session, user, browser_name(request.user_agent.string))
        if is_used(user, typed):
            return _Refused(used_code_message())
        waiting.failures += 1
        closed = throttle.add_failure(session, user.name, address)
        record_sign_in(session, user.name, outcome="refused", reason="wrong code" + _closing(closed))
        if waiting.failures >= pending.CODE_ATTEMPTS or closed:
            session.delete(waiting)
            return _Refused("Too many wrong codes. Start again.", start_again=True)
        return _Refused("That code is not right. Type the one that shows now.")


@signin.post("/sign-out")
@requires(Permission.SEE)
def sign_out() -> ResponseReturnValue:
    """End this browser's session."""
    with runtime().database.transaction() as session:
        browser_sessions.end_session(session, visitor().session_id)
        record(session, visitor().actor, "console.sign-out", "console:portal", detail={"address": remote_address()})
    response = redirect(url_for("signin.password"))
    browser_sessions.take_back(response)
    return response


@signin.post("/theme")
@requires(Permission.PUBLIC)
def choose_theme() -> ResponseReturnValue:
    """Keep the choice between light, dark and the system's own in a cookie."""
    try:
        form = read_form(ThemeForm)
    except FormError:
        form = ThemeForm(theme=THEMES[0])
    response = redirect(safe_next(form.back))
    if form.theme in THEMES:
        set_cookie(response, THEME_COOKIE, form.theme, max_age_s=_THEME_COOKIE_S)
    return response


def _record_failure(name: str, reason: str) -> None:
    with runtime().database.transaction() as session:
        closed = throttle.add_failure(session, name, remote_address())
        record_sign_in(session, name, outcome="refused", reason=reason + _closing(closed))


def _why_not(user: User | None, matches: bool) -> str:
    """For the audit log; the person in front of the page is never told."""
    if user is None:
        return "unknown user"
    if user.disabled:
        return "user is disabled"
    if not matches:
        return "wrong password"
    return "no role in the console" if user.role not in ROLES else "no second factor is enrolled"


def _closing(closed: bool) -> str:
    return "; further attempts are refused for a while" if closed else ""


def _too_many(wait_s: float) -> str:
    minutes = int(wait_s // 60) + 1
    return f"Too many attempts. Try again in {minutes} minute{'s' if minutes != 1 else ''}."


def _password_page(message: str, status: int) -> Response:
    page = render_template(
        "signin/password.html",
        next=request.form.get("next", ""),
        name=request.form.get("name", "")[:128],
        message=message,
    )
    return make_response(page, status)


def _code_page(message: str, status: int) -> Response:
    return make_response(render_template("signin/code.html", message=message), status)
