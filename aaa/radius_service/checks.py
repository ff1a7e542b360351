"""What `ostiary check` says about RADIUS: secrets and ports. Nothing where it has no client and no server."""

from __future__ import annotations

import errno

from aaa.radius_service.clients import load_clients, read_secret
from aaa.radius_service.sockets import SocketError, open_socket
from core.checks import Check
from core.errors import OstiaryError
from core.settings import Settings, UpstreamSettings
from core.settings.values import Address


def checks(settings: Settings) -> list[Check]:
    """All findings; nothing is changed, and sockets are closed again."""
    radius = settings.radius
    upstream = [_upstream(radius.upstream)] if radius.upstream.servers else []
    if not radius.clients:
        return upstream
    ports = (radius.authentication_port, radius.accounting_port)
    return [*upstream, _clients(settings), *(_port(address, port) for address in radius.listen for port in ports)]


def _clients(settings: Settings) -> Check:
    name = "radius: clients and their secrets"
    try:
        clients = load_clients(settings.radius)
    except OstiaryError as error:
        return Check(name, False, error.message, error.fix or "")
    return Check(name, True, ", ".join(client.name for client in clients))


def _upstream(settings: UpstreamSettings) -> Check:
    name = "radius: servers of the company, their secrets"
    try:
        for server in settings.servers:
            read_secret(server.secret_file)
    except OstiaryError as error:
        return Check(name, False, error.message, error.fix or "")
    return Check(name, True, ", ".join(server.name for server in settings.servers))


def _port(address: Address, port: int) -> Check:
    name = f"radius: UDP {address} port {port}"
    try:
        open_socket(address, port).close()
    except SocketError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            return Check(name, None, "in use", "fine if `ostiary radius` runs; else stop what holds it")
        return Check(name, False, error.message, error.fix or "")
    return Check(name, True, "free")
