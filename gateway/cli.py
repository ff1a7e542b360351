"""`ostiary gateway`: the IKEv2 responder, and what it has to tell of handshakes."""

from __future__ import annotations

import click

from core.cli import open_runtime
from gateway.handshake_commands import counters, explain


@click.group("gateway", invoke_without_command=True)
@click.pass_context
def gateway(context: click.Context) -> None:
    """Serve IKEv2 clients until SIGTERM or Ctrl-C; with a command, tell of handshakes that were."""
    if context.invoked_subcommand is None:
        # The daemon takes its time to load, and the commands below do without it.
        from gateway.daemon import run

        with open_runtime() as runtime:
            run(runtime)


gateway.add_command(explain)
gateway.add_command(counters)
