"""What a responder is told at start: who it is, what it accepts, how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.ike.authentication import PrivateKey
from gateway.ike.payloads.identification import Identification
from gateway.ike.policy import MODERN, ProposalPolicy


@dataclass(frozen=True, slots=True)
class Credential:
    """How the gateway proves itself."""

    chain_der: tuple[bytes, ...]
    """End entity first, intermediates after it, no root."""
    private_key: PrivateKey = field(repr=False)
    authorities: tuple[bytes, ...]
    """SHA-1 of the SubjectPublicKeyInfo of each CA whose client certificates are accepted (CERTREQ)."""


@dataclass(frozen=True, slots=True)
class ResponderConfig:
    """All that the protocol core knows from outside; times are seconds, sizes bytes."""

    identity: Identification
    """IDr where the client asks for none of `identities`."""
    identities: tuple[Identification, ...]
    """The names under which a client may ask for this gateway."""
    credential: Credential
    policy: ProposalPolicy = MODERN
    worker_index: int = 0
    """First byte of each responder SPI, so that a datagram finds the worker that holds its SA."""
    fragment_size_bytes: int = 1280
    half_open_timeout_s: float = 30.0
    half_open_limit: int = 2000
    half_open_limit_per_address: int = 50
    cookie_threshold: int = 100
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
    retry_delay_s: float = 10.0
    """After TEMPORARY_FAILURE; each further time so much longer."""
    refused_delete_delay_s: float = 0.5
    """Between the response that refuses a child SA and the Delete of the IKE SA."""
    linger_s: float = 10.0
    """How long a closed SA answers retransmissions."""
