"""`ostiary session`: the tunnels."""

from __future__ import annotations

from typing import Any

import click

from aaa import enforcement, sessions
from aaa.cli.output import emit_enforcement
from aaa.models import TunnelSession
from core.cli import cli_actor, emit, json_option, open_runtime


@click.group()
def session() -> None:
    """Tunnels that are up, and those that were."""


@session.command("list")
@click.option("--all", "ended_too", is_flag=True, help="Also sessions that have ended.")
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="How many of them at most.")
@json_option
def list_(ended_too: bool, limit: int, as_json: bool) -> None:
    """List live sessions, newest first."""
    with open_runtime().database.reading() as database:
        found = sessions.recent_sessions(database, limit) if ended_too else sessions.live_sessions(database)
        emit([_row(tunnel, as_json) for tunnel in found], as_json)


@session.command()
@click.argument("session_id")
@click.option("--reason", required=True, help="Why, in words; kept in the audit log.")
@json_option
def disconnect(session_id: str, reason: str, as_json: bool) -> None:
    """End one session. Its device may come back at once; to keep it out, use `ostiary device revoke`."""
    result = enforcement.disconnect_session(open_runtime(), session_id, reason, cli_actor())
    emit_enforcement(f"session of device {result.device_name} is to end", result, as_json)


def _row(tunnel: TunnelSession, everything: bool) -> dict[str, Any]:
    row = {
        "id": tunnel.id,
        "user": tunnel.user_name,
        "device": tunnel.device_name,
        "gateway": tunnel.gateway,
        "method": tunnel.method,
        "address": tunnel.virtual_ipv4 or tunnel.virtual_ipv6,
        "remote": tunnel.remote_address,
        "started_at": tunnel.started_at,
        "bytes_in": tunnel.bytes_in,
        "bytes_out": tunnel.bytes_out,
        "ended": tunnel.terminate_cause or None,
    }
    if everything:
        row.update(
            device_id=tunnel.device_id,
            virtual_ipv4=tunnel.virtual_ipv4,
            virtual_ipv6=tunnel.virtual_ipv6,
            rule=tunnel.rule,
            certificate=tunnel.certificate_serial or None,
            client=tunnel.client,
            ike_suite=tunnel.ike_suite,
            esp_suite=tunnel.esp_suite,
            packets_in=tunnel.packets_in,
            packets_out=tunnel.packets_out,
            updated_at=tunnel.updated_at,
            ended_at=tunnel.ended_at,
        )
    return row
