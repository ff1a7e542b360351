"""`ostiary web` and `ostiary admin`."""

from __future__ import annotations

import click

from core.cli import cli_actor, current_settings, emit, json_option, open_runtime


@click.command()
def web() -> None:
    """Run the portal and security console until Ctrl-C."""
    # Late, so that the help of the other commands does not load the server.
    from web.server import serve

    serve(current_settings(), click.echo)


@click.group()
def admin() -> None:
    """Who may sign in to the security console."""


@admin.command()
@click.option(
    "--role",
    type=click.Choice(["administrator", "security", "auditor"]),
    default="administrator",
    show_default=True,
    help="What the guest may do.",
)
@click.option("--name", help="Who it is for: a new name or an existing user. Without it the guest chooses.")
def invite(role: str, name: str | None) -> None:
    """Print a link by which somebody gets a sign-in for the console.

    It works once, within 24 hours. For an existing user it replaces password and second factor, so it is also
    the way back in for who has lost them.
    """
    from web import invitations

    with open_runtime() as runtime, runtime.database.transaction() as session:
        user_name = name.strip().lower() if name else None
        link = invitations.invite(session, runtime, role=role, user_name=user_name, actor=cli_actor())
    click.echo(link)


@admin.command("list")
@json_option
def list_administrators(as_json: bool) -> None:
    """Print everybody who has a role in the console."""
    from aaa.users import list_users

    with open_runtime() as runtime, runtime.database.reading() as session:
        rows = [
            {
                "name": user.name,
                "display_name": user.display_name,
                "role": user.role,
                "second_factor": user.encrypted_totp_secret is not None,
                "disabled": user.disabled,
            }
            for user in list_users(session)
            if user.role is not None
        ]
    emit(rows, as_json)
