"""Effects of the core: what the shell is asked to do, and what it is told. Answers come back as calls on the SA.

Not frozen, since a frozen dataclass takes three times as long to make, and a handshake makes seven of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from gateway.ike.child import Child
from gateway.ike.ticket import Grant

if TYPE_CHECKING:
    from gateway.ike.evidence import Evidence
    from gateway.ike.sa import IkeSa


class CloseCause(Enum):
    """Why an IKE SA ended."""

    PEER_DELETE = "the client disconnected"
    LOST = "the client no longer answers"
    SESSION_TIMEOUT = "the session's lifetime is over"
    ADMIN = "disconnected by the security team"
    REPLACED = "replaced by a new session of the device"
    SHUTDOWN = "the gateway stops"
    REDIRECTED = "sent to another gateway"
    REFUSED = "refused"
    HALF_OPEN_TIMEOUT = "the client did not go on with the handshake"
    PROTOCOL_ERROR = "the client broke the protocol"
    CHANGED = "the session may reach more, and the client took no new child SA"
    NOT_CONFIRMED = "its start could not be confirmed in time"
    NOT_REKEYED = "the client did not let its keys be renewed"


@dataclass(slots=True)
class EapStarted:
    """Open an EAP conversation, then call `eap_continue`."""

    sa: IkeSa
    mutual: bool = False
    """EAP is all by which the gateway proves itself: no method but one that proves both sides may be used."""


@dataclass(slots=True)
class EapReceived:
    """Give the packet to the conversation, then call `eap_continue`, `eap_succeeded` or `eap_failed`."""

    sa: IkeSa
    packet: bytes


@dataclass(slots=True)
class CertificateReceived:
    """The peer has the key of this chain's first certificate: ask whether it may enter, then call `authorised` or
    `refuse`.
    """

    sa: IkeSa
    chain_der: tuple[bytes, ...]
    ocsp_responses: tuple[bytes, ...] = ()
    """What the peer sent about its certificates (RFC 4806)."""
    crls: tuple[bytes, ...] = ()
    another_follows: bool = False
    """It is the device's; `EapStarted` follows for its user, and only then it is decided (RFC 4739)."""


@dataclass(slots=True)
class SitePeerProved:
    """A site peer has the pre-shared key: ask whether it may enter, then call `authorised` or `refuse`."""

    sa: IkeSa
    name: str
    """By which the configuration calls it."""


@dataclass(slots=True)
class TicketRedeemed:
    """The peer has the SA that a ticket is of: ask whether it may enter still, then call `authorised` or `refuse`."""

    sa: IkeSa
    grant: Grant
    """As it was given out with the ticket."""


@dataclass(slots=True)
class AssignmentWanted:
    """The peer is authenticated: find addresses, then call `assign` or `refuse_child`.

    With INITIAL_CONTACT it has no other SA any more (RFC 7296 section 2.4): those of the same identity are to be
    forgotten first, and their addresses are free.
    """

    sa: IkeSa
    wants_ipv4: bool
    wants_ipv6: bool
    initial_contact: bool
    asked_ipv4: IPv4Address | IPv6Address | None = None
    """The address that it would like to have."""
    asked_ipv6: IPv4Address | IPv6Address | None = None


@dataclass(slots=True)
class ChildReady:
    """Install this child SA, then call `child_installed` or `child_failed` with its SPI.

    `outbound` is False where the peer does not expect our packets on it yet: `ChildStarted` follows.
    """

    sa: IkeSa
    child: Child
    outbound: bool = True


@dataclass(slots=True)
class ChildStarted:
    """The peer is ready for our packets on this child SA, which was installed without its outbound side."""

    sa: IkeSa
    spi_in: int


@dataclass(slots=True)
class ChildRefused:
    """The peer, or the data plane, did not let us replace a child SA, which stays as it is.

    For a rekeying that is all; for a change of what the session may reach the shell has to act.
    """

    sa: IkeSa
    spi_in: int
    reason: str
    rekeying: bool


@dataclass(slots=True)
class RekeyRefused:
    """The peer does not let us rekey the IKE SA; it is asked again, and the SA ends if that goes on for too long."""

    sa: IkeSa
    reason: str


@dataclass(slots=True)
class SaEstablished:
    """The peer is in."""

    sa: IkeSa


@dataclass(slots=True)
class SaRekeyed:
    """`new` has taken the place of `sa`, with its child SAs; `SaClosed` will come for `new`."""

    sa: IkeSa
    new: IkeSa


@dataclass(slots=True)
class ChildDeleted:
    """A child SA is gone on both sides: remove it."""

    sa: IkeSa
    spi_in: int


@dataclass(slots=True)
class LivenessWanted:
    """Nothing came by IKE for a while: call `check_liveness` with the time of the last ESP packet."""

    sa: IkeSa


@dataclass(slots=True)
class PathChanged:
    """The peer's outer address changed behind a NAT."""

    sa: IkeSa


@dataclass(slots=True)
class HandshakeFailed:
    """A handshake ended without a session, by a decision of the gateway or of the peer itself."""

    sa: IkeSa
    code: str
    reason: str
    evidence: Evidence
    """Of the moment before the SA was emptied."""


@dataclass(slots=True)
class FirstRequestRefused:
    """An IKE_SA_INIT or IKE_SESSION_RESUME that came to nothing; there is no SA."""

    code: str
    """`no-proposal-chosen`, `too-many-handshakes`, `cookie-refused`, `ticket-refused`."""
    reason: str
    evidence: Evidence


@dataclass(slots=True)
class SaClosed:
    """The SA is over: remove its child SA, free its addresses. Emitted once for each SA."""

    sa: IkeSa
    cause: CloseCause


Event = (
    EapStarted
    | EapReceived
    | CertificateReceived
    | SitePeerProved
    | TicketRedeemed
    | AssignmentWanted
    | ChildReady
    | ChildStarted
    | ChildRefused
    | RekeyRefused
    | SaEstablished
    | SaRekeyed
    | ChildDeleted
    | LivenessWanted
    | PathChanged
    | HandshakeFailed
    | FirstRequestRefused
    | SaClosed
)
