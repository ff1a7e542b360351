"""`ostiary gateway`: the IKEv2 responder."""

from __future__ import annotations

import click

from core.cli import open_runtime
from gateway.daemon import run


@click.command("gateway")
def gateway() -> None:
    """Serve IKEv2 clients until SIGTERM or Ctrl-C."""

    with open_runtime() as runtime:
        run(runtime)
