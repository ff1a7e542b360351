"""`ostiary worker`."""

from __future__ import annotations

import sys

import click

from core.cli.tree import open_runtime


@click.command()
def worker() -> None:
    """Run the background worker: retries, and everything that is done on a schedule."""
    from core import worker as process

    sys.exit(process.run(open_runtime()))
