"""What a responder is told at start: who it is, what it accepts, how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.ike.authentication import PrivateKey
from gateway.ike.payloads.identification import Identification
from gateway.ike.proposals import MODERN, ProposalPolicy


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
    refused_delete_delay_s: float = 0.5
    """Between the response that refuses a child SA and the Delete of the IKE SA."""
    linger_s: float = 10.0
    """How long a closed SA answers retransmissions."""
