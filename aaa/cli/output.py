"""How the commands of AAA print a single result, and what became of a Disconnect-Request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from aaa.enforcement import Enforcement, GatewayAnswer
from core.text import escape_control


def emit_one(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print the facts about one thing: a JSON object, or a line for each."""
    if as_json:
        click.echo(json.dumps(dict(facts), indent=2, default=_to_json))
        return
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {escape_control(_to_text(value))}")


def emit_enforcement(done: str, result: Enforcement, as_json: bool) -> None:
    """Print what a revocation or disconnection has done, gateway by gateway.

    Args:
        done: what was done, in words.
        result: what came of it.
        as_json: for programs.
    """
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
        return
    click.echo(done)
    emit_answers(result.answers)
    click.echo(f"{result.elapsed_ms:.1f} ms in all")


def emit_answers(answers: Sequence[GatewayAnswer]) -> None:
    """A line for each gateway, and what is going to happen where one has not answered."""
    if not answers:
        click.echo("  no gateway has reported here yet, so none had to be told")
    for answer in answers:
        ended = f" ({answer.sessions_ended})" if answer.sessions_ended else ""
        mark = "ok     " if answer.acknowledged else "WAITING" if answer.told else "MISSED "
        click.echo(f"  {mark}  {answer.gateway}: {answer.detail}{ended}, {answer.elapsed_ms:.1f} ms")
    if any(answer.told and not answer.acknowledged for answer in answers):
        click.echo("  The worker (`ostiary worker`) tells those that did not answer again until they do.")


def _to_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _to_text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, list | tuple):
        return ", ".join(map(_to_text, value)) or "-"
    return str(value)
