"""The root command: finds sub-commands, loads them only when they are called, and prints errors for people."""

from __future__ import annotations

import getpass
import os
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from core.errors import OstiaryError
from core.ready import end_with_supervisor

if TYPE_CHECKING:
    from core.audit import Actor
    from core.runtime import Runtime
    from core.settings import Settings

_CONFIG_VARIABLE = "OSTIARY_CONFIG"  # as core.settings has it, whose import every command would pay for

# Loading a command loads its part, and a part may take a second: nothing is imported before it is called.
_CORE_COMMANDS = {
    "audit": "core.cli.audit:audit",
    "check": "core.cli.check:check",
    "db": "core.cli.db:db",
    "secrets": "core.cli.secrets:secrets",
    "up": "core.cli.up:up",
    "version": "core.cli.version:version",
    "worker": "core.cli.worker:worker",
}


class _Failure(click.ClickException):
    """An error that was meant for a person: printed without a traceback, exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print to standard error."""
        click.echo(f"Error: {self.message}", file=file or sys.stderr)


class _Root(click.Group):
    """Sub-commands of core and of every installed part."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all sub-commands."""
        return sorted({*_CORE_COMMANDS, *_installed()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one sub-command. A part that can't be loaded does not hide the others from the help."""
        if cmd_name in _CORE_COMMANDS:
            module, _, attribute = _CORE_COMMANDS[cmd_name].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        entry = _installed().get(cmd_name)
        if entry is None:
            return None
        try:
            return _checked(entry)
        except (ImportError, AttributeError) as error:
            return _broken(cmd_name, str(error))

    def invoke(self, ctx: click.Context) -> Any:
        """Turn errors that were meant for a person into one sentence."""
        try:
            return super().invoke(ctx)
        except OstiaryError as error:
            raise _Failure(str(error)) from error
        except Exception as error:
            if _is_database_error(error):
                raise _Failure(f"the database refused: {error.args[0]}") from error
            raise


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="ostiary.commands")}


def _checked(entry: EntryPoint) -> click.Command:
    command = entry.load()
    if not isinstance(command, click.Command):
        raise ImportError(f"{entry.value} is not a click command")
    return command


def _is_database_error(error: Exception) -> bool:
    # Only a command that loaded SQLAlchemy can have raised its errors; the others need not wait for its import.
    module = sys.modules.get("sqlalchemy.exc")
    return module is not None and isinstance(error, module.DBAPIError)


def _broken(name: str, problem: str) -> click.Command:
    def fail() -> None:
        raise OstiaryError(f"command {name!r} can't be loaded: {problem}", fix="install Ostiary again")

    return click.Command(
        name,
        callback=fail,
        help=f"(can't be loaded: {problem})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        add_help_option=False,
    )


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file; else $OSTIARY_CONFIG, ./ostiary.toml, /etc/ostiary/ostiary.toml.",
)
def root(config: Path | None) -> None:
    """The doorkeeper of the network: IKEv2 gateway, certificate authority, AAA and security console."""
    end_with_supervisor()
    if config is not None:
        # Processes that this one starts read the same file.
        os.environ[_CONFIG_VARIABLE] = str(config.absolute())


def current_settings() -> Settings:
    """The settings of this command, with logging set up as they say.

    Raises:
        SettingsError: the configuration can't be used.
    """
    from core import log
    from core.settings import load_settings

    settings = load_settings()
    log.configure(settings)
    return settings


def open_runtime() -> Runtime:
    """The runtime of this command, database migrated; closed when the command ends.

    Raises:
        OstiaryError: configuration, key file or database can't be used.
    """
    from core.runtime import Runtime

    runtime = Runtime.open(current_settings())
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(runtime.close)
    return runtime


def cli_actor() -> Actor:
    """Who acts from the command line, for the audit log: the user who is logged in, also behind sudo."""
    from core.audit import Actor

    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"uid-{os.getuid()}"
    return Actor("cli", name)


def main() -> None:
    """Entry point of the console script."""
    root(prog_name="ostiary")
