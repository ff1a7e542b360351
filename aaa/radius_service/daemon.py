"""The composition root of `ostiary radius`: AAA as the gateway has it in its own process, behind RADIUS."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import structlog

from aaa import sessions
from aaa.in_process import InProcessBackend
from aaa.radius.clients import RadiusClients
from aaa.radius.conversations import Conversations
from aaa.radius.grant import GrantSealer
from aaa.radius.server import RadiusServer
from aaa.radius_service.clients import load_clients
from aaa.radius_service.listener import RadiusListener
from core.errors import OstiaryError
from core.ready import announce
from core.runtime import Runtime
from core.secrets import Secret, get_or_create_secret

RENEW_S = 3600.0
"""How often it is looked whether the certificate of EAP-TLS has to be renewed."""
RETRY_S = 60.0
GRANT_KEY_NAME = "radius:class"

_log = structlog.get_logger(__name__)


def run(runtime: Runtime) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OstiaryError: it can't start.
    """
    if not runtime.settings.radius.clients:
        raise OstiaryError(
            "no RADIUS client is configured, so nobody could ask",
            fix="name the network access servers in [[radius.clients]]",
        )
    asyncio.run(_serve(runtime))


async def _serve(runtime: Runtime) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)

    def post(call: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(call)

    settings = runtime.settings.radius
    clients = load_clients(settings)
    listener = RadiusListener(loop, settings)
    server: RadiusServer | None = None
    backend: InProcessBackend | None = None
    renewal: asyncio.Task[None] | None = None
    try:
        refuse_names_of_gateways(runtime)
        backend = InProcessBackend.open(runtime, post)
        server = RadiusServer(
            RadiusClients(clients),
            backend,
            backend.accounting_intake(),
            Conversations(
                settings.conversations_limit,
                settings.conversations_limit_per_client,
                settings.conversation_timeout_s,
                os.urandom,
            ),
            GrantSealer(_grant_key(runtime)),
            os.urandom,
            time.monotonic,
            listener.send,
            time.time,
        )
        listener.start(server)
        renewal = asyncio.create_task(_keep_certificate(backend))
        names = ", ".join(client.name for client in clients)
        _log.info("RADIUS server started", listening=listening(runtime), clients=names)
        announce([f"RADIUS: {listening(runtime)}, for {names}"])
        await stopping.wait()
    finally:
        if renewal is not None:
            renewal.cancel()
        listener.close()
        if server is not None:
            server.close()
        if backend is not None:
            backend.goodbye()


def refuse_names_of_gateways(runtime: Runtime) -> None:
    """Sessions and rules name gateways and RADIUS clients by one word: what one reports must not be another's.

    Raises:
        OstiaryError: a client is called as a gateway that has reported here.
    """
    with runtime.database.reading() as session:
        gateways = {gateway.name.casefold() for gateway in sessions.known_gateways(session)}
    for client in runtime.settings.radius.clients:
        if client.name.casefold() in gateways:
            raise OstiaryError(
                f"a RADIUS client is named {client.name!r}, as a gateway is",
                fix="give one of them another name; `ostiary gateways` lists those that are taken",
            )


def listening(runtime: Runtime) -> str:
    """`0.0.0.0 and ::, UDP 1812 and 1813`, for the operator."""
    settings = runtime.settings.radius
    hosts = " and ".join(str(address) for address in settings.listen)
    return f"{hosts}, UDP {settings.authentication_port} and {settings.accounting_port}"


def _grant_key(runtime: Runtime) -> Secret:
    with runtime.database.transaction() as session:
        return get_or_create_secret(session, runtime.box, GRANT_KEY_NAME)


async def _keep_certificate(backend: InProcessBackend) -> None:
    """Have the certificate renewed where it is time to; a thread of its own waits for the database."""
    wait_s = RENEW_S
    while True:
        await asyncio.sleep(wait_s)
        try:
            await asyncio.to_thread(backend.gateway_credentials)
            wait_s = RENEW_S
        except Exception:
            _log.exception("the certificate could not be renewed; the old one stays in use", retry_in_s=RETRY_S)
            wait_s = RETRY_S
