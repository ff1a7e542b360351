"""What the gateway asks of AAA, and what it gets back: values and Protocols, no implementation.

Two backends stand behind it: in process (`aaa.in_process`) and, where the gateway must hold no database
credential, RADIUS. Every answer comes back through a callback on the event loop's thread, at once where it
can and later where a database or a directory has to be asked. A callback is called exactly once; after
`close()` it is never called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, Protocol

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


class TerminateCause(Enum):
    """Acct-Terminate-Cause (RFC 2866 section 5.10): the name shown, the number on the wire."""

    USER_REQUEST = 1
    LOST_CARRIER = 2
    LOST_SERVICE = 3
    IDLE_TIMEOUT = 4
    SESSION_TIMEOUT = 5
    ADMIN_RESET = 6
    ADMIN_REBOOT = 7
    NAS_ERROR = 9
    NAS_REQUEST = 10
    NAS_REBOOT = 11
    USER_ERROR = 17


@dataclass(frozen=True, slots=True)
class SignInContext:
    """The circumstances of one sign-in, as the gateway sees them before anyone is authenticated."""

    sign_in_id: str
    """Unique for each IKE SA; ties log lines and audit events together."""
    gateway: str
    remote_address: str
    """Outer address of the client, without port."""
    ike_identity: str
    """IDi as text. Not authenticated: never a ground for access when EAP is used."""
    client: str
    """What the client looks like (`strongSwan`, `Windows`, ...); a guess for the log."""


@dataclass(frozen=True, slots=True)
class Access:
    """AAA says yes: who it is, and what the session gets."""

    user_name: str
    device_id: str
    """Also the Chargeable-User-Identity by which Disconnect-Requests name all sessions of the device."""
    device_name: str
    method: str
    """`eap-mschapv2`, `eap-tls`, `eap-ttls`, `eap-peap`, `certificate`; `certificate+eap-mschapv2` and the like,
    where device and user proved themselves each; `psk` of a site peer."""
    rule: str
    """The rule that decided."""
    reason: str
    pool: str | None
    """The address pool; None is the gateway's first."""
    networks: tuple[Network, ...]
    """What the tunnel reaches; empty means the gateway's own list."""
    dns: tuple[Address, ...]
    """Empty means the gateway's own servers, and its domains where `dns_domains` is empty too."""
    session_lifetime_s: float
    interim_interval_s: float
    certificate_serial: str = ""
    """Of the client certificate, empty where there was none; checked again when the session starts."""
    certificate_authority: str = ""
    """Which of the trusted authorities signed that; empty for our own CA."""
    managed: bool = True
    """Whether the device is in the inventory; else its id stands for the key of the certificate."""
    dns_domains: tuple[str, ...] = ()
    """What the servers are asked for; empty means everything."""
    peer_networks: tuple[Network, ...] = ()
    """Of a site peer: the networks behind it, which it has instead of virtual addresses."""

    @property
    def proves_gateway(self) -> bool:
        """Whether the EAP method that was used proves the gateway to the peer as well (RFC 5998 section 4)."""
        return self.method.endswith("eap-tls")


@dataclass(frozen=True, slots=True)
class FirstFactor:
    """The device has proved itself; who is on it has to follow by EAP (RFC 4739)."""

    device_name: str
    proof: object = field(repr=False)
    """AAA's own, for `open_eap`."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Who a ticket is of (RFC 5723): what of an `Access` AAA needs to decide anew."""

    user_name: str
    device_id: str
    device_name: str
    method: str
    rule: str
    certificate_serial: str


@dataclass(frozen=True, slots=True)
class TicketKeys:
    """Keys for tickets, which all gateways of a database share."""

    epoch_s: int
    """How long a key is used."""
    keys: Mapping[int, bytes] = field(repr=False)
    """32 bytes each, by epoch: seconds since 1970 divided by `epoch_s`."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """AAA says no. It has already written the audit event; the peer is told no more than the protocol asks."""

    code: str
    """Stable, for tests and metrics: `unknown-user`, `wrong-credential`, `revoked-certificate`, ..."""
    reason: str
    """In words, for the audit log and the operator."""
    recorded: bool = True
    """False where so many are refused that not each gets an event, nor should it get a line in a log."""


@dataclass(frozen=True, slots=True)
class EapContinue:
    """Send this EAP-Request and bring the answer."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class EapAccepted:
    """Authenticated and allowed: send this EAP-Success; AUTH is made from the MSK (RFC 7296 section 2.16)."""

    packet: bytes
    msk: bytes = field(repr=False)
    """64 bytes."""
    access: Access


@dataclass(frozen=True, slots=True)
class EapRejected:
    """Refused: send this EAP-Failure and forget the SA."""

    packet: bytes
    refusal: Refusal


EapReply = EapContinue | EapAccepted | EapRejected


class EapConversation(Protocol):
    """The EAP server's side of one sign-in; the gateway carries packets and understands none."""

    def start(self, reply: Callable[[EapReply], None]) -> None:
        """Ask for the first EAP-Request (Identity)."""

    def receive(self, packet: bytes, reply: Callable[[EapReply], None]) -> None:
        """Hand over an EAP-Response of the peer; hostile bytes are expected and never raise."""

    def close(self) -> Refusal | None:
        """The SA is gone: free everything, call back no more.

        Returns:
            The refusal of this sign-in that AAA has recorded, so that nobody else needs to say why it failed.
        """


@dataclass(frozen=True, slots=True)
class SessionStart:
    """Accounting-Request Start."""

    session_id: str
    access: Access
    gateway: str
    remote_address: str
    """`192.0.2.7:4500`, `[2001:db8::7]:4500`."""
    client: str
    virtual_ipv4: str | None
    virtual_ipv6: str | None
    ike_suite: str
    esp_suite: str


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """Counters of a session so far; input is from the client to the network (RFC 2866)."""

    session_id: str
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int
    remote_address: str


@dataclass(frozen=True, slots=True)
class GatewayHello:
    """What a gateway says of itself at start; sessions it left open before are then closed."""

    name: str
    control_address: str
    control_port: int
    data_plane: str


@dataclass(frozen=True, slots=True)
class HandshakeReport:
    """Why one handshake failed, or took long, in an operator's words; what the peer wrote stands in it unchecked.

    Whoever stores it cuts and escapes each text.
    """

    outcome: Literal["failed", "slow"]
    code: str
    """As in the audit log."""
    cause: str
    """The rule that stopped it, or what the time went to: `proposal`, `fragment`, `network`, ..."""
    remote_port: int
    proven: bool
    """The peer had shown that it receives at its address: its key exchange was completed."""
    duration_s: float
    explanation: str
    """A sentence or two: what happened."""
    advice: tuple[str, ...] = ()
    """What to do about it, a step each: a sentence, or words, a colon and a command without a full stop."""
    offered: str = ""
    """What the client offered or asked for, where that was the matter."""
    allowed: str = ""
    """What would have been accepted instead."""
    facts: tuple[tuple[str, str], ...] = ()
    """Name and value, in the order in which they are shown."""
    timeline: tuple[tuple[float, str], ...] = ()
    """Seconds since the beginning, and what happened then."""


@dataclass(frozen=True, slots=True)
class HandshakeKind:
    """What handshakes are counted by; there are few values of each, none of them a peer's own words."""

    outcome: Literal["established", "slow", "failed", "deferred"]
    """`deferred`: told to come again in another way, with a cookie or another group, or elsewhere."""
    cause: str
    """Empty for `established`, and so is `code`."""
    code: str
    client: str
    """What the client looks like, empty where nothing tells."""


class AaaBackend(Protocol):
    """Everything that the gateway asks of AAA."""

    def hello(self, gateway: GatewayHello) -> None:
        """Register the gateway (Accounting-On); may block, called once before the first packet."""

    def alive(self, handshakes: Mapping[HandshakeKind, int]) -> None:
        """The gateway is at work; called a few times a minute, whether it has anything to tell or not.

        Args:
            handshakes: how many came to an end since the last call.
        """

    def goodbye(self) -> None:
        """Orderly stop (Accounting-Off): flush what is queued, then close. May block."""

    def open_eap(
        self, context: SignInContext, first: FirstFactor | None = None, *, mutual: bool = False
    ) -> EapConversation:
        """A new EAP conversation.

        Args:
            context: the circumstances.
            first: what `check_device` said, where this is the second of two authentications.
            mutual: offer no method but those that prove the gateway as well: it will show no certificate in IKE.
        """

    def check_device(
        self,
        context: SignInContext,
        chain_der: list[bytes],
        reply: Callable[[FirstFactor | Refusal], None],
        *,
        ocsp_responses: Sequence[bytes] = (),
        crls: Sequence[bytes] = (),
    ) -> None:
        """Check the certificate of a device whose user is to follow: as `authorise_certificate` does, but for the
        rules, which are for both of them.
        """

    def authorise_site(self, context: SignInContext, name: str, reply: Callable[[Access | Refusal], None]) -> None:
        """Ask the rules about a site peer, by its name in the settings, which has shown its pre-shared key."""

    def authorise_certificate(
        self,
        context: SignInContext,
        chain_der: list[bytes],
        reply: Callable[[Access | Refusal], None],
        *,
        ocsp_responses: Sequence[bytes] = (),
        crls: Sequence[bytes] = (),
    ) -> None:
        """Check a client certificate: chain to our CA or to one that is trusted, dates, usage, that it names the
        identity in `context.ike_identity`, revocation, device, then the rules. The caller may check the signature
        before or after, and lets nobody in without it.

        Args:
            context: the circumstances.
            chain_der: end entity first, then what the client sent beside it.
            reply: called once; after some seconds, where another CA has to be asked.
            ocsp_responses: CERT payloads of encoding 14 (RFC 4806), DER; they may save that question.
            crls: CERT payloads of encoding 7, DER; they too.
        """

    def authorise_resumption(
        self, context: SignInContext, resumed: Resumed, reply: Callable[[Access | Refusal], None]
    ) -> None:
        """A peer has shown that it has the SA that a ticket is of: decide anew, as the user, device and certificate
        are now. Where another rule would decide than the first time, it is refused, and the peer has to sign in.
        """

    def session_started(self, start: SessionStart, reply: Callable[[Refusal | None], None]) -> None:
        """Open the accounting record. A refusal (the device was revoked in the meantime) ends the session."""

    def session_updated(self, usage: SessionUsage) -> None:
        """Interim accounting."""

    def session_ended(self, usage: SessionUsage, cause: TerminateCause) -> None:
        """Close the accounting record."""

    def sign_in_failed(self, context: SignInContext, code: str, reason: str, detail: dict[str, str]) -> None:
        """Write the audit event of a handshake that failed in the gateway itself (proposal, signature, ...)."""

    def handshake_reported(self, context: SignInContext, report: HandshakeReport) -> None:
        """Keep an explanation for the operator, for a while; like ones in a row become one."""
