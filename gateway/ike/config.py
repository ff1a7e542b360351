"""What a responder is told at start: who it is, what it accepts, how long it waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from gateway.ike.authentication import PrivateKey
from gateway.ike.payloads.identification import Identification
from gateway.ike.policy import MODERN, ProposalPolicy
from gateway.ike.ticket import TicketKeeper


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate by which the gateway can prove itself."""

    chain_der: tuple[bytes, ...]
    """End entity first, intermediates after it, no root."""
    private_key: PrivateKey = field(repr=False)
    issuers: tuple[bytes, ...] = ()
    """SHA-1 of the SubjectPublicKeyInfo of each CA above it, as a client's CERTREQ names them."""
    ocsp_response_der: bytes = b""
    """That the certificate is good, signed by its CA, for clients that ask (RFC 4806); empty where there is none."""


@dataclass(frozen=True, slots=True)
class SitePeer:
    """Another network's gateway that proves itself, and us, by a pre-shared key."""

    name: str
    identity: Identification
    """Its IDi."""
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResponderConfig:
    """All that the protocol core knows from outside; times are seconds, sizes bytes."""

    identity: Identification
    """IDr where the client asks for none of `identities`."""
    identities: tuple[Identification, ...]
    """The names under which a client may ask for this gateway."""
    credentials: tuple[Credential, ...]
    """At least one; of equally good ones a client gets the first."""
    authorities: tuple[bytes, ...] = ()
    """SHA-1 of the SubjectPublicKeyInfo of each CA whose client certificates are accepted (CERTREQ)."""
    wants_ocsp: bool = False
    """Ask clients to send OCSP responses with their certificates (RFC 4806)."""
    rsa_pss: bool = False
    """Sign with RSASSA-PSS, instead of PKCS#1 v1.5, for clients of RFC 7427 that do not say what they can."""
    eap_only: bool = False
    """Leave out the certificate for clients that take EAP alone (RFC 5998): only where every EAP method that AAA
    offers proves the gateway as well.
    """
    site_peers: tuple[SitePeer, ...] = ()
    ppks: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    """Post-quantum pre-shared keys by their names (RFC 8784)."""
    ppk_required: bool = False
    """Nobody enters without one of `ppks`."""
    addresses: tuple[str, ...] = ()
    """Where the gateway can be reached, for clients that can change between them (RFC 4555)."""
    inner_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where the tunnels lead to clients: no outer address lies there."""
    natt_port: int = 4500
    tickets: TicketKeeper | None = None
    """Where there is one, clients get tickets to come back with (RFC 5723)."""
    policy: ProposalPolicy = MODERN
    worker_index: int = 0
    """First byte of each responder SPI, so that a datagram finds the worker that holds its SA."""
    fragment_size_bytes: int = 1280
    half_open_timeout_s: float = 30.0
    half_open_limit: int = 2000
    half_open_limit_per_address: int = 50
    cookie_threshold: int = 100
    cookie_threshold_per_address: int = 10
    init_rate_per_address: float = 50.0
    """Handshakes a second that one address may begin, with or without a cookie; in a burst four times as many."""
    dpd_interval_s: float = 30.0
    keepalive_interval_s: float = 20.0
    retransmit_timeouts_s: tuple[float, ...] = (2.0, 3.0, 5.0, 8.0, 12.0)
    ike_rekey_s: float = 14 * 3600.0
    """After which we rekey an IKE SA, if its peer has not. Clients do it after 2 to 8 hours and prefer it so."""
    children_limit: int = 8
    """Child SAs of one IKE SA, beside those that were just replaced."""
    replaced_linger_s: float = 3.0
    """How long a child SA that was replaced still takes packets in."""
    replaced_delete_s: float = 30.0
    """How long a replaced IKE SA waits for the peer's Delete before it sends its own."""
    mobike_patience_s: float = 300.0
    """How long a peer that can move has at least to answer, for it may be on its way (RFC 4555 section 3.11)."""
    redirect_patience_s: float = 30.0
    """How long a client that was sent to another gateway has until its SA is deleted."""
    window_size: int = 1
    """Requests that a peer may have outstanding at a time; above 1 it is told so (SET_WINDOW_SIZE)."""
    retry_delay_s: float = 10.0
    """After TEMPORARY_FAILURE; each further time so much longer."""
    refused_delete_delay_s: float = 0.5
    """Between the response that refuses a child SA and the Delete of the IKE SA."""
    linger_s: float = 10.0
    """How long a closed SA answers retransmissions."""
