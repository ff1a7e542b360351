"""Users: add, give a role, invite, disable. All of it for administrators."""

from __future__ import annotations

from typing import Literal

from flask import Blueprint, abort, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from aaa.enforcement import disable_user
from aaa.models import User
from aaa.users import create_user, list_users, set_disabled, set_role
from core.errors import OstiaryError
from posture.models import Device
from web import browser_sessions, invitations, second_factor
from web.access import ROLE_MEANINGS, Permission, requires, visitor
from web.console.confirmation import confirmation_page
from web.context import runtime
from web.forms import Form, FormError, Line, OptionalLine, Reason, read_form

users = Blueprint("users", __name__)

Role = Literal["", "administrator", "security", "auditor"]
LAST_ADMINISTRATOR = "This is the last administrator who can sign in. Make another one first."


class AddForm(Form):
    """A new user."""

    name: Line
    display_name: OptionalLine = ""
    groups: OptionalLine = ""
    role: Role = ""


class RoleForm(Form):
    """Another role."""

    role: Role


class StateForm(Form):
    """Disable or enable."""

    state: Literal["disabled", "enabled"]
    reason: Reason = ""


@users.get("/users")
@requires(Permission.ADMINISTER)
def show_all() -> ResponseReturnValue:
    """The list."""
    with runtime().database.reading() as session:
        counts = session.execute(select(Device.owner, func.count()).group_by(Device.owner))
        return render_template(
            "console/users.html",
            users=list_users(session),
            device_counts=dict(counts.all()),
        )


@users.get("/add-user")
@requires(Permission.ADMINISTER)
def add() -> ResponseReturnValue:
    """The form."""
    return _add_page({})


@users.post("/add-user")
@requires(Permission.ADMINISTER)
def confirm_add() -> ResponseReturnValue:
    """Add the user; one with a role gets an invitation at once."""
    try:
        form = read_form(AddForm)
        second_factor.demand()
        groups = [group for group in (part.strip() for part in form.groups.split(",")) if group]
        link = None
        with runtime().database.transaction() as session:
            user = create_user(
                session,
                form.name,
                display_name=form.display_name,
                groups=groups,
                role=form.role or None,
                actor=visitor().actor,
            )
            if form.role:
                link = _invite(session, user)
    except second_factor.CodeRefusedError as error:
        return _add_page({"code": error.message})
    except FormError as error:
        return _add_page(error.errors)
    except OstiaryError as error:
        return _add_page(FormError.of(error, "name").errors)
    if link is not None:
        return render_template("console/invitation.html", user_name=user.name, link=link)
    flash(f"{user.name} was added.")
    return redirect(url_for("users.show_all"))


@users.get("/users/<string:name>")
@requires(Permission.ADMINISTER)
def edit(name: str) -> ResponseReturnValue:
    """One user."""
    return _edit_page(name, {})


@users.post("/users/<string:name>/role")
@requires(Permission.ADMINISTER)
def change_role(name: str) -> ResponseReturnValue:
    """Give another role, or none."""
    try:
        form = read_form(RoleForm)
        second_factor.demand()
        with runtime().database.transaction() as session:
            user = _find(session, name)
            set_role(session, user, form.role or None, visitor().actor)
            _keep_an_administrator(session)
            # An older link would give back the role that it was made for.
            invitations.withdraw(session, user.name)
            if user.role is None:
                browser_sessions.end_sessions_of(session, user.name)
    except second_factor.CodeRefusedError as error:
        return confirmation_page(error, url_for("users.edit", name=name))
    except FormError as error:
        return _edit_page(name, error.errors)
    flash(f"{name} is {f'now {form.role}' if form.role else 'without a console role now'}.")
    return redirect(url_for("users.edit", name=name))


@users.post("/users/<string:name>/invitation")
@requires(Permission.ADMINISTER)
def invite(name: str) -> ResponseReturnValue:
    """Make a link by which the user sets password and second factor, anew where they were set before."""
    try:
        second_factor.demand()
    except second_factor.CodeRefusedError as error:
        return confirmation_page(error, url_for("users.edit", name=name))
    with runtime().database.transaction() as session:
        user = _find(session, name)
        if user.role is None or user.disabled:
            abort(400)
        link = _invite(session, user)
    return render_template("console/invitation.html", user_name=user.name, link=link)


@users.post("/users/<string:name>/state")
@requires(Permission.ADMINISTER)
def change_state(name: str) -> ResponseReturnValue:
    """Disable or enable the user."""
    try:
        form = read_form(StateForm)
        if form.state == "disabled" and name == visitor().user_name:
            raise FormError({"": "You can't disable yourself. Ask another administrator."})
        second_factor.demand()
        message = _disable(name, form.reason) if form.state == "disabled" else _enable(name)
    except second_factor.CodeRefusedError as error:
        return confirmation_page(error, url_for("users.edit", name=name))
    except FormError as error:
        return _edit_page(name, error.errors)
    except OstiaryError as error:
        return _edit_page(name, FormError.of(error).errors)
    flash(message)
    return redirect(url_for("users.edit", name=name))


def _disable(name: str, reason: str) -> str:
    with runtime().database.reading() as session:
        _find(session, name)
        if not invitations.administrator_exists(session, but=name):
            raise FormError({"": LAST_ADMINISTRATOR})
    done = disable_user(runtime(), name, reason or "disabled in the console", visitor().actor)
    with runtime().database.transaction() as session:
        browser_sessions.end_sessions_of(session, name)
        invitations.withdraw(session, name)
    missing = [answer for each in done for answer in each.answers if not answer.acknowledged]
    silent = sorted({answer.gateway for answer in missing if answer.told})
    untold = sorted({answer.gateway for answer in missing if not answer.told})
    later = f" No answer yet from {', '.join(silent)}; asked again until there is one." if silent else ""
    later += f" Not told: {', '.join(untold)}; the sessions there end when their time is over." if untold else ""
    return f"{name} is disabled.{later}"


def _enable(name: str) -> str:
    with runtime().database.transaction() as session:
        set_disabled(session, _find(session, name), False, visitor().actor)
    return f"{name} is enabled."


def _keep_an_administrator(session: Session) -> None:
    """Roll back what would leave nobody to administer.

    Raises:
        FormError: it would.
    """
    session.flush()
    if not invitations.administrator_exists(session):
        raise FormError({"": LAST_ADMINISTRATOR})


def _invite(session: Session, user: User) -> str:
    role = user.role or ""  # refused as no role where there is none
    return invitations.invite(session, runtime(), role=role, user_name=user.name, actor=visitor().actor)


def _find(session: Session, name: str) -> User:
    user = session.get(User, name)
    if user is None:
        abort(404)
    return user


def _add_page(errors: dict[str, str]) -> ResponseReturnValue:
    page = render_template("console/user_add.html", values=request.form, roles=ROLE_MEANINGS, errors=errors)
    return make_response(page, 400 if errors else 200)


def _edit_page(name: str, errors: dict[str, str]) -> ResponseReturnValue:
    with runtime().database.reading() as session:
        user = _find(session, name)
    values = {"role": user.role or ""}
    page = render_template("console/user.html", user=user, values=values, roles=ROLE_MEANINGS, errors=errors)
    return make_response(page, 400 if errors else 200)
