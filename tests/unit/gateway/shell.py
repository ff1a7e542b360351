"""The engine with everything around it in memory: a loop of virtual time, AAA, data plane and network by script."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from itertools import count
from random import Random
from typing import Any, cast

from aaa.eap.mschapv2_keys import nt_password_hash
from aaa.eap.server import Authenticated, EapServer, Failed, NeedCredentials, NtCredential, Send
from aaa.interface import (
    Access,
    EapAccepted,
    EapContinue,
    EapRejected,
    EapReply,
    FirstFactor,
    GatewayHello,
    HandshakeKind,
    HandshakeReport,
    Refusal,
    Resumed,
    SessionStart,
    SessionUsage,
    SignInContext,
    TerminateCause,
)
from core.settings import GatewaySettings, PoolSettings
from gateway.dataplane.interface import ChildSa, Counters, DataPlaneError, Endpoints
from gateway.engine import Engine
from gateway.ike.path import Path
from gateway.ike.responder import Responder
from gateway.ike.selectors import TrafficSelector
from gateway.sessions import Sessions
from gateway.transport import Transport
from tests.peers.initiator import Initiator, InitiatorConfig
from tests.unit.gateway.ike.wire import GATEWAY, PASSWORD, mschapv2, responder_config

LAPTOP = Access(
    user_name="alice",
    device_id="device-7",
    device_name="laptop",
    method="eap-mschapv2",
    rule="staff",
    reason="allowed by rule staff",
    pool=None,
    networks=(),
    dns=(),
    session_lifetime_s=3600.0,
    interim_interval_s=60.0,
)

SITE = replace(
    LAPTOP,
    user_name="site:branch",
    device_id="site:branch",
    device_name="site:branch",
    method="psk",
    rule="branches",
    managed=False,
    peer_networks=(IPv4Network("10.20.0.0/16"), IPv4Network("10.21.0.0/16")),
)
"""Another site, by its pre-shared key."""


class Loop:
    """An event loop of timers only, whose clock stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Callable[..., object], Any]] = []
        self._ids = count()
        self._cancelled: set[int] = set()

    def time(self) -> float:
        """Monotonic seconds."""
        return self.now

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """As asyncio's, but for the handle, which can only be cancelled."""
        number = next(self._ids)
        heapq.heappush(self._timers, (self.now + delay, number, callback, args))
        return cast(asyncio.TimerHandle, _Handle(lambda: self._cancelled.add(number)))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            due, number, callback, args = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if number not in self._cancelled:
                callback(*args)
        self.now = until


@dataclass
class _Handle:
    cancel: Callable[[], None]


class Conversation:
    """An EAP conversation that answers at once, or later where AAA is told to think."""

    def __init__(self, aaa: Aaa, context: SignInContext, first: FirstFactor | None, *, mutual: bool) -> None:
        self._aaa = aaa
        self.context = context
        self.first, self.mutual = first, mutual
        self._server = EapServer(("mschapv2",), "gateway.example", None, aaa.random)
        self.closed = False

    def start(self, reply: Callable[[EapReply], None]) -> None:
        """The first request."""
        packet = self._server.start()
        self._give(reply, EapContinue(packet))

    def receive(self, packet: bytes, reply: Callable[[EapReply], None]) -> None:
        """A response of the peer."""
        step = self._server.receive(packet)
        if isinstance(step, NeedCredentials):
            step = self._server.provide_credentials([NtCredential("device-7", nt_password_hash(PASSWORD))])
        match step:
            case Send(packet=request):
                self._give(reply, EapContinue(request))
            case Authenticated(msk=msk):
                self._give(reply, EapAccepted(self._server.success(), msk, self._aaa.access))
            case Failed(packet=failure, code=code, reason=reason):
                self._give(reply, EapRejected(failure, Refusal(code, reason)))

    def _give(self, reply: Callable[[EapReply], None], answer: EapReply) -> None:
        def give() -> None:
            if not self.closed:
                reply(answer)

        self._aaa.later(give)

    def close(self) -> Refusal | None:
        """Free everything."""
        self.closed = True
        return None


@dataclass
class Aaa:
    """A backend by script, and what it was told."""

    random: Callable[[int], bytes]
    access: Access = LAPTOP
    certificate: Access | Refusal = field(default_factory=lambda: replace(LAPTOP, method="certificate"))
    device: FirstFactor | Refusal = field(default_factory=lambda: FirstFactor("laptop", "its proof"))
    """Of a device whose user is to follow."""
    site: Access | Refusal = SITE
    sites: list[str] = field(default_factory=list)
    """That asked to be let in."""
    shown: list[tuple[list[bytes], tuple[bytes, ...], tuple[bytes, ...]]] = field(default_factory=list)
    """Of each certificate: the chain, OCSP responses and CRLs."""
    resumption: Access | Refusal | None = None
    """None: as `access`."""
    resumed: list[Resumed] = field(default_factory=list)
    refuse_start: Refusal | None = None
    thinks: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    started: list[SessionStart] = field(default_factory=list)
    updated: list[SessionUsage] = field(default_factory=list)
    ended: list[tuple[SessionUsage, TerminateCause]] = field(default_factory=list)
    failed: list[tuple[SignInContext, str, str, dict[str, str]]] = field(default_factory=list)
    reports: list[tuple[SignInContext, HandshakeReport]] = field(default_factory=list)
    heartbeats: int = 0
    handshakes: Counter[HandshakeKind] = field(default_factory=Counter)

    def later(self, answer: Callable[[], None]) -> None:
        """At once, or when `answer_all` says so."""
        if self.thinks:
            self.waiting.append(answer)
        else:
            answer()

    def answer_all(self) -> None:
        """Give every answer that is due."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer()

    def hello(self, gateway: GatewayHello) -> None:
        """Not called by the engine."""

    def goodbye(self) -> None:
        """Not called by the engine."""

    def alive(self, handshakes: Mapping[HandshakeKind, int]) -> None:
        """Count."""
        self.heartbeats += 1
        self.handshakes.update(handshakes)

    def open_eap(
        self, context: SignInContext, first: FirstFactor | None = None, *, mutual: bool = False
    ) -> Conversation:
        """A new conversation."""
        self.conversations.append(Conversation(self, context, first, mutual=mutual))
        return self.conversations[-1]

    def check_device(
        self,
        context: SignInContext,
        chain_der: list[bytes],
        reply: Callable[[FirstFactor | Refusal], None],
        *,
        ocsp_responses: Sequence[bytes] = (),
        crls: Sequence[bytes] = (),
    ) -> None:
        """As scripted."""
        self.shown.append((chain_der, tuple(ocsp_responses), tuple(crls)))
        self.later(lambda: reply(self.device))

    def authorise_site(self, context: SignInContext, name: str, reply: Callable[[Access | Refusal], None]) -> None:
        """As scripted."""
        self.sites.append(name)
        self.later(lambda: reply(self.site))

    def authorise_certificate(
        self,
        context: SignInContext,
        chain_der: list[bytes],
        reply: Callable[[Access | Refusal], None],
        *,
        ocsp_responses: Sequence[bytes] = (),
        crls: Sequence[bytes] = (),
    ) -> None:
        """As scripted."""
        self.shown.append((chain_der, tuple(ocsp_responses), tuple(crls)))
        self.later(lambda: reply(self.certificate))

    def authorise_resumption(
        self, context: SignInContext, resumed: Resumed, reply: Callable[[Access | Refusal], None]
    ) -> None:
        """As scripted."""
        self.resumed.append(resumed)
        self.later(lambda: reply(self.resumption or self.access))

    def session_started(self, start: SessionStart, reply: Callable[[Refusal | None], None]) -> None:
        """Note it, and answer."""
        self.started.append(start)
        self.later(lambda: reply(self.refuse_start))

    def session_updated(self, usage: SessionUsage) -> None:
        """Note it."""
        self.updated.append(usage)

    def session_ended(self, usage: SessionUsage, cause: TerminateCause) -> None:
        """Note it."""
        self.ended.append((usage, cause))

    def sign_in_failed(self, context: SignInContext, code: str, reason: str, detail: dict[str, str]) -> None:
        """Note it."""
        self.failed.append((context, code, reason, detail))

    def handshake_reported(self, context: SignInContext, report: HandshakeReport) -> None:
        """Note it."""
        self.reports.append((context, report))


class Plane:
    """A data plane that carries nothing, and keeps account."""

    name, description = "scripted", "for tests"

    def __init__(self) -> None:
        self.sending: set[int] = set()
        self.restricted: dict[int, tuple[TrafficSelector, ...]] = {}
        self.installed: dict[int, ChildSa] = {}
        self.moves: list[tuple[int, Endpoints]] = []
        self.broken = False
        self.traffic = Counters(0, 0, 0, 0, 0.0, 0, 0)

    def install(self, child: ChildSa, *, outbound: bool = True) -> None:
        """Note it."""
        if self.broken:
            raise DataPlaneError("no room")
        self.installed[child.spi_in] = child
        if outbound:
            self.sending.add(child.spi_in)

    def start_outbound(self, spi_in: int) -> None:
        """Note it."""
        self.sending.add(spi_in)

    def restrict(self, spi_in: int, local_selectors: tuple[TrafficSelector, ...]) -> None:
        """Note it."""
        self.restricted[spi_in] = local_selectors

    def remove(self, spi_in: int) -> Counters | None:
        """Forget it."""
        self.sending.discard(spi_in)
        return self.traffic if self.installed.pop(spi_in, None) is not None else None

    def move(self, spi_in: int, endpoints: Endpoints) -> None:
        """Note it."""
        if self.broken:
            raise DataPlaneError("no such SA")
        self.moves.append((spi_in, endpoints))

    def counters(self, spi_in: int) -> Counters | None:
        """The same for all."""
        return self.traffic if spi_in in self.installed else None

    def close(self) -> None:
        """Not called by the engine."""


class Shell:
    """A gateway without sockets; clients are called by name of their address."""

    def __init__(self, **changes: Any) -> None:
        self.loop = Loop()
        config = responder_config(**changes)
        self.random = Random(3).randbytes
        self.aaa = Aaa(self.random)
        self.plane = Plane()
        self.settings = GatewaySettings(
            pools=(PoolSettings(name="staff", ipv4=IPv4Network("10.99.0.0/29"), ipv6=IPv6Network("fd99::/112")),),
            networks=(IPv4Network("10.1.0.0/16"),),
        )
        self.sessions = Sessions(self.settings, self.aaa, self.plane)
        responder = Responder(config, self.random, self.loop.now)
        self.engine = Engine(
            cast(asyncio.AbstractEventLoop, self.loop),
            responder,
            self.sessions,
            self.aaa,
            "gateway-1",
            self.loop.time,
        )
        self.sent: list[tuple[bytes, Path]] = []
        self.network_is_up = True
        self.loses: Callable[[bool, bytes], bool] = lambda _to_gateway, _datagram: False
        """Whether the network, which is up, loses this datagram."""
        self.clients: dict[Path, Initiator] = {}
        self.engine.start(cast(Transport, self))

    def send_ike(self, datagram: bytes, path: Path) -> None:
        """What the engine asks of its transport."""
        self.sent.append((datagram, path))

    def client(
        self,
        config: InitiatorConfig | None = None,
        *,
        nat: bool = False,
        initiator: Callable[[InitiatorConfig, Path, Callable[[int], bytes]], Initiator] = Initiator,
    ) -> Initiator:
        """A client that has not begun."""
        host = f"198.51.100.{len(self.clients) + 1}"
        made = initiator(config or mschapv2(), Path(host, 500, GATEWAY, 500), self.random)
        self.clients[Path(GATEWAY, 500, host, 61_000 if nat else 500)] = made
        return made

    def connect(self, config: InitiatorConfig | None = None, *, nat: bool = False) -> Initiator:
        """A client, as far as it gets."""
        made = self.client(config, nat=nat)
        made.start()
        self.run()
        return made

    def run(self) -> None:
        """Carry datagrams until nothing moves."""
        for _ in range(200):
            moved = False
            for path, initiator in self.clients.items():
                for datagram in initiator.datagrams_to_send():
                    moved = True
                    if self.network_is_up and not self.loses(True, datagram):
                        self.engine.receive_ike(datagram, path)
            sent, self.sent = self.sent, []
            for datagram, path in sent:
                moved = True
                arrives = self.network_is_up and not self.loses(False, datagram)
                if arrives and path in self.clients and len(datagram) > 1:
                    self.clients[path].receive_datagram(datagram)
            if not moved:
                return
        raise AssertionError("the peers go on for ever")

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, with the network at work."""
        for _ in range(round(seconds / step)):
            self.loop.advance(step)
            self.run()
