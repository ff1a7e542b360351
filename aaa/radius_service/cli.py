"""`ostiary radius`."""

from __future__ import annotations

import click

from core.cli import open_runtime


@click.command()
def radius() -> None:
    """Serve network access servers (other gateways, Wi-Fi) by RADIUS, until SIGTERM or Ctrl-C."""
    # The server takes its time to load, and `ostiary --help` does without it.
    from aaa.radius_service.daemon import run

    with open_runtime() as runtime:
        run(runtime)
