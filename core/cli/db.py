"""`ostiary db`."""

from __future__ import annotations

import click

from core.cli.tree import current_settings


@click.group()
def db() -> None:
    """The database schema."""


@db.command()
def upgrade() -> None:
    """Bring the database to the newest schema (every start does this by itself)."""
    from core import migrations

    changed = migrations.upgrade(current_settings())
    click.echo(f"schema {migrations.head_revision()}: {'upgraded' if changed else 'nothing to do'}")


@db.command()
@click.option("-m", "--message", required=True, help="What the step does; becomes its file name.")
def revision(message: str) -> None:
    """For developers: write the migration from the newest schema to today's models."""
    from core.migrations.steps import make_revision

    path = make_revision(message)
    click.echo(f"{path}\nRead it, correct it, then: ruff check --fix {path} && ruff format {path}")
