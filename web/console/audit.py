"""The audit log: filtered, turned by pages, and whether its chain is whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from threading import Lock
from typing import Annotated, Any, Literal

from flask import Blueprint, current_app, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, Field
from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from core.audit import AuditError, AuditEvent, newest_hash, verify_chain
from core.clock import utc_now
from posture.models import Device
from web.access import Permission, requires
from web.console.handshakes import explained_sign_ins
from web.context import runtime
from web.forms import Form, FormError, OptionalLine, read_query

audit = Blueprint("audit", __name__)

PAGE = 50
CHECK_AFTER = timedelta(seconds=60)
CHECK_AT_ONCE = 20_000
"""Up to so many events the page itself checks the chain (a fraction of a second); more are checked on request."""
_LOCK = Lock()


def _none_if_empty(value: Any) -> Any:
    return value or None


OptionalDate = Annotated[date | None, BeforeValidator(_none_if_empty), Field(lt=date.max)]


class EventFilter(Form):
    """What the page shows."""

    q: OptionalLine = ""
    action: OptionalLine = ""
    outcome: Literal["", "success", "refused", "failed"] = ""
    since: OptionalDate = None
    until: OptionalDate = None
    before: Annotated[int | None, BeforeValidator(_none_if_empty), Field(ge=1, lt=1 << 63)] = None

    def to_query(self) -> dict[str, str]:
        """As the query of an address, without what is empty and without the page."""
        return {name: str(value) for name, value in self.model_dump(exclude={"before"}).items() if value}

    def address(self, **page: int) -> str:
        """The address of the log so filtered, on the page given."""
        values: dict[str, Any] = {**self.to_query(), **page}
        return url_for("audit.show", **values)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the last check of the chain found."""

    whole: bool
    events: int
    newest_hash: str
    checked_at: datetime
    problem: str = ""


@audit.get("/audit")
@requires(Permission.SEE)
def show() -> ResponseReturnValue:
    """One page of events."""
    errors: dict[str, str] = {}
    try:
        wanted = read_query(EventFilter)
    except FormError as error:
        wanted, errors = EventFilter(), error.errors
    with runtime().database.reading() as session:
        found = session.scalars(_query(wanted)).all()
        shown = found[:PAGE]
        actions = session.scalars(select(AuditEvent.action).distinct().order_by(AuditEvent.action)).all()
        device_ids = _device_ids(session, [event.target for event in shown])
        explained_ids = explained_sign_ins(session, shown)
        chain = _chain(session)
    older = wanted.address(before=shown[-1].id) if len(found) > PAGE else None
    return render_template(
        "console/audit.html",
        filter=wanted,
        filtered=bool(wanted.to_query()),
        errors=errors,
        events=shown,
        actions=actions,
        device_ids=device_ids,
        explained_ids=explained_ids,
        chain=chain,
        newer_url=wanted.address() if wanted.before else None,
        older_url=older,
    )


@audit.post("/audit/verify")
@requires(Permission.SEE)
def verify() -> ResponseReturnValue:
    """Check the whole chain again now."""
    with runtime().database.reading() as session:
        chain = _check(session)
    if chain.whole:
        flash(f"All {chain.events:,} events were checked; the chain is whole.")
    return redirect(url_for("audit.show"))


def _query(wanted: EventFilter) -> Select[AuditEvent]:
    query = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(PAGE + 1)
    if wanted.q:
        columns = (AuditEvent.actor, AuditEvent.target, AuditEvent.reason)
        query = query.where(or_(*(column.icontains(wanted.q, autoescape=True) for column in columns)))
    if wanted.action:
        query = query.where(AuditEvent.action == wanted.action)
    if wanted.outcome:
        query = query.where(AuditEvent.outcome == wanted.outcome)
    if wanted.since:
        query = query.where(AuditEvent.at >= datetime.combine(wanted.since, time(), UTC))
    if wanted.until:
        query = query.where(AuditEvent.at < datetime.combine(wanted.until, time(), UTC) + timedelta(days=1))
    if wanted.before:
        query = query.where(AuditEvent.id < wanted.before)
    return query


def _device_ids(session: Session, targets: list[str]) -> dict[str, str]:
    names = {target.partition(":")[2] for target in targets if target.startswith("device:")}
    rows = session.execute(select(Device.name, Device.id).where(Device.name.in_(names)))
    return dict(rows.all())


def _chain(session: Session) -> Chain:
    """The last finding where it is young enough, else a new one."""
    known: Chain | None = current_app.extensions.get("ostiary.chain")
    if known is not None and utc_now() - known.checked_at < CHECK_AFTER:
        return known
    count = session.scalar(select(func.max(AuditEvent.id))) or 0
    if known is not None and count > CHECK_AT_ONCE:
        return known
    return _check(session)


def _check(session: Session) -> Chain:
    # One check at a time: several would only keep all threads busy with the same work.
    with _LOCK:
        found = Chain(True, 0, newest_hash(session).hex(), utc_now())
        try:
            found = replace(found, events=verify_chain(session))
        except AuditError as error:
            found = replace(found, whole=False, problem=error.message)
        current_app.extensions["ostiary.chain"] = found
        return found
