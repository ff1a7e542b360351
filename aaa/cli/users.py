"""`ostiary user`: the local directory."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from aaa import enforcement, users
from aaa.cli.output import emit_answers, emit_one
from aaa.models import User
from core.cli import cli_actor, emit, json_option, open_runtime
from posture import devices as inventory


@click.group()
def user() -> None:
    """People, and who of them may sign in."""


@user.command()
@click.argument("name")
@click.option("--display-name", default="", help="As shown in the console.")
@click.option("--group", "groups", multiple=True, help="A group that access rules ask for; may be repeated.")
@json_option
def add(name: str, display_name: str, groups: tuple[str, ...], as_json: bool) -> None:
    """Put a person into the directory. Console roles are given by `ostiary admin`."""
    with open_runtime().database.transaction() as session:
        made = users.create_user(session, name, display_name=display_name, groups=groups, actor=cli_actor())
        row = _row(made)
    if as_json:
        emit_one(row, as_json)
    else:
        click.echo(f"user {row['name']} added; next: ostiary device add {row['name']} DEVICE-NAME")


@user.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List all users."""
    with open_runtime().database.reading() as session:
        emit([_row(found) for found in users.list_users(session)], as_json)


@user.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print one user and the user's devices."""
    with open_runtime().database.reading() as session:
        found = users.get_user(session, name)
        devices = [f"{device.name} ({device.state})" for device in inventory.list(session, owner=found.name)]
        emit_one({**_row(found), "devices": devices}, as_json)


@user.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, in words; kept in the audit log.")
@json_option
def disable(name: str, reason: str, as_json: bool) -> None:
    """Let a user in no more, and end the tunnels of all the user's devices now."""
    results = enforcement.disable_user(open_runtime(), name, reason, cli_actor())
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
        return
    click.echo(f"user {name.lower()} is disabled")
    for result in results:
        click.echo(f"device {result.device_name}:")
        emit_answers(result.answers)


@user.command()
@click.argument("name")
@click.option("--reason", default="", help="Why, in words; kept in the audit log.")
def enable(name: str, reason: str) -> None:
    """Let a disabled user in again."""
    with open_runtime().database.transaction() as session:
        users.set_disabled(session, users.get_user(session, name), False, cli_actor(), reason=reason)
    click.echo(f"user {name.lower()} is enabled")


def _row(found: User) -> dict[str, Any]:
    return {
        "name": found.name,
        "display_name": found.display_name,
        "source": found.source,
        "groups": list(found.groups),
        "role": found.role or "employee",
        "disabled": found.disabled,
        "created_at": found.created_at,
    }
