"""`ostiary up`."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from core.cli.tree import current_settings
from core.supervisor import Command, Supervisor

if TYPE_CHECKING:
    from core.settings import Settings


STATE_DIR_VARIABLE = "OSTIARY_STATE_DIR"


def _footer() -> str:
    """What remains to be said; commands in another terminal must find the same installation."""
    state_dir = os.environ.get(STATE_DIR_VARIABLE)
    hint = f"Before other commands:  export {STATE_DIR_VARIABLE}={shlex.quote(state_dir)}\n" if state_dir else ""
    return hint + "Ctrl-C stops everything."


def processes(settings: Settings) -> list[str]:
    """What runs, in the order in which it stops: no new orders first, then the tunnels and those who could ask for
    more, then the worker that finishes what is due.
    """
    return ["web", "gateway", *(["radius"] if settings.radius.clients else []), "worker"]


def command(name: str) -> Command:
    """The process of one sub-command, in this interpreter."""
    # -P: the working directory is nobody's place to put code in.
    return Command(name, (sys.executable, "-P", "-m", "core.cli", name))


@click.command()
def up() -> None:
    """Run everything on this machine until Ctrl-C: gateway, portal, worker, and RADIUS where it has clients."""
    settings = current_settings()
    supervisor = Supervisor(
        [command(name) for name in processes(settings)],
        out=sys.stdout,
        err=sys.stderr,
        title=f"Ostiary is up; its state is in {settings.state_dir.absolute()}",
        footer=_footer(),
    )
    sys.exit(asyncio.run(supervisor.run()))
