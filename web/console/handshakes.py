"""Handshakes that failed or were slow, each explained, and how many there were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from flask import Blueprint, abort, render_template, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, Field
from sqlalchemy.orm import Session

from aaa.handshakes import (
    HandshakeFilter,
    HandshakeTotal,
    advice_and_command,
    count_handshakes,
    counted_since,
    explained,
    get_handshake,
    known_values,
    recent_handshakes,
)
from core.audit import AuditEvent
from core.clock import utc_now
from core.errors import NotFoundError
from web.access import Permission, requires
from web.context import runtime
from web.forms import Form, FormError, OptionalLine, read_query

handshakes = Blueprint("handshakes", __name__)

PAGE = 30
LAST_PAGE = 1000
_LISTED_KINDS = 8


def _none_if_empty(value: Any) -> Any:
    return value or None


class ExplanationFilter(Form):
    """What the page shows."""

    client: OptionalLine = ""
    remote: OptionalLine = ""
    identity: OptionalLine = ""
    code: OptionalLine = ""
    cause: OptionalLine = ""
    outcome: Literal["", "failed", "slow"] = ""
    since: Annotated[date | None, BeforeValidator(_none_if_empty)] = None
    days: Literal["1", "7", "30"] = "1"
    """Of the counters."""
    page: Annotated[int, Field(ge=1, le=LAST_PAGE)] = 1

    def to_query(self, **changes: object) -> dict[str, str]:
        """As the query of an address, without what is empty or as it is by itself."""
        values = {**self.model_dump(exclude={"page"}), **changes}
        return {name: str(value) for name, value in values.items() if value and (name, value) != ("days", "1")}

    def to_filter(self) -> HandshakeFilter:
        """As what is asked of the database."""
        since = datetime.combine(self.since, time(), UTC) if self.since is not None else None
        return HandshakeFilter(
            client=self.client,
            remote=self.remote,
            identity=self.identity,
            code=self.code,
            cause=self.cause,
            outcome=self.outcome,
            since=since,
        )

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return bool(set(self.to_query()) - {"days"})

    def address(self, **changes: object) -> str:
        """The address of the page so filtered."""
        return url_for("handshakes.show_all", **self.to_query(**changes))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Counts:
    """Handshakes of some days."""

    established: int
    slow: int
    failed: int
    kinds: Sequence[HandshakeTotal]
    """Those that failed or were slow, the most frequent first."""
    more_kinds: int
    since: date


@handshakes.get("/handshakes")
@requires(Permission.SEE)
def show_all() -> ResponseReturnValue:
    """Counters, and one page of explanations."""
    errors: dict[str, str] = {}
    try:
        wanted = read_query(ExplanationFilter)
    except FormError as error:
        wanted, errors = ExplanationFilter(), error.errors
    with runtime().database.reading() as session:
        offset = (wanted.page - 1) * PAGE
        found = recent_handshakes(session, wanted.to_filter(), limit=PAGE + 1, offset=offset)
        causes, clients = known_values(session)
        counts = _counts(session, int(wanted.days))
    is_last = len(found) <= PAGE or wanted.page == LAST_PAGE
    return render_template(
        "console/handshakes.html",
        filter=wanted,
        errors=errors,
        rows=found[:PAGE],
        causes=causes,
        clients=clients,
        counts=counts,
        newer_url=wanted.address() if wanted.page > 1 else None,
        older_url=None if is_last else wanted.address(page=wanted.page + 1),
    )


@handshakes.get("/handshakes/<string:reference>")
@requires(Permission.SEE)
def show(reference: str) -> ResponseReturnValue:
    """One explanation, by its number or by the id of the sign-in."""
    with runtime().database.reading() as session:
        try:
            row = get_handshake(session, reference)
        except NotFoundError:
            abort(404)
    return render_template(
        "console/handshake.html", row=row, advice=[advice_and_command(step) for step in row.advice]
    )


def explained_sign_ins(session: Session, events: Iterable[AuditEvent]) -> set[str]:
    """The ids of those sign-ins among the events that there is a page about."""
    return explained(session, [str(found) for event in events if (found := event.detail.get("sign_in_id"))])


def _counts(session: Session, days: int) -> Counts:
    first = utc_now().astimezone(UTC).date() - timedelta(days=days - 1)
    totals = count_handshakes(session, first)
    by_outcome = {"established": 0, "slow": 0, "failed": 0}
    for total in totals:
        by_outcome[total.outcome] = by_outcome.get(total.outcome, 0) + total.count
    kinds = [total for total in totals if total.outcome != "established"]
    return Counts(
        established=by_outcome["established"],
        slow=by_outcome["slow"],
        failed=by_outcome["failed"],
        kinds=kinds[:_LISTED_KINDS],
        more_kinds=max(0, len(kinds) - _LISTED_KINDS),
        since=max(first, counted_since(session) or first),
    )
