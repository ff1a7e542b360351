"""The overview: counts, sign-ins by the hour, gateways, and the last refusals and changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from aaa.models import TunnelSession
from aaa.sessions import known_gateways
from core.audit import AuditEvent
from core.clock import utc_now
from posture.models import Device
from web.access import Permission, requires
from web.context import runtime

overview = Blueprint("overview", __name__)

HOURS = 24
UP_S = 90.0
"""A gateway says that it is there every 20 seconds, with or without sessions; three times unheard may be chance."""
_LISTED = 6
_BAR_WIDTH = 20
_CHART_HEIGHT = 100
_NETWORK_SIGN_INS = ("sign-in.accept", "sign-in.refuse")


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour of the chart, in the units of its SVG."""

    x: int
    label: str
    accepted: int
    refused: int
    accepted_height: float
    refused_height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Sign-ins of the last 24 hours."""

    bars: tuple[Bar, ...]
    accepted: int
    refused: int
    highest: int
    axis: tuple[str, ...]


@overview.get("/")
@requires(Permission.SEE)
def show() -> ResponseReturnValue:
    """The page."""
    return render_template("console/overview.html", **_facts())


@overview.get("/overview/live")
@requires(Permission.SEE)
def live() -> ResponseReturnValue:
    """The part of the page that refreshes."""
    return render_template("console/overview_fragment.html", **_facts())


def _facts() -> dict[str, Any]:
    now = utc_now()
    with runtime().database.reading() as session:
        day = AuditEvent.at > now - timedelta(hours=24)
        live_query = select(TunnelSession.gateway, func.count()).where(TunnelSession.ended_at.is_(None))
        live_by_gateway = dict(session.execute(live_query.group_by(TunnelSession.gateway)).all())
        device_counts = {"trusted": 0, "quarantined": 0, "revoked": 0}
        for state, count in session.execute(select(Device.state, func.count()).group_by(Device.state)):
            device_counts[state] = count
        users = select(func.count(TunnelSession.user_name.distinct())).where(TunnelSession.ended_at.is_(None))
        newest = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(_LISTED)
        return {
            "live_count": sum(live_by_gateway.values()),
            "user_count": session.scalar(users) or 0,
            "device_counts": device_counts,
            "refused_count": session.scalar(select(func.count()).where(day, AuditEvent.outcome == "refused")) or 0,
            "event_count": session.scalar(select(func.max(AuditEvent.id))) or 0,
            "chart": sign_in_chart(session, now),
            "gateways": [
                SimpleNamespace(
                    name=gateway.name,
                    data_plane=gateway.data_plane,
                    last_seen_at=gateway.last_seen_at,
                    is_up=(now - gateway.last_seen_at).total_seconds() < UP_S,
                    session_count=live_by_gateway.get(gateway.name, 0),
                )
                for gateway in known_gateways(session)
            ],
            "refusals": session.scalars(newest.where(AuditEvent.outcome == "refused")).all(),
            "changes": session.scalars(
                newest.where(AuditEvent.action.not_in(_NETWORK_SIGN_INS), AuditEvent.outcome != "refused")
            ).all(),
        }


def sign_in_chart(session: Session, now: datetime) -> Chart:
    """Count what the gateways accepted and refused, by the hour of the clock (UTC)."""
    last = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    first = last - timedelta(hours=HOURS - 1)
    accepted, refused = [0] * HOURS, [0] * HOURS
    # Counted where the events are: after a flood of refusals there are hundreds of thousands of them.
    hour = case(*((AuditEvent.at < first + timedelta(hours=n + 1), n) for n in range(HOURS - 1)), else_=HOURS - 1)
    counts = session.execute(
        select(AuditEvent.action, hour.label("bar"), func.count())
        .where(AuditEvent.at >= first, AuditEvent.action.in_(_NETWORK_SIGN_INS))
        .group_by(AuditEvent.action, "bar")
    )
    for action, bar, count in counts:
        (accepted if action == _NETWORK_SIGN_INS[0] else refused)[bar] = count
    highest = max(a + r for a, r in zip(accepted, refused, strict=True))
    scale = _CHART_HEIGHT / highest if highest else 0.0
    bars = tuple(
        Bar(
            x=hour * _BAR_WIDTH,
            label=f"{first + timedelta(hours=hour):%H:00}",
            accepted=accepted[hour],
            refused=refused[hour],
            accepted_height=round(accepted[hour] * scale, 1),
            refused_height=round(refused[hour] * scale, 1),
        )
        for hour in range(HOURS)
    )
    axis = tuple(f"{first + timedelta(hours=hour):%H:00}" for hour in range(0, HOURS, 6))
    return Chart(bars, sum(accepted), sum(refused), highest, (*axis, "now"))
