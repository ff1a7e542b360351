"""The composition root of `ostiary gateway`: builds the parts, opens the sockets, waits for a signal."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable

import structlog

from aaa.in_process import InProcessBackend
from aaa.interface import GatewayHello
from core.errors import OstiaryError
from core.ready import announce
from core.runtime import Runtime
from core.settings import load_settings
from gateway.connect import FIRST_DEVICE_COMMANDS, ROOT_FILE, client_command, own_address
from gateway.control.dynamic_authorization import DynamicAuthorizationServer
from gateway.control.listener import ControlListener
from gateway.credentials import DatedCredential, GatewayCredentials
from gateway.dataplane.choose import open_data_plane, pool_networks, site_networks
from gateway.dataplane.interface import Address, DataPlane
from gateway.engine import Engine
from gateway.ike.config import Credential, ResponderConfig, SitePeer
from gateway.ike.constants import IdType
from gateway.ike.payloads.identification import Identification
from gateway.ike.policy import POLICIES
from gateway.ike.responder import Responder
from gateway.sessions import Sessions
from gateway.shared_keys import load_ppks, load_site_peers
from gateway.tickets import Tickets
from gateway.transport import Transport

STOP_TIMEOUT_S = 1.5
RELOADED = ("public_addresses", "redirect_targets", "redirect_in", "session_limit", "drained_per_s")
"""Settings that SIGHUP takes over."""
GC_THRESHOLD = 20_000

_log = structlog.get_logger(__name__)


def run(runtime: Runtime) -> None:
    """Serve until SIGTERM or SIGINT; raises OstiaryError where the gateway can't start."""
    asyncio.run(_serve(runtime))


async def _serve(runtime: Runtime) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)

    def post(call: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(call)

    backend = InProcessBackend.open(runtime, post)
    gateway = _Gateway(loop, runtime, backend)
    try:
        gateway.open()
        loop.add_signal_handler(signal.SIGHUP, gateway.reload)
        _spare_the_collector()
        announce(gateway.banner())
        await stopping.wait()
    finally:
        await gateway.close()
        backend.goodbye()


def _spare_the_collector() -> None:
    """Take what start-up made out of the garbage collector's sight, and have it look less often.

    An SA frees itself by reference counts; a full collection would go through all modules and all live SAs for
    nothing, and was measured to cost a tenth of a handshake.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


class _Gateway:
    """Everything that is open while the gateway runs; closed in the reverse order, however far opening got."""

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: Runtime, backend: InProcessBackend) -> None:
        self._loop = loop
        self._settings = runtime.settings.gateway
        authorities = runtime.settings.pki.trusted_authorities
        self._asks_for_ocsp = any(authority.revocation != "off" for authority in authorities)
        self._site_peers: tuple[SitePeer, ...] = ()
        self._ppks: dict[bytes, bytes] = {}
        self._backend = backend
        self._tickets: Tickets | None = None
        self._root_file = runtime.settings.state_dir / ROOT_FILE
        self._engine: Engine | None = None
        self._transport: Transport | None = None
        self._plane: DataPlane | None = None
        self._control: ControlListener | None = None
        self._credentials: GatewayCredentials | None = None

    def open(self) -> None:
        """Build and open everything; raises OstiaryError."""
        settings = self._settings
        self._site_peers, self._ppks = load_site_peers(settings), load_ppks(settings)
        if settings.ticket_lifetime_s:
            self._tickets = Tickets(self._backend.ticket_keys(), settings.ticket_lifetime_s)
        # A handshake shows what was current when it began.
        self._credentials = credentials = GatewayCredentials(
            self._loop, self._load_credentials, self._reconfigure, settings.half_open_timeout_s
        )
        responder = Responder(self._responder_config(credentials), os.urandom, time.monotonic())
        transport = self._transport = Transport(self._loop, settings.listen, settings.ike_port, settings.natt_port)
        plane = self._plane = open_data_plane(self._loop, settings, transport, self)
        engine = self._engine = Engine(
            self._loop,
            responder,
            Sessions(settings, self._backend, plane),
            self._backend,
            settings.name,
            slow_handshake_s=settings.slow_handshake_s,
        )
        self._control = ControlListener(
            self._loop,
            settings.control_address,
            settings.control_port,
            DynamicAuthorizationServer(
                settings.name, self._backend.control_secret().reveal(), engine.disconnect, engine.change, engine.drain
            ),
        )
        self._configure_balance(engine)
        # From here on the enforcement path knows this gateway, and it can be reached.
        self._backend.hello(
            GatewayHello(settings.name, str(settings.control_address), settings.control_port, plane.name)
        )
        self._root_file.write_text(self._backend.trust_pem(), encoding="ascii")
        engine.start(transport)
        transport.start(engine.receive_ike)
        for weakness in POLICIES[settings.proposal_policy].weaknesses:
            _log.warning("weak algorithms are allowed", proposal_policy=settings.proposal_policy, weakness=weakness)
        _log.info("gateway started", data_plane=plane.name, listening=transport.addresses_text)

    def remote_moved(self, spi_in: int, remote: Address, remote_port: int) -> None:
        """The data plane heard an authentic packet from a new address."""
        if self._engine is not None:
            self._engine.remote_moved(spi_in, remote, remote_port)

    def expired(self, spi_in: int, *, hard: bool) -> None:
        """The data plane says that the lifetime of a child SA is over."""
        if self._engine is not None:
            self._engine.expired(spi_in, hard=hard)

    def _load_credentials(self) -> tuple[DatedCredential, ...]:
        """Those of now, renewed where it is time to, and the ticket keys with them. May block."""
        if self._tickets is not None:
            self._tickets.renew(self._backend.ticket_keys())
        return tuple(
            DatedCredential(
                Credential(one.chain_der, one.private_key, one.issuers_spki_sha1, one.ocsp_response_der),
                one.ocsp_not_after,
            )
            for one in self._backend.gateway_credentials()
        )

    def _responder_config(self, credentials: GatewayCredentials) -> ResponderConfig:
        settings = self._settings
        identity = Identification.fqdn(settings.identity)
        addresses = tuple(
            Identification(IdType.IPV4_ADDR if a.version == 4 else IdType.IPV6_ADDR, a.packed)
            for a in settings.public_addresses
        )
        return ResponderConfig(
            identity=identity,
            identities=(identity, *addresses),
            credentials=credentials.current(),
            authorities=self._backend.accepted_authorities(),
            wants_ocsp=self._asks_for_ocsp,
            rsa_pss=settings.rsa_pss,
            eap_only=settings.eap_only,
            site_peers=self._site_peers,
            ppks=self._ppks,
            ppk_required=settings.ppk_required,
            policy=POLICIES[settings.proposal_policy],
            fragment_size_bytes=settings.fragment_size_bytes,
            half_open_timeout_s=settings.half_open_timeout_s,
            half_open_limit=settings.half_open_limit,
            half_open_limit_per_address=settings.half_open_limit_per_address,
            cookie_threshold=settings.cookie_threshold,
            cookie_threshold_per_address=settings.cookie_threshold_per_address,
            init_rate_per_address=settings.init_rate_per_address,
            addresses=tuple(map(str, settings.public_addresses)),
            inner_networks=pool_networks(settings) + site_networks(settings),
            natt_port=settings.natt_port,
            mobike_patience_s=settings.mobike_patience_s,
            window_size=settings.window_size,
            tickets=self._tickets,
            dpd_interval_s=settings.dpd_interval_s,
            keepalive_interval_s=settings.keepalive_interval_s,
            retransmit_timeouts_s=settings.retransmit_timeouts_s,
            ike_rekey_s=settings.ike_rekey_s,
        )

    def _configure_balance(self, engine: Engine) -> None:
        settings = self._settings
        engine.balance.configure(
            settings.redirect_targets,
            in_ike_sa_init=settings.redirect_in == "ike-sa-init",
            session_limit=settings.session_limit,
            drained_per_s=settings.drained_per_s,
        )

    def reload(self) -> None:
        """Read the settings again (SIGHUP) and take over what can change while clients are connected."""
        try:
            new = load_settings().gateway
        except OstiaryError as error:
            _log.error("settings not read again", error=str(error))
            return
        taken = {name: getattr(new, name) for name in RELOADED}
        self._settings = self._settings.model_copy(update=taken)
        if self._engine is not None and self._credentials is not None:
            self._configure_balance(self._engine)
            self._credentials.renew()
            self._engine.announce_addresses(tuple(map(str, self._settings.public_addresses)))
        _log.info("settings read again", taken=", ".join(RELOADED))

    def _reconfigure(self) -> None:
        """New SAs get the settings and certificates that are current now; those that are up keep what they have."""
        if self._engine is not None and self._credentials is not None:
            self._engine.responder.config = self._responder_config(self._credentials)

    def banner(self) -> list[str]:
        """What the person who started the gateway wants to know."""
        settings = self._settings
        host = str(settings.public_addresses[0]) if settings.public_addresses else own_address()
        listening = self._transport.addresses_text if self._transport is not None else ""
        return [
            f"Gateway: {settings.identity} at {host} (listening on {listening})",
            f"Data plane: {self._plane.description if self._plane is not None else ''}",
            *(f"Weak: {weakness}" for weakness in POLICIES[settings.proposal_policy].weaknesses),
            f"Add a device: {FIRST_DEVICE_COMMANDS}",
            f"Connect a client: {client_command(host, settings.identity, str(self._root_file))}",
        ]

    async def close(self) -> None:
        """Tell the peers goodbye, close the sockets, take the data plane down."""
        if self._credentials is not None:
            self._credentials.close()
        if self._engine is not None:
            await self._engine.stop(STOP_TIMEOUT_S)
        for part in (self._control, self._transport, self._plane):
            if part is not None:
                part.close()
