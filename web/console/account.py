"""One's own account: password, second factor, and where one is signed in."""

from __future__ import annotations

from flask import Blueprint, flash, make_response, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from aaa import mfa
from aaa.models import User
from aaa.users import SHORTEST_PASSWORD, set_password, verify_password
from core.audit import record
from core.secrets import Secret
from web import browser_sessions, second_factor, throttle
from web.access import Permission, requires, visitor
from web.context import remote_address, runtime
from web.forms import Code, Form, FormError, Password, read_form
from web.models import ConsoleSession
from web.qr import qr_svg
from web.signin.enrolment import check_password

account = Blueprint("account", __name__)


class PasswordChangeForm(Form):
    """The old password, and the new one twice."""

    old: Password
    password: Password
    repeated: Password


class CodeForm(Form):
    """One code."""

    code: Code


@account.get("/account")
@requires(Permission.SEE)
def show() -> ResponseReturnValue:
    """The page."""
    return _page({})


@account.post("/account/password")
@requires(Permission.SEE)
def change_password() -> ResponseReturnValue:
    """Change it, and sign out every other browser."""
    who = visitor()
    try:
        form = read_form(PasswordChangeForm)
        _check_old(form.old)
        check_password(form.password, form.repeated, who.user_name)
    except FormError as error:
        return _page(error.errors)
    with runtime().database.transaction() as session:
        set_password(session, session.get_one(User, who.user_name), form.password, who.actor)
        browser_sessions.end_sessions_of(session, who.user_name, but=who.session_id)
    flash("The password is changed. Other browsers are signed out.")
    return redirect(url_for("account.show"))


@account.post("/account/second-factor")
@requires(Permission.SEE)
def begin_totp() -> ResponseReturnValue:
    """The present app's code was right: make a new secret to enrol."""
    try:
        second_factor.check(read_form(CodeForm).code)
    except second_factor.CodeRefusedError as error:
        return _page({"code": error.message})
    except FormError as error:
        return _page(error.errors)
    secret = Secret(mfa.new_totp_secret().encode())
    with runtime().database.transaction() as session:
        session.get_one(ConsoleSession, visitor().session_id).encrypted_new_totp_secret = runtime().box.encrypt(
            secret
        )
    return redirect(url_for("account.new_totp"))


@account.get("/account/second-factor")
@requires(Permission.SEE)
def new_totp() -> ResponseReturnValue:
    """Show the new secret."""
    secret = _new_secret()
    return redirect(url_for("account.show")) if secret is None else _totp_page(secret, {})


@account.post("/account/second-factor/confirm")
@requires(Permission.SEE)
def confirm_totp() -> ResponseReturnValue:
    """The new app's code was right: it is the second factor from now on."""
    secret, who = _new_secret(), visitor()
    if secret is None or not second_factor.is_fresh():
        return redirect(url_for("account.show"))
    try:
        code = read_form(CodeForm).code
        with runtime().database.transaction() as session:
            user = session.get_one(User, who.user_name)
            mfa.enrol_totp(session, runtime().box, user, secret, code, who.actor)
            session.get_one(ConsoleSession, who.session_id).encrypted_new_totp_secret = None
            browser_sessions.end_sessions_of(session, who.user_name, but=who.session_id)
    except (FormError, mfa.MfaError):
        return _totp_page(secret, {"code": "That code does not fit. Type the one that the new app shows now."})
    flash("The new app is your second factor. Other browsers are signed out.")
    return redirect(url_for("account.show"))


@account.post("/account/sign-out-everywhere")
@requires(Permission.SEE)
def sign_out_everywhere() -> ResponseReturnValue:
    """End every session of this person, this one too."""
    who = visitor()
    with runtime().database.transaction() as session:
        count = browser_sessions.end_sessions_of(session, who.user_name)
        record(
            session, who.actor, "console.sign-out", "console:portal", reason="everywhere", detail={"browsers": count}
        )
    response = redirect(url_for("signin.password"))
    browser_sessions.take_back(response)
    return response


def _check_old(old: str) -> None:
    who, address = visitor(), remote_address()
    with runtime().database.reading() as session:
        user = session.get_one(User, who.user_name)
        wait_s = throttle.wait_s(session, who.user_name, address)
    if wait_s:
        raise FormError({"old": "Too many attempts. Try again in a few minutes."})
    if verify_password(user, old):
        return
    with runtime().database.transaction() as session:
        throttle.add_failure(session, who.user_name, address)
        record(
            session,
            who.actor,
            "user.set-password",
            f"user:{who.user_name}",
            outcome="refused",
            reason="the password until now was wrong",
            detail={"address": address},
        )
    raise FormError({"old": "That is not the password until now."})


def _new_secret() -> str | None:
    with runtime().database.reading() as session:
        token = session.get_one(ConsoleSession, visitor().session_id).encrypted_new_totp_secret
    return runtime().box.decrypt(token).reveal().decode() if token else None


def _page(errors: dict[str, str]) -> ResponseReturnValue:
    with runtime().database.reading() as session:
        browsers = browser_sessions.sessions_of(session, visitor().user_name)
    page = render_template("console/account.html", browsers=browsers, shortest=SHORTEST_PASSWORD, errors=errors)
    return make_response(page, 400 if errors else 200)


def _totp_page(secret: str, errors: dict[str, str]) -> ResponseReturnValue:
    uri = mfa.totp_uri(User(name=visitor().user_name), secret)
    page = render_template("console/account_totp.html", qr=qr_svg(uri), secret=secret, errors=errors)
    return make_response(page, 400 if errors else 200)
