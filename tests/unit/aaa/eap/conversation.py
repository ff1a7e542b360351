"""Drives a server and a peer against each other, in memory, and keeps what went over the wire."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aaa.eap.server import (
    Authenticated,
    EapServer,
    Failed,
    Inside,
    MethodName,
    NeedCredentials,
    NeedPassword,
    NtCredential,
    PasswordVerdict,
    PasswordWrong,
    Send,
    Step,
)
from aaa.eap.tls import FRAGMENT_BYTES, EapTlsServer, TlsVersion
from aaa.eap.tls_server import TlsServer
from aaa.eap.tunnel import InnerName
from tests.peers.eap import EapPeer, TlsPeer
from tests.unit.aaa.eap.authority import Issued, house


@dataclass
class Conversation:
    """What happened."""

    step: Step
    """The last one: `Authenticated` or `Failed`, or whatever came when the peer fell silent."""
    requests: list[bytes] = field(default_factory=list)
    responses: list[bytes] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    """Identities for which credentials were wanted."""
    passwords: list[NeedPassword] = field(default_factory=list)
    """What was asked about passwords."""

    @property
    def authenticated(self) -> Authenticated:
        """The verdict, where it is the good one."""
        assert isinstance(self.step, Authenticated), self.step
        return self.step

    @property
    def failed(self) -> Failed:
        """The verdict, where it is the bad one."""
        assert isinstance(self.step, Failed), self.step
        return self.step


class Counter:
    """Bytes that differ from call to call, and are the same in every run."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, size: int) -> bytes:
        self._calls += 1
        return bytes((self._calls * 37 + i * 11) & 0xFF for i in range(size))


@functools.cache
def tls_server() -> EapTlsServer:
    """The gateway of the test house."""
    here = house()
    return EapTlsServer(here.gateway.chain, here.gateway.key, [here.root.der])


def make_server(
    methods: Sequence[MethodName] = ("mschapv2", "tls"),
    tls: EapTlsServer | None = None,
    random: Callable[[int], bytes] | None = None,
    inside: Inside | None = None,
) -> EapServer:
    """A server with both methods, unless told otherwise."""
    return EapServer(methods, "gateway.example", tls or tls_server(), random or Counter(), inside=inside)


def inside_tunnels(
    *methods: InnerName, binding_required: bool = True, fragment_bytes: int = FRAGMENT_BYTES
) -> Inside:
    """What runs inside a tunnel to the gateway of the test house; everything, unless told otherwise."""
    here = house()
    tls = TlsServer(here.gateway.chain, here.gateway.key, fragment_bytes=fragment_bytes)
    return Inside(tls, methods or ("mschapv2", "gtc", "pap"), binding_required)


def all_wrong(_question: NeedPassword) -> PasswordVerdict:
    """A directory of nobody."""
    return PasswordWrong()


def converse(
    server: EapServer,
    peer: EapPeer,
    credentials: Sequence[NtCredential] = (),
    check: Callable[[NeedPassword], PasswordVerdict] = all_wrong,
) -> Conversation:
    """Run to the verdict, and tell the peer, with EAP-Success if it is the good one."""
    packet = server.start()
    done = Conversation(Send(packet))
    while True:
        if isinstance(done.step, Send):
            done.requests.append(done.step.packet)
            answer = peer.receive(done.step.packet)
            assert answer is not None
            done.responses.append(answer)
            done.step = server.receive(answer)
        elif isinstance(done.step, NeedCredentials):
            done.asked_for.append(done.step.identity)
            done.step = server.provide_credentials(credentials)
        elif isinstance(done.step, NeedPassword):
            done.passwords.append(done.step)
            done.step = server.provide_password(check(done.step))
        else:
            last = server.success() if isinstance(done.step, Authenticated) else done.step.packet
            assert peer.receive(last) is None
            return done


def peer_of(client: Issued | None, version: TlsVersion | int | None = None, **options: int) -> TlsPeer:
    """A peer with this certificate, or with none, that trusts the test house."""
    chain = client.chain if client else []
    key = client.key if client else None
    return TlsPeer("anonymous", chain, key, [house().root.der], version, **options)


def tls_sign_in(peer: TlsPeer, tls: EapTlsServer | None = None) -> Conversation:
    """Run a peer against a server that does EAP-TLS only."""
    return converse(make_server(["tls"], tls), peer)
