"""Failed and slow handshakes as the gateways explained them, and how many there were: for whoever shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from aaa.models import HandshakeCounter, HandshakeRecord
from core.errors import NotFoundError

_LARGEST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class HandshakeFilter:
    """Which explanations are wanted; what is empty holds for all."""

    client: str = ""
    """Part of what the client looks like, in any case of letters."""
    remote: str = ""
    """An outer address; with a trailing `*`, all that begin so."""
    identity: str = ""
    """Part of what it called itself."""
    code: str = ""
    cause: str = ""
    outcome: str = ""
    gateway: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class HandshakeTotal:
    """How many handshakes of a kind."""

    outcome: str
    cause: str
    code: str
    client: str
    count: int


def recent_handshakes(
    session: Session, wanted: HandshakeFilter, *, limit: int = 50, offset: int = 0
) -> Sequence[HandshakeRecord]:
    """The newest explanations, newest first."""
    query = select(HandshakeRecord).order_by(HandshakeRecord.last_at.desc(), HandshakeRecord.id.desc())
    for column, part in ((HandshakeRecord.client, wanted.client), (HandshakeRecord.identity, wanted.identity)):
        if part:
            query = query.where(column.icontains(part, autoescape=True))
    for column, value in (
        (HandshakeRecord.code, wanted.code),
        (HandshakeRecord.cause, wanted.cause),
        (HandshakeRecord.outcome, wanted.outcome),
        (HandshakeRecord.gateway, wanted.gateway),
    ):
        if value:
            query = query.where(column == value)
    if wanted.remote.endswith("*"):
        query = query.where(HandshakeRecord.remote_address.startswith(wanted.remote[:-1], autoescape=True))
    elif wanted.remote:
        query = query.where(HandshakeRecord.remote_address == wanted.remote)
    if wanted.since is not None:
        query = query.where(HandshakeRecord.last_at >= wanted.since)
    return session.scalars(query.limit(limit).offset(offset)).all()


def get_handshake(session: Session, reference: str) -> HandshakeRecord:
    """The explanation with this number, or of the sign-in with this id (`sign_in_id` of audit log and gateway log).

    Raises:
        NotFoundError: there is none.
    """
    query = select(HandshakeRecord).order_by(HandshakeRecord.last_at.desc()).limit(1)
    number = int(reference) if reference.isascii() and reference.isdigit() and len(reference) < 12 else 0
    wanted = [HandshakeRecord.sign_in_id == reference] if reference else []
    if 0 < number <= _LARGEST_ID:
        wanted.append(HandshakeRecord.id == number)
    found = session.scalars(query.where(or_(*wanted))).first() if wanted else None
    if found is None:
        raise NotFoundError(
            f"no handshake is explained under {reference[:64]!r}",
            fix="see `ostiary gateway explain`; old ones are deleted (gateway.handshake_reports_days)",
        )
    return found


def explained(session: Session, sign_in_ids: Sequence[str]) -> set[str]:
    """Those of the sign-ins that there is an explanation of."""
    query = select(HandshakeRecord.sign_in_id).where(HandshakeRecord.sign_in_id.in_(sign_in_ids))
    return set(session.scalars(query))


def advice_and_command(step: str) -> tuple[str, str]:
    """A step of an advice, and the command in it, to be copied: it stands at the end, and no full stop after it."""
    text, colon, command = step.partition(": ")
    return (step, "") if step.endswith(".") or not colon else (f"{text}:", command)


def known_values(session: Session) -> tuple[Sequence[str], Sequence[str]]:
    """The causes and the clients that there are explanations of, in order."""
    causes = session.scalars(select(HandshakeRecord.cause).distinct().order_by(HandshakeRecord.cause)).all()
    clients = session.scalars(select(HandshakeRecord.client).distinct().order_by(HandshakeRecord.client)).all()
    return causes, clients


def count_handshakes(session: Session, since: date, gateway: str = "") -> Sequence[HandshakeTotal]:
    """How many handshakes of each kind came to an end since the beginning of a day (UTC), the most frequent first."""
    kind = HandshakeCounter.outcome, HandshakeCounter.cause, HandshakeCounter.code, HandshakeCounter.client
    count = func.sum(HandshakeCounter.count)
    query = select(*kind, count).where(HandshakeCounter.day >= since).group_by(*kind).order_by(count.desc(), *kind)
    if gateway:
        query = query.where(HandshakeCounter.gateway == gateway)
    return [HandshakeTotal(*row[:4], count=int(row[4])) for row in session.execute(query)]


def counted_since(session: Session) -> date | None:
    """The first day that the counters know of."""
    return session.scalar(select(func.min(HandshakeCounter.day)))
