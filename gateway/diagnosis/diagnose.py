"""From the evidence of a handshake to the report that an operator reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aaa.interface import HandshakeReport
from gateway.diagnosis import account, clients
from gateway.diagnosis.causes import CATALOGUE, UNKNOWN, Cause
from gateway.diagnosis.offers import lacks
from gateway.diagnosis.silences import explain_parting, explain_silence
from gateway.diagnosis.situation import cause_of
from gateway.ike.constants import ProtocolId
from gateway.ike.evidence import Evidence
from gateway.ike.proposal_text import describe, policy_text
from gateway.ike.states import State

SLOW = "slow-handshake"
"""The code of a handshake that succeeded."""
_EAP_REQUEST = b"\x01"


@dataclass(slots=True)
class Finding:
    """What is to be said of a failure, beside its facts."""

    explanation: str
    advice: Sequence[str]
    offered: str = ""
    allowed: str = ""


def report_failure(evidence: Evidence, code: str, reason: str, now: float) -> HandshakeReport:
    """Explain a handshake that failed.

    Args:
        evidence: of the moment when it did.
        code: of the audit event.
        reason: of the audit event.
        now: monotonic seconds.
    """
    finding = _FINDERS.get(code, _general)(evidence, code, reason)
    trace = evidence.trace
    return HandshakeReport(
        outcome="failed",
        code=code,
        cause=cause_of(evidence, code).value,
        remote_port=evidence.path.remote_port,
        proven=evidence.keys_agreed,
        duration_s=now - trace.began if trace is not None else 0.0,
        explanation=finding.explanation,
        advice=tuple(finding.advice),
        offered=finding.offered,
        allowed=finding.allowed,
        facts=account.facts(evidence, now),
        timeline=account.timeline(evidence, now, f"failed: {code}"),
    )


def report_slow(evidence: Evidence, now: float) -> HandshakeReport:
    """Explain a handshake that took long, and came to a good end all the same."""
    cause, explanation, advice = _where_the_time_went(evidence, now)
    trace = evidence.trace
    return HandshakeReport(
        outcome="slow",
        code=SLOW,
        cause=cause.value,
        remote_port=evidence.path.remote_port,
        proven=True,
        duration_s=now - trace.began if trace is not None else 0.0,
        explanation=explanation,
        advice=advice,
        facts=account.facts(evidence, now),
        timeline=account.timeline(evidence, now, "connected"),
    )


def slow_cause(evidence: Evidence, now: float) -> Cause:
    """What the time of a slow handshake went to, without a word about it."""
    return _where_the_time_went(evidence, now)[0]


def _where_the_time_went(evidence: Evidence, now: float) -> tuple[Cause, str, tuple[str, ...]]:
    who, trace = account.who(evidence), evidence.trace
    if trace is None:
        return Cause.CLIENT, f"{account.capital(who)} took long to connect.", ()
    took_s, backend_s = now - trace.began, account.backend_s(trace, now)
    took = account.seconds(took_s)
    repeats = trace.init_repeats + sum(step.repeats for step in trace.steps)
    if backend_s > took_s / 2:
        return (
            Cause.BACKEND,
            f"It took {took}, of which AAA took {account.seconds(backend_s)}: the gateway waited for the database.",
            ("Look whether another process keeps the database busy or locked, and how fast its disk is.",),
        )
    if repeats:
        return (
            Cause.NETWORK,
            f"It took {took}: {who} had to repeat {repeats} of its messages, since packets were lost on the way.",
            ("Look for packet loss between client and gateway.",),
        )
    return (
        Cause.CLIENT,
        f"It took {took}, nearly all of it {who}'s own: it waited for a person, or it is slow, or messages of "
        "it that never arrived were repeated.",
        ("Nothing, where a person was asked for a password or a confirmation.",),
    )


# --- One for each kind of story -----------------------------------------------------------------------------


def _general(evidence: Evidence, code: str, reason: str) -> Finding:
    """The reason says it all."""
    entry = CATALOGUE.get(code, UNKNOWN)
    advice = list(entry.advice)
    if entry.cause is Cause.CREDENTIAL:
        advice += clients.credential_advice(evidence.client)
    return Finding(_sentence(reason), advice)


def _no_proposal(evidence: Evidence, code: str, reason: str) -> Finding:
    is_child = evidence.state is not None and evidence.state is not State.HALF_OPEN
    protocol = ProtocolId.ESP if is_child else ProtocolId.IKE
    proposals = evidence.child_proposals if is_child else evidence.ike_proposals()
    policy = evidence.config.policy
    missing = lacks(proposals, policy, protocol)
    what = "the tunnel (ESP)" if is_child else "IKE"
    if missing:
        kinds = ", and ".join(lack.sentence for lack in missing)
        explanation = f"{_client(evidence)} offers for {what} {kinds}."
    else:
        explanation = (
            f"None of the proposals of {account.who(evidence)} for {what} is allowed as a whole, though each "
            "algorithm that is needed is in one of them."
        )
    return Finding(
        explanation,
        clients.proposal_advice(evidence.client, policy, [lack.kind for lack in missing]),
        describe(proposals),
        f"policy {policy.name}: {policy_text(policy)}",
    )


def _timeout(evidence: Evidence, code: str, reason: str) -> Finding:
    return Finding(*explain_silence(evidence, account.who(evidence)))


def _gave_up(evidence: Evidence, code: str, reason: str) -> Finding:
    return Finding(*explain_parting(evidence, account.who(evidence), reason))


def _refused_in_tls(evidence: Evidence, code: str, reason: str) -> Finding:
    name = str(evidence.config.identity)
    return Finding(
        f"{_sentence(reason)} Within EAP it checks the same certificate as in IKE.",
        clients.trust_advice(evidence.client, name, rsa=True),
    )


def _no_common_method(evidence: Evidence, code: str, reason: str) -> Finding:
    steps = evidence.trace.steps if evidence.trace is not None else []
    naks = [account.wanted_methods(step.eap_in) for step in steps]
    wanted = next((methods for methods in naks if methods), ())
    requests = [account.eap_text(step.eap_out) for step in steps if step.eap_out[:1] == _EAP_REQUEST]
    offered = dict.fromkeys(text.partition(" ")[2] for text in requests)
    asked = ", ".join(f"EAP-{method}" for method in offered if method not in ("", "Identity"))
    # AAA names all that it has; what was asked for may be the first of them only.
    allowed = reason.partition("; here it is ")[2] or asked
    if not wanted:
        return _general(evidence, code, reason)
    names = ", ".join(f"EAP-{method}" for method in wanted)
    return Finding(
        f"{_client(evidence)} wants {names}, and the gateway has only {allowed or 'other methods'} to offer.",
        CATALOGUE[code].advice,
        names,
        allowed,
    )


def _selectors(evidence: Evidence, code: str, reason: str) -> Finding:
    assignment = evidence.assignment
    asked = ", ".join(map(str, evidence.responder_selectors))
    networks = ", ".join(map(str, assignment.networks)) if assignment is not None else ""
    virtual = [assignment.virtual_ipv4, assignment.virtual_ipv6] if assignment is not None else []
    addresses = ", ".join(str(address) for address in virtual if address is not None)
    return Finding(
        f"{_client(evidence)} signed in, but nothing of what it asked to reach is what it may reach.",
        CATALOGUE[code].advice,
        f"{asked} (for itself: {', '.join(map(str, evidence.initiator_selectors))})",
        f"{networks} (for itself: {addresses})",
    )


def _no_address_asked(evidence: Evidence, code: str, reason: str) -> Finding:
    return Finding(
        f"{_client(evidence)} signed in, but asked for no virtual address of a family that its pool has.",
        CATALOGUE[code].advice,
    )


def _no_address_left(evidence: Evidence, code: str, reason: str) -> Finding:
    return Finding(f"{_client(evidence)} signed in, but {reason}.", CATALOGUE[code].advice)


_FINDERS: dict[str, Callable[[Evidence, str, str], Finding]] = {
    "no-proposal-chosen": _no_proposal,
    "handshake-timeout": _timeout,
    "client-gave-up": _gave_up,
    "client-refused-server": _refused_in_tls,
    "no-common-method": _no_common_method,
    "ts-unacceptable": _selectors,
    "failed-cp-required": _no_address_asked,
    "internal-address-failure": _no_address_left,
}


def _client(evidence: Evidence) -> str:
    """The client at the beginning of a sentence."""
    return account.capital(account.who(evidence))


def _sentence(reason: str) -> str:
    """A reason of the audit log as a sentence: `the code has ended` to `The code has ended.`"""
    text = reason.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}" if text else ""
