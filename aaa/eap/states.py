"""Where an EAP conversation can stand, and what a packet is to it."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a conversation stands."""

    IDLE = "idle"
    IDENTITY = "identity"
    """Asked for the identity."""
    QUESTION = "question"
    """Asked the caller for the user's credentials, or about a password."""
    OFFERED = "offered"
    """Sent the first request of the preferred method, which the peer may still decline by a Nak."""
    METHOD = "method"
    """The method is under way, or is the one that a Nak asked for."""
    AUTHENTICATED = "authenticated"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Input(Enum):
    """What a packet of the peer is to the state machine. What is malformed, or no response to the outstanding
    request, never becomes an input.
    """

    IDENTITY = "identity"
    NOTIFICATION = "notification"
    NAK = "nak"
    EXPANDED = "expanded"
    METHOD = "method"
    """A response of the type that was asked for."""
    OTHER = "other"
