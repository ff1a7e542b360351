"""What is kept of an authentication under way, from its first request until the SA is established."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.ike.child import Child
from gateway.ike.constants import NotifyType, PayloadType
from gateway.ike.credential_choice import ProofWish
from gateway.ike.errors import ClientGaveUp
from gateway.ike.message import Payloads
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal
from gateway.ike.selectors import TrafficSelector


@dataclass(frozen=True, slots=True)
class Notifies:
    """The notifies of one request; of several of one type the first."""

    by_type: dict[int, Notify]

    @classmethod
    def parse(cls, payloads: Payloads) -> Notifies:
        """Decode.

        Raises:
            InvalidSyntax: one is malformed.
            ClientGaveUp: one is an error, for instance because the client does not trust our certificate.
        """
        by_type: dict[int, Notify] = {}
        for body in payloads.all(PayloadType.NOTIFY):
            notify = Notify.parse(body)
            if notify.is_known_error:
                raise ClientGaveUp(f"the client gave up: {notify}")
            by_type.setdefault(notify.type, notify)
        return cls(by_type)

    def has(self, kind: NotifyType) -> bool:
        """Whether there is one of this type."""
        return kind in self.by_type

    def data(self, kind: NotifyType) -> bytes | None:
        """The data of the one of this type, None where there is none."""
        notify = self.by_type.get(kind)
        return notify.data if notify is not None else None


@dataclass(slots=True)
class IkeAuth:
    """The authentication of one peer, which may consist of two (RFC 4739)."""

    idi_body: bytes
    """Of the authentication under way: the second one has an identity of its own."""
    idr_body: bytes
    """Of our answer."""
    proposals: tuple[Proposal, ...]
    """Of the first child SA; empty where the client wants none yet (RFC 6023)."""
    initiator_selectors: tuple[TrafficSelector, ...]
    responder_selectors: tuple[TrafficSelector, ...]
    configuration: Configuration | None
    initial_contact: bool
    wish: ProofWish
    by_eap: bool
    """The peer proves itself by EAP; else by signature or pre-shared key."""
    eap_only: bool = False
    """We prove ourselves by EAP as well, and by nothing else (RFC 5998)."""
    chain_der: tuple[bytes, ...] = ()
    childless: bool = False
    another_follows: bool = False
    """The peer announced a second authentication."""
    is_second: bool = False
    """The first of two authentications is done."""
    introduced: bool = False
    """Our IDr and, unless EAP alone counts, CERT and AUTH are out."""
    site_secret: bytes = field(default=b"", repr=False)
    """The pre-shared key, of a site peer that proved to have it."""
    msk: bytes = field(default=b"", repr=False)
    ppk_used: bool = False
    """The keys have a post-quantum pre-shared key in them, and our AUTH has to say so (RFC 8784)."""
    proof: tuple[tuple[PayloadType, bytes], ...] = ()
    """Our side of the authentication for the last response, made when the peer has proved itself."""
    child: Child | None = None
    answer: Proposal | None = None
