"""`ostiary directory`: the company's directories."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from aaa.cli.output import emit_one
from aaa.directory import sync
from aaa.directory.checks import checks
from aaa.directory.directory import Directory
from aaa.directory.model import DirectoryUser
from core.cli import cli_actor, emit, json_option, open_runtime
from core.cli.tree import current_settings
from core.errors import OstiaryError
from core.settings import DirectorySettings


@click.group()
def directory() -> None:
    """The company's directories: LDAP servers and Active Directory."""


@directory.command()
@json_option
def check(as_json: bool) -> None:
    """Ask each server of each directory now."""
    found = checks(current_settings())
    emit([asdict(one) for one in found], as_json)
    sys.exit(any(one.ok is False for one in found))


@directory.command("sync")
@click.argument("name", required=False)
@click.option("--allow-mass-disable", is_flag=True, help="So many have left: disable them, whatever the limit.")
@json_option
def sync_(name: str | None, allow_mass_disable: bool, as_json: bool) -> None:
    """Synchronise users and groups now, of one directory or of all; the worker does it by itself now and then."""
    runtime = open_runtime()
    rows = []
    for settings in _chosen(runtime.settings.aaa.directories, name):
        result = sync.synchronise(runtime, settings, cli_actor(), allow_mass_disable=allow_mass_disable)
        rows.append(asdict(result) | {"skipped": dict(result.skipped) if as_json else len(result.skipped)})
    emit(rows, as_json)


@directory.command()
@click.argument("user")
@click.option("--directory", "name", help="By its name in the settings; else the first that has the name.")
@json_option
def show(user: str, name: str | None, as_json: bool) -> None:
    """Print what a directory says of a person, the groups among it, by any name that the person can sign in with."""
    reasons = []
    for settings in _chosen(current_settings().aaa.directories, name):
        found = Directory(settings).lookup(user)
        if isinstance(found, DirectoryUser):
            facts = {**asdict(found), "states": sorted(found.states)}
            emit_one(facts | {"groups": list(found.groups)}, as_json)
            return
        reasons.append(f"{settings.name}: {found.reason}")
    raise OstiaryError("; ".join(reasons))


def _chosen(directories: tuple[DirectorySettings, ...], name: str | None) -> list[DirectorySettings]:
    chosen = [one for one in directories if name is None or one.name == name]
    if not chosen:
        known = ", ".join(one.name for one in directories) or "none"
        raise OstiaryError(
            f"there is no directory {name[:64]!r}" if name else "there is no directory",
            fix=f"aaa.directories has: {known}",
        )
    return chosen
