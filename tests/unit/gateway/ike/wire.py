"""A gateway and its clients in one process: no socket, no clock, no thread.

    client (tests.peers.initiator) --- filter ---> Responder <--- events, answers ---> Aaa (scripted)

The filter sees each batch of datagrams and says what arrives: all of it, some, twice, in another order. Time moves
only by `advance`, which serves every timer on the way at its moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random
from typing import Any, TypeVar

from aaa.eap.mschapv2_keys import nt_password_hash
from aaa.eap.server import Authenticated, EapServer, Failed, MethodName, NeedCredentials, NtCredential, Send, Step
from gateway.ike import child_lifecycle, events, sign_in
from gateway.ike.child import Assignment, Child
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import IKE_HEADER_BYTES
from gateway.ike.errors import IkeError
from gateway.ike.events import CloseCause, Event
from gateway.ike.exchanges import first_child
from gateway.ike.path import Path
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.responder import Responder
from gateway.ike.sa import IkeSa
from gateway.ike.states import State
from gateway.ike.ticket import Grant
from tests.peers.eap import MsChapV2Peer
from tests.peers.initiator import Initiator, InitiatorConfig, Phase
from tests.unit.aaa.eap.conversation import tls_server
from tests.unit.gateway.ike.credentials import HOUSE_CA, KeyKind, gateway_credential

GATEWAY = "192.0.2.1"
GATEWAY_NAME = Identification.fqdn("gateway.example")
PASSWORD = "correct horse"
MAX_TURNS = 200
"""More than any negotiation takes: two peers that answer each other for ever are a bug."""

Filter = Callable[[bool, list[bytes]], list[bytes]]
"""(towards the gateway?, datagrams sent) -> datagrams that arrive."""


def everything(_to_gateway: bool, batch: list[bytes]) -> list[bytes]:
    """A network without faults."""
    return batch


def responder_config(kind: KeyKind = "p256", **changes: Any) -> ResponderConfig:
    """A gateway's configuration with a key of some kind."""
    names = (GATEWAY_NAME, Identification.fqdn("vpn.example"))
    return replace(ResponderConfig(GATEWAY_NAME, names, (gateway_credential(kind),), (HOUSE_CA,)), **changes)


def mschapv2(identity: str = "alice", password: str = PASSWORD) -> InitiatorConfig:
    """A client that signs in with a password; the right one by default."""
    return InitiatorConfig(eap=MsChapV2Peer(identity, password))


@dataclass
class Aaa:
    """What AAA and data plane answer. Tests change the fields before they connect."""

    passwords: dict[str, str] = field(default_factory=lambda: {"alice": PASSWORD, "bob": PASSWORD})
    methods: tuple[MethodName, ...] = ("mschapv2", "tls")
    may_enter: bool = True
    """The decision, after the credential has been found good."""
    networks: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
    dns: tuple[IPv4Address | IPv6Address, ...] = (IPv4Address("10.99.0.1"), IPv6Address("fd99::1"))
    dns_domains: tuple[str, ...] = ()
    peer_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Behind a site peer."""
    session_lifetime_s: float = 0.0
    grant: Grant | None = None
    """Of tickets, to whoever is let in."""
    send_to: GatewayId | None = None
    """Another gateway, instead of addresses."""
    no_address: IkeError | None = None
    """Why there is no address."""
    not_installed: IkeError | None = None
    """Why the data plane can't carry the child SA."""
    hold: bool = False
    """Keep the answers back, in `held`."""
    held: list[Callable[[], None]] = field(default_factory=list)


_E = TypeVar("_E")


class Client:
    """An initiator at its place in the network."""

    def __init__(self, initiator: Initiator, outer: Path) -> None:
        self.initiator = initiator
        self.outer = outer
        """The path as the gateway sees it; a NAT makes it differ from the client's own."""
        self.last_request: list[bytes] = []
        """Datagrams of the newest batch that it sent, for retransmission."""

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        return self.initiator.phase

    @property
    def is_up(self) -> bool:
        """Whether it takes itself for signed in."""
        return self.phase is Phase.ESTABLISHED


class Wire:
    """The network, the gateway on it, and everything that was seen."""

    def __init__(
        self, config: ResponderConfig | None = None, *, aaa: Aaa | None = None, seed: int = 1, now: float = 1000.0
    ) -> None:
        self.random = Random(seed)
        self.now = now
        self.config = config or responder_config()
        self.responder = Responder(self.config, self.random.randbytes, now)
        self.aaa = aaa or Aaa()
        self.filter: Filter = everything
        self.clients: list[Client] = []
        self.events: list[Event] = []
        self.to_gateway: list[tuple[bytes, Path]] = []
        """All datagrams that clients sent, before the filter."""
        self.from_gateway: list[tuple[bytes, Path]] = []
        """All that the gateway sent, before the filter."""
        self.last_esp_in_s: float = 0.0
        self.children: dict[int, Child] = {}
        """What the data plane carries, by inbound SPI."""
        self.sending_on: set[int] = set()
        """Those of them on which it sends as well."""
        self._owned: dict[IkeSa, set[int]] = {}
        self._eap: dict[IkeSa, EapServer] = {}
        self._next_address = 2

    # --- Clients --------------------------------------------------------------------------------------------

    def client(
        self,
        config: InitiatorConfig | None = None,
        *,
        local: Path | None = None,
        outer: Path | None = None,
        initiator: type[Initiator] = Initiator,
    ) -> Client:
        """A new client that has not begun yet, at an address of its own and without a NAT by default."""
        number = len(self.clients) + 1
        local = local or Path(f"198.51.100.{number}", 500, GATEWAY, 500)
        outer = outer or Path(local.remote, local.remote_port, local.local, local.local_port)
        made = Client(initiator(config or mschapv2(), local, self.random.randbytes), outer)
        self.clients.append(made)
        return made

    def connect(self, config: InitiatorConfig | None = None, **place: Path) -> Client:
        """A new client, run until the network is quiet."""
        client = self.client(config, local=place.get("local"), outer=place.get("outer"))
        client.initiator.start()
        self.run()
        return client

    # --- The network ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry datagrams and serve events until nothing moves any more."""
        for _ in range(MAX_TURNS):
            moved = self._carry_to_gateway()
            moved |= self._serve()
            moved |= self._carry_from_gateway()
            if not moved:
                return
        raise AssertionError("the peers go on for ever")

    def run_until(self, reached: Callable[[], bool]) -> None:
        """Run until it is so at a moment when the gateway has answered and the clients have not read it; what they
        would have sent next is dropped.
        """
        for _ in range(MAX_TURNS):
            self._carry_to_gateway()
            self._serve()
            if reached():
                break
            self._carry_from_gateway()
        else:
            raise AssertionError("it is never so")
        self._carry_from_gateway()
        for client in self.clients:
            client.initiator.datagrams_to_send()

    def retransmit(self, client: Client) -> None:
        """The client sends its last request again, and the network is run."""
        self._deliver(client, self._seen(True, client.last_request))
        self.run()

    def inject(self, data: bytes, path: Path) -> None:
        """A datagram of whoever; what the gateway sends in return is carried to the clients."""
        self.responder.receive_datagram(data, path, self.now)
        self.run()

    def advance(self, seconds: float) -> None:
        """Let time pass: every timer that falls due is served at its moment."""
        until = self.now + seconds
        while (due := self.responder.get_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.responder.handle_timer(self.now)
            self.run()
        self.now = until

    def release(self) -> None:
        """Let the answers out that AAA holds back."""
        held, self.aaa.held = self.aaa.held, []
        for answer in held:
            answer()
        self.run()

    def _carry_to_gateway(self) -> bool:
        moved = False
        for client in self.clients:
            batch = client.initiator.datagrams_to_send()
            if batch:
                moved = True
                client.last_request = batch
                self._deliver(client, self._seen(True, batch))
        return moved

    def _deliver(self, client: Client, batch: list[bytes]) -> None:
        for datagram in batch:
            self.to_gateway.append((datagram, client.outer))
            self.responder.receive_datagram(datagram, client.outer, self.now)

    def _carry_from_gateway(self) -> bool:
        sent = self.responder.datagrams_to_send()
        self.from_gateway += sent
        for client in self.clients:
            batch = [data for data, path in sent if path == client.outer and len(data) >= IKE_HEADER_BYTES]
            for datagram in self._seen(False, batch) if batch else []:
                client.initiator.receive_datagram(datagram)
        return bool(sent)

    def _seen(self, to_gateway: bool, batch: list[bytes]) -> list[bytes]:
        return self.filter(to_gateway, list(batch))

    # --- The shell around the core --------------------------------------------------------------------------

    def _serve(self) -> bool:
        moved = False
        while (event := self.responder.next_event()) is not None:
            moved = True
            self.events.append(event)
            self._serve_one(event)
        return moved

    def _serve_one(self, event: Event) -> None:
        match event:
            case events.EapStarted(sa):
                server = EapServer(self.aaa.methods, "gateway.example", tls_server(), self.random.randbytes)
                self._eap[sa] = server
                packet = server.start()
                self._answer(sa, lambda: sign_in.eap_continue(sa, packet, self.now))
            case events.EapReceived(sa, packet):
                self._eap_step(sa, self._eap[sa].receive(packet))
            case events.CertificateReceived(sa) | events.SitePeerProved(sa):
                if self.aaa.may_enter:
                    self._answer(sa, lambda: sign_in.authorised(sa, self.now))
                else:
                    self._answer(sa, lambda: sign_in.refuse(sa, self.now))
            case events.TicketRedeemed(sa):
                allowed = self.aaa.may_enter
                self._answer(
                    sa, lambda: sign_in.authorised(sa, self.now) if allowed else sign_in.refuse(sa, self.now)
                )
            case events.AssignmentWanted(sa) if self.aaa.send_to is not None:
                sa.redirect(self.aaa.send_to, self.now)
                self.responder.touch(sa)
            case events.AssignmentWanted(sa):
                self._assign(event)
            case events.ChildReady(sa, child, outbound):
                self._install(sa, child, outbound)
            case events.ChildStarted(_, spi_in):
                self.sending_on.add(spi_in)
            case events.SaRekeyed(old, new):
                self._owned[new] = self._owned.pop(old, set())
            case events.ChildDeleted(_, spi_in):
                self._remove(spi_in)
            case events.LivenessWanted(sa):
                self._answer(sa, lambda: sa.check_liveness(self.last_esp_in_s, self.now))
            case events.SaClosed(sa):
                self._eap.pop(sa, None)
                for spi_in in self._owned.pop(sa, set()):
                    self._remove(spi_in)
            case _:
                pass

    def _answer(self, sa: IkeSa, answer: Callable[[], None]) -> None:
        def give() -> None:
            answer()
            self.responder.touch(sa)

        if self.aaa.hold:
            self.aaa.held.append(give)
        else:
            give()

    def _eap_step(self, sa: IkeSa, step: Step) -> None:
        server = self._eap[sa]
        if isinstance(step, NeedCredentials):
            password = self.aaa.passwords.get(step.identity)
            known = [] if password is None else [NtCredential("device", nt_password_hash(password))]
            step = server.provide_credentials(known)
        match step:
            case Send(packet):
                self._answer(sa, lambda: sign_in.eap_continue(sa, packet, self.now))
            case Authenticated(identity=identity, msk=msk) if self.aaa.may_enter:
                sa.context = identity
                packet, mutual = server.success(), step.method == "eap-tls"
                self._answer(sa, lambda: sign_in.eap_succeeded(sa, packet, msk, self.now, mutual=mutual))
            case Authenticated():
                packet = server.failure()
                self._answer(sa, lambda: sign_in.eap_failed(sa, packet, self.now))
            case Failed(packet):
                self._answer(sa, lambda: sign_in.eap_failed(sa, packet, self.now))

    def _assign(self, event: events.AssignmentWanted) -> None:
        sa, problem = event.sa, self.aaa.no_address
        sa.resumption.grant = self.aaa.grant
        if event.initial_contact:
            self._replace_others(sa)
        if problem is not None:
            self._answer(sa, lambda: first_child.refuse(sa, problem, self.now))
            return
        number = self._next_address
        self._next_address += 1
        assignment = Assignment(
            IPv4Address("10.99.0.0") + number if event.wants_ipv4 else None,
            IPv6Address("fd99::") + number if event.wants_ipv6 else None,
            self.aaa.networks,
            self.aaa.dns,
            dns_domains=self.aaa.dns_domains,
            peer_networks=self.aaa.peer_networks,
            session_lifetime_s=self.aaa.session_lifetime_s,
        )
        self._answer(sa, lambda: sign_in.assign(sa, assignment, self.now))

    def _install(self, sa: IkeSa, child: Child, outbound: bool) -> None:
        problem = self.aaa.not_installed
        if problem is not None:
            self._answer(sa, lambda: child_lifecycle.failed(sa, child.spi_in, problem, self.now))
            return
        self.children[child.spi_in] = child
        self._owned.setdefault(sa, set()).add(child.spi_in)
        if outbound:
            self.sending_on.add(child.spi_in)
        self._answer(sa, lambda: child_lifecycle.installed(sa, child.spi_in, self.now))

    def _remove(self, spi_in: int) -> None:
        self.children.pop(spi_in, None)
        self.sending_on.discard(spi_in)

    def _replace_others(self, sa: IkeSa) -> None:
        for other in self.responder.sas():
            if other is not sa and other.context == sa.context:
                other.forget(CloseCause.REPLACED, self.now)
                self.responder.touch(other)

    # --- What was seen --------------------------------------------------------------------------------------

    def seen(self, kind: type[_E]) -> list[_E]:
        """All events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def conversations(self) -> int:
        """How many EAP conversations AAA has open."""
        return len(self._eap)

    def forget(self) -> None:
        """Empty the records of what was seen; for runs that go on for long."""
        self.events.clear()
        self.to_gateway.clear()
        self.from_gateway.clear()

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Code and reason of every handshake that failed in the gateway."""
        return [(event.code, event.reason) for event in self.seen(events.HandshakeFailed)]

    @property
    def causes(self) -> list[CloseCause]:
        """Why SAs ended, in order."""
        return [event.cause for event in self.seen(events.SaClosed)]

    @property
    def established(self) -> list[IkeSa]:
        """The SAs that are up."""
        return [sa for sa in self.responder.sas() if sa.state is State.ESTABLISHED]

    @property
    def state(self) -> State | None:
        """Of the only SA, where there is one."""
        return self.sa.state if self.responder.sas() else None

    @property
    def child(self) -> Child:
        """The one child SA of the one SA."""
        (only,) = self.sa.children.values()
        return only

    @property
    def sa(self) -> IkeSa:
        """The one SA that there is."""
        (only,) = self.responder.sas()
        return only
