"""What is noted of a handshake while it goes on, so that it can be explained where it fails or takes long.

Every handshake pays for it, so it keeps numbers and references and makes no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.ike.constants import ExchangeType

MOST_STEPS = 40
"""Further ones take the place of the last. EAP-TLS with a long chain in short fragments makes about as many."""


@dataclass(slots=True)
class Step:
    """A request of the peer and what became of it."""

    at: float
    """When it was complete, monotonic seconds."""
    exchange: int
    local_port: int
    fragments: int
    """In how many it came (RFC 7383), 1 where it came whole."""
    repeats: int = 0
    """How often it came again after it had been answered: so often the answer was lost."""
    answer_datagrams: int = 0
    answer_bytes: int = 0
    """Of the largest datagram."""
    backend_s: float = 0.0
    """How long AAA took over it."""
    eap_in: bytes = b""
    """The peer's EAP packet, and ours that answered it."""
    eap_out: bytes = b""


class Trace:
    """The handshake of one IKE SA, from its first request on.

    Args:
        now: monotonic seconds, at the beginning.
        local_port: where that request came in.
        first_exchange: IKE_SA_INIT, or IKE_SESSION_RESUME.
    """

    __slots__ = (
        "asked_identity",
        "began",
        "damaged",
        "first_exchange",
        "init_port",
        "init_repeats",
        "left_out",
        "steps",
        "waiting_since",
    )

    def __init__(self, now: float, local_port: int, first_exchange: int = ExchangeType.IKE_SA_INIT) -> None:
        self.began = now
        self.init_port = local_port
        self.first_exchange = first_exchange
        self.init_repeats = 0
        """How often the same first request came again."""
        self.damaged = 0
        """Datagrams under this SA's SPIs that did not verify."""
        self.steps: list[Step] = []
        """The exchanges after the first one."""
        self.left_out = 0
        self.asked_identity = b""
        """Body of the IDr payload by which the peer asked for a gateway."""
        self.waiting_since: float | None = None
        """Since when AAA has been asked without an answer."""

    def request(self, now: float, exchange: int, local_port: int, fragments: int) -> None:
        """A verified request is complete."""
        if len(self.steps) == MOST_STEPS:
            self.left_out += 1
            self.steps.pop()
        self.steps.append(Step(now, exchange, local_port, fragments))

    def answer(self, datagrams: Sequence[bytes]) -> None:
        """The last request is answered."""
        if self.steps:
            step = self.steps[-1]
            step.answer_datagrams = len(datagrams)
            step.answer_bytes = max(map(len, datagrams), default=0)

    def repeated(self) -> None:
        """The last request came again, and was answered again."""
        if self.steps:
            self.steps[-1].repeats += 1

    def ask_backend(self, now: float, eap: bytes = b"") -> None:
        """AAA is asked, with an EAP packet of the peer where there is one."""
        self.waiting_since = now
        if self.steps:
            self.steps[-1].eap_in = eap

    def backend_answered(self, now: float, eap: bytes = b"") -> None:
        """AAA has answered, with an EAP packet where it has one."""
        if self.steps and self.waiting_since is not None:
            self.steps[-1].backend_s += now - self.waiting_since
            self.steps[-1].eap_out = eap
        self.waiting_since = None
