"""What there is to tell why a handshake failed: references, taken from the SA before it is emptied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.ike.child import Assignment
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import IKE_HEADER_BYTES, ExchangeType, PayloadType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.fragments import Incomplete
from gateway.ike.message import Header, parse_payloads
from gateway.ike.path import Path
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.security_association import Proposal, parse_proposals
from gateway.ike.proposals import IkeSuite
from gateway.ike.selectors import TrafficSelector
from gateway.ike.states import State
from gateway.ike.trace import Trace

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


@dataclass(slots=True)
class Evidence:
    """Of one handshake. Where no SA was made, there is no more than path, client and offer."""

    config: ResponderConfig
    path: Path
    client: str
    """What the peer looks like, empty where nothing tells."""
    offer: bytes = b""
    """Body of the SA payload of IKE_SA_INIT, where there is no whole request."""
    init_request: bytes = b""
    first_exchange: int = ExchangeType.IKE_SA_INIT
    """IKE_SESSION_RESUME where the client came with a ticket."""
    spi_r: bytes = b""
    """Empty where no SA was made."""
    state: State | None = None
    identity: str = ""
    suite: IkeSuite | None = None
    trace: Trace | None = None
    nat_remote: bool = False
    nat_local: bool = False
    takes_fragments: bool = False
    keys_agreed: bool = False
    """Something authentic came: the peer receives at its address."""
    incomplete: Incomplete | None = None
    """The fragmented request of which something is missing."""
    child_proposals: tuple[Proposal, ...] = ()
    initiator_selectors: tuple[TrafficSelector, ...] = ()
    responder_selectors: tuple[TrafficSelector, ...] = ()
    configuration: Configuration | None = None
    by_eap: bool = False
    """The peer asked for EAP; else it signed."""
    chain_der: tuple[bytes, ...] = ()
    assignment: Assignment | None = None

    @property
    def is_resumed(self) -> bool:
        """The client came with a ticket (RFC 5723): neither side shows a certificate."""
        return self.first_exchange == ExchangeType.IKE_SESSION_RESUME

    def ike_proposals(self) -> tuple[Proposal, ...]:
        """What the peer offered for the IKE SA; empty where that is not known any more."""
        try:
            offer = self.offer or _offer(self.init_request)
            return parse_proposals(offer) if offer else ()
        except InvalidSyntax:
            return ()


def evidence_of(sa: IkeSa) -> Evidence:
    """The evidence that an SA holds just now."""
    found = Evidence(
        sa.config,
        sa.path,
        sa.client,
        init_request=sa.init_request,
        spi_r=sa.spi_r,
        state=sa.state,
        identity=sa.peer_identity,
        suite=sa.suite,
        trace=sa.trace,
        nat_remote=sa.nat_remote,
        nat_local=sa.nat_local,
        takes_fragments=sa.peer_fragments,
        incomplete=sa.channel.incomplete_request if sa.channel is not None else None,
        assignment=sa.assignment,
    )
    found.keys_agreed = sa.last_received > 0.0 or found.incomplete is not None
    if sa.trace is not None:
        found.first_exchange = sa.trace.first_exchange
    auth = sa.auth
    if auth is not None:
        found.child_proposals = auth.proposals
        found.initiator_selectors, found.responder_selectors = auth.initiator_selectors, auth.responder_selectors
        found.configuration = auth.configuration
        found.by_eap = auth.by_eap
        found.chain_der = auth.chain_der
    return found


def _offer(init_request: bytes) -> bytes:
    if not init_request:
        return b""
    payloads = parse_payloads(Header.parse(init_request).next_payload, init_request[IKE_HEADER_BYTES:])
    return payloads.first(PayloadType.SA) or b""
