"""How commands print rows: a table for a person, JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
"""Decorator: gives the command `as_json: bool`, to be passed to `emit`."""


def emit(rows: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """Print rows on standard output.

    Args:
        rows: one mapping a row; the first one's keys are the columns of the table.
        as_json: an array of objects instead, times as ISO 8601, bytes as hexadecimal.
    """
    rows = list(rows)
    if as_json:
        click.echo(json.dumps([dict(row) for row in rows], indent=2, default=_to_json))
        return
    if not rows:
        click.echo("(none)")
        return
    columns = list(rows[0])
    cells = [[_to_text(row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ").upper() for column in columns]
    widths = [max(len(line[i]) for line in (heads, *cells)) for i in range(len(columns))]
    for line in (heads, *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _to_text(value: Any) -> str:
    from core.text import escape_control

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_to_text, value)) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_to_text(item)}" for key, item in value.items()) or "-"
    # What a client or a user wrote is shown, never obeyed by the terminal.
    return escape_control(str(value))
