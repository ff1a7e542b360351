"""`ostiary check`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from core.checks import Check, run_checks
from core.cli.output import emit, json_option
from core.cli.tree import current_settings
from core.text import escape_control


@click.command()
@json_option
def check(as_json: bool) -> None:
    """Print what this machine and configuration can do, with a fix for each no."""
    checks = run_checks(current_settings())
    if as_json:
        emit(map(asdict, checks), as_json=True)
    else:
        for finding in checks:
            _print(finding)
        failed = sum(finding.ok is False for finding in checks)
        unsure = sum(finding.ok is None for finding in checks)
        click.echo(f"\n{len(checks) - failed - unsure} good, {unsure} to look at, {failed} bad")
    sys.exit(any(finding.ok is False for finding in checks))


def _print(finding: Check) -> None:
    signs = {True: ("✓", "ok"), None: ("!", "!!"), False: ("✗", "NO")}[finding.ok]
    colour = {True: "green", None: "yellow", False: "red"}[finding.ok]
    sign = signs[0] if _unicode() else signs[1]
    click.echo(f"{click.style(sign, fg=colour)} {finding.name}: {escape_control(finding.message)}")
    if finding.ok is not True and finding.fix:
        click.echo(f"    fix: {finding.fix}")


def _unicode() -> bool:
    return sys.stdout.isatty() and (sys.stdout.encoding or "").lower().startswith("utf")
