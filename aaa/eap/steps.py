"""What an EAP conversation wants next of whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass, field

from aaa.eap.method import MethodLabel
from aaa.eap.questions import Question


@dataclass(frozen=True, slots=True)
class Send:
    """Send this EAP-Request and bring the response."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The peer has proven itself. Decide what it may do, then `success` or `failure`."""

    identity: str
    """As typed: the EAP identity, or the one that was said inside the tunnel. With EAP-TLS it may be anything: the
    certificate says who it is."""
    method: MethodLabel
    msk: bytes = field(repr=False)
    """64 bytes; empty where the method makes none, which happens inside a tunnel only."""
    credential_key: str | None
    """Which credential fitted: `NtCredential.key` or `PasswordRight.key`."""
    chain_der: tuple[bytes, ...]
    """EAP-TLS: the client certificate and its intermediates as OpenSSL verified them, end entity first, without
    the trust anchor."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The conversation is over."""

    packet: bytes
    """The EAP-Failure."""
    identity: str
    """As of `Authenticated`; empty where none was said."""
    code: str
    """A `FailureCode`."""
    reason: str
    """In words, for the operator."""


Step = Send | Question | Authenticated | Failed
