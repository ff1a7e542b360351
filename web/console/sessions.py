"""Live and ended sessions, one session, and Disconnect."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from aaa.enforcement import disconnect_session
from aaa.models import TunnelSession
from aaa.sessions import get_session, live_sessions, recent_sessions
from core.errors import NotFoundError, OstiaryError
from posture.models import Device
from web import second_factor
from web.access import Permission, requires, visitor
from web.console.records import await_stops
from web.context import runtime
from web.forms import Form, FormError, Reason, read_form

sessions = Blueprint("sessions", __name__)

ENDED_LISTED = 20
DEFAULT_REASON = "disconnected in the console"


class DisconnectForm(Form):
    """Why a session is ended."""

    reason: Reason = ""


@sessions.get("/sessions")
@requires(Permission.SEE)
def show_all() -> ResponseReturnValue:
    """The page."""
    return render_template("console/sessions.html", **_facts())


@sessions.get("/sessions/live")
@requires(Permission.SEE)
def live() -> ResponseReturnValue:
    """The part of the page that refreshes."""
    return render_template("console/sessions_live_fragment.html", **_facts())


@sessions.get("/sessions/<string:session_id>")
@requires(Permission.SEE)
def show(session_id: str) -> ResponseReturnValue:
    """One session."""
    return _page("session", _find(session_id))


@sessions.get("/sessions/<string:session_id>/disconnect")
@requires(Permission.REVOKE)
def disconnect(session_id: str) -> ResponseReturnValue:
    """Ask whether it is meant."""
    row = _find(session_id)
    if row.ended_at is not None:
        return redirect(url_for("sessions.show", session_id=session_id))
    return _page("disconnect", row, reason="", errors={})


@sessions.post("/sessions/<string:session_id>/disconnect")
@requires(Permission.REVOKE)
def confirm_disconnect(session_id: str) -> ResponseReturnValue:
    """End it, and show what the gateway answered and how fast."""
    row = _find(session_id)
    try:
        form = read_form(DisconnectForm)
        second_factor.demand()
        enforcement = disconnect_session(runtime(), row.id, form.reason or DEFAULT_REASON, visitor().actor)
    except second_factor.CodeRefusedError as error:
        return _ask_again(row, {"code": error.message})
    except FormError as error:
        return _ask_again(row, error.errors)
    except OstiaryError as error:
        return _ask_again(row, FormError.of(error).errors)
    await_stops(enforcement, lambda session: get_session(session, row.id).ended_at is None)
    return _page(
        "session",
        _find(session_id),
        enforcement=enforcement,
        enforcement_title=f"{row.device_name} was disconnected",
    )


def _page(template: str, row: TunnelSession, **extra: Any) -> str:
    with runtime().database.reading() as session:
        # Another CA's certificate may let in a device that is not in the inventory, and has no page.
        has_device = session.get(Device, row.device_id) is not None
    return render_template(f"console/{template}.html", row=row, has_device=has_device, **extra)


def _ask_again(row: TunnelSession, errors: dict[str, str]) -> ResponseReturnValue:
    reason = request.form.get("reason", "")
    return make_response(_page("disconnect", row, reason=reason, errors=errors), 400)


def _find(session_id: str) -> TunnelSession:
    with runtime().database.reading() as session:
        try:
            return get_session(session, session_id)
        except NotFoundError:
            abort(404)


def _facts() -> dict[str, Any]:
    with runtime().database.reading() as session:
        ended = [row for row in recent_sessions(session, ENDED_LISTED * 5) if row.ended_at is not None]
        return {
            "live": live_sessions(session),
            "recent": sorted(ended, key=_ended_at, reverse=True)[:ENDED_LISTED],
            "gateway_identity": runtime().settings.gateway.identity,
        }


def _ended_at(row: TunnelSession) -> float:
    return row.ended_at.timestamp() if row.ended_at else 0.0
