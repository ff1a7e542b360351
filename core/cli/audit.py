"""`ostiary audit`."""

from __future__ import annotations

import click

from core.cli.output import emit, json_option
from core.cli.tree import open_runtime


@click.group()
def audit() -> None:
    """The audit log."""


@audit.command("list")
@click.option("--action", help="Only this action, such as device.revoke; a trailing * means all that begin so.")
@click.option("--actor", help="Only this actor, such as user:alice; a trailing * as above.")
@click.option("--target", help="Only this target, such as device:alice-laptop; a trailing * as above.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@json_option
def list_events(action: str | None, actor: str | None, target: str | None, limit: int, as_json: bool) -> None:
    """Print the newest events, oldest of them first."""
    from core.audit import recent_events

    with open_runtime() as runtime, runtime.database.reading() as session:
        events = recent_events(session, action=action, actor=actor, target=target, limit=limit)
        rows = [
            {
                "id": event.id,
                "at": event.at,
                "actor": event.actor,
                "action": event.action,
                "target": event.target,
                "outcome": event.outcome,
                "reason": event.reason,
                "detail": event.detail,
                **({"hash": event.hash} if as_json else {}),
            }
            for event in reversed(events)
        ]
    emit(rows, as_json)


@audit.command()
@json_option
def verify(as_json: bool) -> None:
    """Check that no event was changed, removed or put between.

    Keep the printed hash somewhere else: whoever can write the database could make a whole new chain, and only
    a hash from outside shows that.
    """
    from core.audit import newest_hash, verify_chain

    with open_runtime() as runtime, runtime.database.reading() as session:
        events, newest = verify_chain(session), newest_hash(session)
    if as_json:
        emit([{"events": events, "newest_hash": newest}], as_json=True)
    else:
        click.echo(f"{events} events, the chain is whole; newest hash {newest.hex()}")
