"""`ostiary gateway explain` and `ostiary gateway counters`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from core.cli import emit, json_option, open_runtime
from core.text import escape_control

if TYPE_CHECKING:
    from aaa.models import HandshakeRecord

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _since(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """`30m`, `2h`, `7d` ago, or `2026-05-04`, `2026-05-04T17:00` in UTC."""
    if value is None:
        return None
    found = _SPAN.fullmatch(value)
    try:
        if found is not None:
            return datetime.now(UTC) - timedelta(**{_SPANS[found[2]]: int(found[1])})
        moment = datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        message = f"{value!r} is neither 30m, 2h or 7d nor a date like 2026-05-04"
        raise click.BadParameter(message, context, parameter) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@click.command()
@click.argument("reference", required=False)
@click.option("--client", default="", help="Only clients that look like it, such as windows.")
@click.option("--remote", default="", help="Only from this address; a trailing * means all that begin so.")
@click.option("--identity", default="", help="Only those that call themselves so, or partly so.")
@click.option("--code", default="", help="Only this code, such as handshake-timeout.")
@click.option("--cause", default="", help="Only this cause, such as proposal or network.")
@click.option("--outcome", type=click.Choice(["failed", "slow"]), help="Only those that failed, or that were slow.")
@click.option("--gateway", default="", help="Only of this gateway.")
@click.option("--since", metavar="TIME", callback=_since, help="Only since then: 30m, 2h, 7d ago, or a date (UTC).")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many at most.")
@json_option
def explain(
    reference: str | None,
    client: str,
    remote: str,
    identity: str,
    code: str,
    cause: str,
    outcome: str | None,
    gateway: str,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Say why handshakes failed or were slow: the newest ones, or one of them with all that is known.

    REFERENCE is the number of one, or the sign_in_id that audit log and gateway log have.
    """
    from aaa.handshakes import HandshakeFilter, get_handshake, recent_handshakes

    with open_runtime().database.reading() as session:
        if reference is not None:
            _show_one(get_handshake(session, reference), as_json)
            return
        wanted = HandshakeFilter(client, remote, identity, code, cause, outcome or "", gateway, since)
        rows = recent_handshakes(session, wanted, limit=limit)
        if as_json:
            emit([_as_row(row) for row in rows], as_json=True)
            return
        for row in reversed(rows):
            _show_line(row)
        if not rows:
            click.echo("(none)")


@click.command()
@click.option("--days", type=click.IntRange(1, 400), default=1, show_default=True, help="Of so many days (UTC).")
@click.option("--gateway", default="", help="Only of this gateway.")
@json_option
def counters(days: int, gateway: str, as_json: bool) -> None:
    """Count handshakes by outcome, cause, code and client, today's included. Restarts lose none."""
    from aaa.handshakes import count_handshakes, counted_since

    first = datetime.now(UTC).date() - timedelta(days=days - 1)
    with open_runtime().database.reading() as session:
        totals = count_handshakes(session, first, gateway)
        known = counted_since(session)
    if not as_json:
        start = max(first, known) if known is not None else first
        click.echo(f"handshakes since {start} 00:00 UTC")
    emit(
        [
            {
                "count": total.count,
                "outcome": total.outcome,
                "cause": total.cause or None,
                "code": total.code or None,
                "client": total.client or None,
            }
            for total in totals
        ],
        as_json,
    )


def _show_line(row: HandshakeRecord) -> None:
    who = f"{row.client} from {row.remote_address}{f', {row.identity}' if row.identity else ''}"
    times = f", {row.times} times" if row.times > 1 else ""
    _say(f"{row.id}  {_moment(row.last_at)}  {who}: {row.code} ({row.cause}){times}")
    _say(f"    {row.explanation}")


def _show_one(row: HandshakeRecord, as_json: bool) -> None:
    if as_json:
        emit([_as_row(row)], as_json=True)
        return
    _say(f"Handshake {row.id} at {row.gateway}: {row.outcome}, {row.code} ({row.cause})")
    if row.times > 1:
        _say(f"{row.times} times, from {_moment(row.first_at)} to {_moment(row.last_at)} UTC; this is the last one")
    else:
        _say(f"{_moment(row.last_at)} UTC")
    _show_part("What happened", [row.explanation])
    _show_part("What to do", _steps(row.advice))
    _show_part("Offered or asked for", [row.offered] if row.offered else [])
    _show_part("Allowed", [row.allowed] if row.allowed else [])
    width = max((len(name) for name, _ in row.facts), default=0)
    _show_part("Facts", [f"{name:<{width}}  {value}" for name, value in row.facts])
    _show_part("In the order of time", [f"{after_ms:>8} ms  {what}" for after_ms, what in row.timeline])


def _steps(advice: Iterable[str]) -> Iterator[str]:
    """Commands stand in lines of their own."""
    from aaa.handshakes import advice_and_command

    for number, step in enumerate(advice, start=1):
        text, command = advice_and_command(step)
        yield f"{number}. {text}"
        if command:
            yield f"       {command}"


def _show_part(title: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        click.echo(f"\n{title}")
    for line in lines:
        _say(f"  {line}")


def _say(text: str) -> None:
    """What a client wrote is shown, never obeyed by the terminal."""
    click.echo(escape_control(text))


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _as_row(row: HandshakeRecord) -> dict[str, Any]:
    return {
        "id": row.id,
        "sign_in_id": row.sign_in_id or None,
        "gateway": row.gateway,
        "outcome": row.outcome,
        "code": row.code,
        "cause": row.cause,
        "times": row.times,
        "first_at": row.first_at,
        "last_at": row.last_at,
        "client": row.client,
        "remote_address": row.remote_address,
        "remote_port": row.remote_port,
        "identity": row.identity,
        "address_proven": row.proven,
        "duration_ms": row.duration_ms,
        "explanation": row.explanation,
        "advice": row.advice,
        "offered": row.offered,
        "allowed": row.allowed,
        "facts": dict(row.facts),
        "timeline": [{"after_ms": after_ms, "what": what} for after_ms, what in row.timeline],
    }
