"""`ostiary secrets`."""

from __future__ import annotations

import click

from core.cli.tree import cli_actor, open_runtime


@click.group()
def secrets() -> None:
    """The secrets that are kept encrypted in the database."""


@secrets.command()
def rotate() -> None:
    """Make a new key and encrypt every secret anew under it; running processes follow by themselves."""
    from core.rotation import rotate_keys

    with open_runtime() as runtime:
        count = rotate_keys(runtime, cli_actor())
        click.echo(
            f"{count} secrets are encrypted under a new key, the first line of {runtime.settings.secret_key_path}.\n"
            "The old keys below it open backups of the database: keep them as long as those."
        )
