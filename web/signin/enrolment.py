"""From a one-time link to an account with two factors.

GET  /first-run/TOKEN, /invitation/TOKEN   choose name and password
POST the same                              a pending enrolment: nothing is made yet
GET  /enrolment                            the QR code
POST /enrolment                            the first code was right: the account is made, the link is used up
"""

from __future__ import annotations

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from aaa import mfa
from aaa.models import User
from aaa.users import LONGEST_PASSWORD, SHORTEST_PASSWORD, UserError, create_user, set_password, set_role
from core.audit import Actor
from core.clock import utc_now
from core.errors import ConflictError
from web import browser_sessions, invitations, pending
from web.access import ROLE_MEANINGS, Permission, requires
from web.browser_name import browser_name
from web.context import record_sign_in, runtime
from web.forms import Code, Form, FormError, Line, OptionalLine, Password, read_form
from web.models import Invitation, PendingSignIn
from web.qr import qr_svg

enrolment = Blueprint("enrolment", __name__)


class AccountForm(Form):
    """Who the guest is going to be."""

    name: Line
    display_name: OptionalLine = ""
    password: Password
    repeated: Password


class CodeForm(Form):
    """The first code of the new second factor."""

    code: Code


def check_password(password: str, repeated: str, name: str) -> None:
    """The password policy: long, typed the same twice, and not made of the name.

    Raises:
        FormError: what to do better, beside its field.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise FormError(
            {"password": f"Use {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; a sentence is fine."}
        )
    short_name = name.lower().partition("@")[0]
    if len(short_name) >= 3 and short_name in password.lower():
        raise FormError({"password": "Leave your name out of the password."})
    if len(set(password)) < 5:
        raise FormError({"password": "Use more different characters."})
    if password != repeated:
        raise FormError({"repeated": "The two passwords differ."})


@enrolment.get("/first-run/<string:token>")
@enrolment.get("/invitation/<string:token>")
@requires(Permission.PUBLIC)
def account(token: str) -> ResponseReturnValue:
    """Ask the guest for name and password."""
    with runtime().database.reading() as session:
        invitation = invitations.find(session, token)
        existing = session.get(User, invitation.user_name) if invitation and invitation.user_name else None
    if invitation is None:
        return _dead_link()
    return _account_page(invitation, existing)


@enrolment.post("/first-run/<string:token>")
@enrolment.post("/invitation/<string:token>")
@requires(Permission.PUBLIC)
def choose_account(token: str) -> ResponseReturnValue:
    """Keep name and password until the second factor is there."""
    with runtime().database.reading() as session:
        invitation = invitations.find(session, token)
        existing = session.get(User, invitation.user_name) if invitation and invitation.user_name else None
    if invitation is None:
        return _dead_link()
    try:
        form = read_form(AccountForm)
        name = invitation.user_name or form.name.lower()
        check_password(form.password, form.repeated, name)
        _check_name(invitation, name)
    except FormError as error:
        return _account_page(invitation, existing, error.errors)
    with runtime().database.transaction() as session:
        again = invitations.find(session, token)
        if again is None:
            return _dead_link()
        pending_token = pending.begin_enrolment(
            session, again, name, form.display_name, form.password, mfa.new_totp_secret()
        )
    response = redirect(url_for("enrolment.second_factor"))
    pending.hand_over(response, pending_token)
    return response


@enrolment.get("/enrolment")
@requires(Permission.PUBLIC)
def second_factor() -> ResponseReturnValue:
    """Show the secret as QR code and as text."""
    with runtime().database.reading() as session:
        row = pending.current(session, enrolment=True)
    return _dead_link() if row is None else _second_factor_page(row)


@enrolment.post("/enrolment")
@requires(Permission.PUBLIC)
def confirm() -> ResponseReturnValue:
    """Make the account when the code shows that the authenticator app has the secret."""
    with runtime().database.reading() as session:
        row = pending.current(session, enrolment=True)
    if row is None:
        return _dead_link()
    try:
        typed = read_form(CodeForm).code
        with runtime().database.transaction() as session:
            token = _make_account(session, row, typed)
    except FormError:
        return _second_factor_page(row, "Type the six digits that your authenticator app shows now.")
    except mfa.MfaError:
        return _second_factor_page(row, "That code does not fit. Type the one that shows now.")
    if token is None:
        return _dead_link()
    response = redirect(url_for("overview.show"))
    pending.take_back(response)
    browser_sessions.hand_over(response, token)
    return response


def _make_account(session: Session, row: PendingSignIn, typed: str) -> str | None:
    """All or nothing: user, role, password, second factor, the used link and the session. None for a dead link."""
    waiting = session.get(PendingSignIn, row.token_hash)
    invitation = session.get(Invitation, row.invitation_id, with_for_update=True)
    if waiting is None or invitation is None or not invitations.is_open(session, invitation):
        return None
    actor = Actor("user", row.user_name)
    user = _user_for(session, invitation, row.user_name, row.display_name, actor)
    set_password(session, user, pending.password_of(row), actor)
    mfa.enrol_totp(session, runtime().box, user, pending.totp_secret_of(row), typed, actor)
    invitation.used_at = utc_now()
    session.delete(waiting)
    browser_sessions.end_sessions_of(session, user.name)
    record_sign_in(session, user.name, outcome="success", reason="account set up by a one-time link")
    return browser_sessions.open_session(session, user, browser_name(request.user_agent.string))


def _user_for(session: Session, invitation: Invitation, name: str, display_name: str, actor: Actor) -> User:
    """The invited user: made anew, or the one that the invitation named."""
    existing = session.get(User, name) if invitation.user_name else None
    if existing is None:
        return create_user(session, name, display_name=display_name, role=invitation.role, actor=actor)
    set_role(session, existing, invitation.role, actor)
    if display_name:
        existing.display_name = display_name
    return existing


def _check_name(invitation: Invitation, name: str) -> None:
    """Refuse a name that is taken or can't be used now, and not only after the second factor.

    Raises:
        FormError: beside the name.
    """
    if invitation.user_name:
        return
    try:
        with runtime().database.transaction() as session:
            invitations.check_new_name(session, name)
    except UserError as error:
        raise FormError.of(error, "name") from None
    except ConflictError:
        raise FormError({"name": "This name is taken."}) from None


def _account_page(invitation: Invitation, existing: User | None, errors: dict[str, str] | None = None) -> Response:
    page = render_template(
        "signin/account.html",
        invitation=invitation,
        role_meaning=ROLE_MEANINGS[invitation.role],
        existing=existing,
        name=request.form.get("name", "")[:128],
        display_name=request.form.get("display_name", existing.display_name if existing else "")[:128],
        shortest=SHORTEST_PASSWORD,
        errors=errors or {},
    )
    return make_response(page, 400 if errors else 200)


def _second_factor_page(row: PendingSignIn, message: str = "") -> Response:
    secret = pending.totp_secret_of(row)
    page = render_template(
        "signin/second_factor.html",
        qr=qr_svg(mfa.totp_uri(User(name=row.user_name), secret)),
        secret=secret,
        user_name=row.user_name,
        message=message,
    )
    return make_response(page, 400 if message else 200)


def _dead_link() -> Response:
    return make_response(render_template("signin/dead_link.html"), 404)
