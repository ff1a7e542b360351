"""`ostiary gateways`: who reports here, and moving their clients."""

from __future__ import annotations

import click

from aaa import sessions
from aaa.dynamic_authorization import WholeGateway
from aaa.gateways import drain_gateway, forget_gateway
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


@gateways.command()
@click.argument("name")
def drain(name: str) -> None:
    """Have a gateway send its clients to others, those that are connected and those that come."""
    runtime = open_runtime()
    text = drain_gateway(runtime, name, WholeGateway.DRAIN, cli_actor())
    click.echo(f"gateway {name} sends its clients away: {text}")


@gateways.command()
@click.argument("name")
def serve(name: str) -> None:
    """Have a gateway that was drained take in clients again."""
    drain_gateway(open_runtime(), name, WholeGateway.SERVE, cli_actor())
    click.echo(f"gateway {name} takes in clients again")
