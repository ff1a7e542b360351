"""What a silence means, and what made a client leave: read from how far the handshake had come."""

from __future__ import annotations

from enum import Enum

from gateway.diagnosis.causes import CATALOGUE, UNKNOWN, Cause
from gateway.ike.constants import ExchangeType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.evidence import Evidence
from gateway.ike.payloads.identification import Identification
from gateway.ike.states import State
from gateway.ike.trace import Step, Trace


class Situation(Enum):
    """Where a handshake stood when nothing came any more, or when the client left; each with its cause."""

    BACKEND_SLOW = Cause.BACKEND, "AAA had not answered"
    FRAGMENT_LOST = Cause.FRAGMENT, "a fragment of the client's request did not come"
    ANSWER_LOST_IN_FRAGMENTS = Cause.FRAGMENT, "our answer, in several pieces, did not reach the client"
    ANSWER_LOST = Cause.NETWORK, "our answer did not reach the client"
    INIT_ANSWER_LOST = Cause.NETWORK, "our answer to IKE_SA_INIT did not reach the client"
    IKE_AUTH_DAMAGED = Cause.NETWORK, "what came after IKE_SA_INIT did not verify"
    IKE_AUTH_MISSING = Cause.NETWORK, "nothing came after IKE_SA_INIT"
    OTHER_GATEWAY_WANTED = Cause.IDENTITY, "the client asked for a gateway of another name"
    AFTER_CERTIFICATE = Cause.GATEWAY_CERTIFICATE, "it was the client's turn, just after our certificate"
    IN_EAP = Cause.CLIENT, "it was the client's turn, within EAP"
    AFTER_EAP = Cause.CLIENT, "it was the client's turn, to prove the key of EAP"
    AT_THE_END = Cause.CLIENT, "the client had our last answer"

    @property
    def cause(self) -> Cause:
        """The rule."""
        return self.value[0]


ONE_DATAGRAM_BYTES = 1400
"""A larger one is split by IP on the common paths, and IP fragments are what many networks drop."""


def cause_of(evidence: Evidence, code: str) -> Cause:
    """The cause, without a word about it: every failure is counted, few are told."""
    if code == "handshake-timeout":
        return silence(evidence).cause
    if code == "client-gave-up":
        return parting(evidence).cause
    if code == "authentication-failed" and evidence.is_resumed:
        return Cause.RESUMPTION
    return CATALOGUE.get(code, UNKNOWN).cause


def silence(evidence: Evidence) -> Situation:
    """Why nothing came any more until the handshake's time was over."""
    trace = evidence.trace
    if trace is None:
        return Situation.AT_THE_END
    if trace.waiting_since is not None:
        return Situation.BACKEND_SLOW
    if evidence.incomplete is not None:
        return Situation.FRAGMENT_LOST
    steps = authentication_steps(trace)
    if not steps:
        if trace.damaged:
            return Situation.IKE_AUTH_DAMAGED
        return Situation.INIT_ANSWER_LOST if trace.init_repeats else Situation.IKE_AUTH_MISSING
    last = steps[-1]
    if last.repeats:
        in_pieces = last.answer_datagrams > 1 or last.answer_bytes > ONE_DATAGRAM_BYTES
        return Situation.ANSWER_LOST_IN_FRAGMENTS if in_pieces else Situation.ANSWER_LOST
    return parting(evidence)


def parting(evidence: Evidence) -> Situation:
    """What the client had before it when it left, with or without a word."""
    steps = authentication_steps(evidence.trace) if evidence.trace is not None else []
    if evidence.state is State.EAP_DONE:
        return Situation.AFTER_EAP
    if evidence.state is State.EAP and any(step.eap_in for step in steps):
        return Situation.IN_EAP
    if evidence.state is State.EAP or not (uses_eap(evidence) or evidence.is_resumed):
        # With a client's certificate, ours comes in the last answer.
        return Situation.OTHER_GATEWAY_WANTED if other_gateway(evidence) else Situation.AFTER_CERTIFICATE
    return Situation.AT_THE_END


def uses_eap(evidence: Evidence) -> bool:
    """Whether the client wanted EAP, also where the SA does not remember it any more."""
    steps = evidence.trace.steps if evidence.trace is not None else ()
    return evidence.by_eap or any(step.eap_out for step in steps)


def authentication_steps(trace: Trace) -> list[Step]:
    """The exchanges of IKE_AUTH."""
    return [step for step in trace.steps if step.exchange == ExchangeType.IKE_AUTH]


def other_gateway(evidence: Evidence) -> str:
    """The name (IDr) that the client asked for, where it is none of ours; else empty."""
    wanted = asked_identity(evidence)
    return str(wanted) if wanted is not None and wanted not in evidence.config.identities else ""


def asked_identity(evidence: Evidence) -> Identification | None:
    """The IDr of the client's request."""
    body = evidence.trace.asked_identity if evidence.trace is not None else b""
    try:
        return Identification.parse(body) if body else None
    except InvalidSyntax:
        return None
