"""What an EAP method is to the server that runs it: type data in, type data or a verdict out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from aaa.eap.errors import FailureCode
from aaa.eap.questions import Answer, Question

MSK_BYTES = 64

MethodLabel = Literal["eap-mschapv2", "eap-tls", "eap-ttls", "eap-peap", "eap-gtc"]
"""How a method is called in audit events and sessions."""


@dataclass(frozen=True, slots=True)
class MethodFailure:
    """The peer is not authenticated."""

    code: FailureCode
    reason: str
    """In words, for the operator; what it quotes of the peer is made printable and short."""


@dataclass(frozen=True, slots=True)
class MethodContinue:
    """Send this and bring the answer."""

    data: bytes
    refusal: MethodFailure | None = None
    """Set where the verdict is out already and this request only tells the peer (a TLS alert)."""


@dataclass(frozen=True, slots=True)
class MethodSuccess:
    """The peer is authenticated."""

    msk: bytes = field(repr=False)
    """`MSK_BYTES` of key that only the two ends know; empty where the method makes none (EAP-GTC)."""
    credential_key: str | None = None
    """Which of the candidate credentials fitted."""
    chain_der: tuple[bytes, ...] = ()
    """The verified client certificate and its intermediates, end entity first, without the trust anchor."""


@dataclass(frozen=True, slots=True)
class MethodAsk:
    """The method can't go on without an answer, which `Method.answer` takes."""

    question: Question


MethodStep = MethodContinue | MethodAsk | MethodSuccess | MethodFailure


class Method(Protocol):
    """The server's side of one run of one method. It sends neither EAP-Success nor EAP-Failure."""

    @property
    def eap_type(self) -> int:
        """The number of its packets."""

    @property
    def label(self) -> MethodLabel:
        """Its name."""

    def start(self) -> MethodContinue | MethodAsk:
        """The type data of the first request, or what has to be known before."""

    def process(self, data: bytes) -> MethodStep:
        """The type data of a response of the peer.

        Raises:
            EapError: the data can't be what the method waits for; the conversation fails with its code.
        """

    def answer(self, answer: Answer) -> MethodStep:
        """The answer to what `MethodAsk` asked; the caller has seen to it that it is one.

        Raises:
            EapError: as `process` does.
        """
