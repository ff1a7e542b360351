"""`ostiary gateways`: who reports here."""

from __future__ import annotations

import click

from aaa import sessions
from aaa.gateways import forget_gateway
from core.cli import cli_actor, emit, json_option, open_runtime


@click.group()
def gateways() -> None:
    """Gateways that report here. (`ostiary gateway` runs one.)"""


@gateways.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List gateways, and when each was heard of last."""
    with open_runtime().database.reading() as database:
        rows = [
            {
                "name": gateway.name,
                "control": f"{gateway.control_address} port {gateway.control_port}",
                "data_plane": gateway.data_plane,
                "started_at": gateway.started_at,
                "last_seen_at": gateway.last_seen_at,
            }
            for gateway in sessions.known_gateways(database)
        ]
    emit(rows, as_json)


@gateways.command()
@click.argument("name")
def forget(name: str) -> None:
    """Take a gateway that is gone for good off the list, so that no revocation waits for it."""
    with open_runtime().database.transaction() as database:
        closed = forget_gateway(database, name, cli_actor())
    click.echo(f"gateway {name} is forgotten; {closed} sessions that it left open are closed")
