"""Add a device, give it a new access code, revoke it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from aaa.devices import add_device, renew_access_code
from aaa.enforcement import revoke_device
from aaa.enrolment.profile import FILES, profile_kind
from aaa.enrolment.target import target_for
from aaa.models import AccessCode
from aaa.sessions import known_gateways, sessions_of_device
from aaa.users import list_users
from core.clock import utc_now
from core.errors import ConflictError, OstiaryError
from posture.models import Device
from web import second_factor
from web.access import Permission, requires, visitor
from web.console.devices import device_page, find_device, valid_certificates
from web.console.instructions import PLATFORMS, instructions
from web.console.records import await_stops
from web.context import runtime
from web.forms import Form, FormError, Line, Reason, read_form
from web.trust import DER_FILE, PEM_FILE

device_changes = Blueprint("device_changes", __name__)

CAUSES = ("Lost or stolen", "Owner has left", "Compromised", "Replaced or retired", "Other")


class AddForm(Form):
    """A new device."""

    owner: Line
    name: Line
    platform: Literal["Windows", "macOS", "iOS", "Android", "Linux"]


class RevokeForm(Form):
    """Why a device is revoked."""

    cause: Literal["Lost or stolen", "Owner has left", "Compromised", "Replaced or retired", "Other"]
    note: Reason = ""

    @property
    def reason(self) -> str:
        """Cause and note as one sentence for the audit log."""
        return f"{self.cause}: {self.note}" if self.note else self.cause


@device_changes.get("/devices/add")
@requires(Permission.ADMINISTER)
def add() -> ResponseReturnValue:
    """The form."""
    return _add_page({})


@device_changes.post("/devices/add")
@requires(Permission.ADMINISTER)
def confirm_add() -> ResponseReturnValue:
    """Add it, and show the access code this once."""
    try:
        form = read_form(AddForm)
        second_factor.demand()
        added = add_device(runtime(), form.owner, form.name, form.platform, visitor().actor)
    except second_factor.CodeRefusedError as error:
        return _add_page({"code": error.message})
    except FormError as error:
        return _add_page(error.errors)
    except OstiaryError as error:
        return _add_page(FormError.of(error, "name").errors)
    return _code_page(added.device, added.access_code, added.expires_at)


@device_changes.get("/devices/<string:device_id>/access-code")
@requires(Permission.ADMINISTER)
def renew_code(device_id: str) -> ResponseReturnValue:
    """Ask whether it is meant."""
    return _renew_page(device_id, {})


@device_changes.post("/devices/<string:device_id>/access-code")
@requires(Permission.ADMINISTER)
def confirm_renew_code(device_id: str) -> ResponseReturnValue:
    """Make a new code, and show it this once."""
    with runtime().database.reading() as session:
        device = find_device(session, device_id)
    try:
        second_factor.demand()
        renewed = renew_access_code(runtime(), device_id, visitor().actor)
    except second_factor.CodeRefusedError as error:
        return _renew_page(device_id, {"code": error.message})
    except OstiaryError as error:
        return _renew_page(device_id, FormError.of(error).errors)
    return _code_page(device, renewed.code, renewed.expires_at)


@device_changes.get("/devices/<string:device_id>/revoke")
@requires(Permission.REVOKE)
def revoke(device_id: str) -> ResponseReturnValue:
    """Show what will happen, and ask why."""
    with runtime().database.reading() as session:
        device = find_device(session, device_id)
    if device.state == "revoked":
        return redirect(url_for("devices.show", device_id=device_id))
    return _revoke_page(device_id, {})


@device_changes.post("/devices/<string:device_id>/revoke")
@requires(Permission.REVOKE)
def confirm_revoke(device_id: str) -> ResponseReturnValue:
    """Revoke it now, and show what each gateway answered and how fast."""
    with runtime().database.reading() as session:
        device = find_device(session, device_id)
    try:
        form = read_form(RevokeForm)
        second_factor.demand()
        enforcement = revoke_device(runtime(), device_id, form.reason, visitor().actor)
    except second_factor.CodeRefusedError as error:
        return _revoke_page(device_id, {"code": error.message})
    except FormError as error:
        return _revoke_page(device_id, error.errors)
    except ConflictError:
        return redirect(url_for("devices.show", device_id=device_id))
    except OstiaryError as error:
        return _revoke_page(device_id, FormError.of(error).errors)
    await_stops(enforcement, lambda session: bool(sessions_of_device(session, device_id, live_only=True)))
    return device_page(device_id, enforcement=enforcement, enforcement_title=f"{device.name} is revoked")


def _add_page(errors: dict[str, str]) -> ResponseReturnValue:
    with runtime().database.reading() as session:
        users = [user for user in list_users(session) if not user.disabled]
    page = render_template(
        "console/device_add.html",
        users=users,
        platforms=PLATFORMS,
        values=request.form or {"owner": request.args.get("owner", "")},
        errors=errors,
        code_lifetime=_code_lifetime(),
    )
    return make_response(page, 400 if errors else 200)


def _code_page(device: Device, access_code: str, expires_at: datetime) -> ResponseReturnValue:
    with runtime().database.reading() as session:
        target = target_for(session, runtime(), device)
    how = instructions(device.platform, target)
    kind = profile_kind(device.platform)
    return render_template(
        "console/device_code.html",
        device=device,
        access_code=access_code,
        expires_at=expires_at,
        identity=target.identity,
        addresses=[str(address) for address in runtime().settings.gateway.public_addresses],
        platform=device.platform,
        trust_step=how.trust_step,
        steps=how.steps,
        command=how.command,
        profile_file=FILES[kind] if kind is not None else "",
        pem_file=PEM_FILE,
        der_file=DER_FILE,
    )


def _renew_page(device_id: str, errors: dict[str, str]) -> ResponseReturnValue:
    with runtime().database.reading() as session:
        device = find_device(session, device_id)
    page = render_template("console/device_renew.html", device=device, errors=errors, code_lifetime=_code_lifetime())
    return make_response(page, 400 if errors else 200)


def _revoke_page(device_id: str, errors: dict[str, str]) -> ResponseReturnValue:
    now = utc_now()
    with runtime().database.reading() as session:
        device = find_device(session, device_id)
        code = session.get(AccessCode, device_id)
        page = render_template(
            "console/revoke.html",
            device=device,
            live=sessions_of_device(session, device_id, live_only=True),
            certificates=valid_certificates(session, device_id, now),
            access_code=code if code is not None and code.expires_at > now else None,
            gateways=known_gateways(session),
            causes=CAUSES,
            cause=request.form.get("cause", ""),
            note=request.form.get("note", ""),
            errors=errors,
        )
    return make_response(page, 400 if errors else 200)


def _code_lifetime() -> timedelta:
    return timedelta(seconds=runtime().settings.aaa.access_code_lifetime_s)
