"""What to say where nothing came any more, or where the client left: a sentence or two, and what to do."""

from __future__ import annotations

from gateway.diagnosis import account, clients
from gateway.diagnosis.clients import Family
from gateway.diagnosis.situation import (
    ONE_DATAGRAM_BYTES,
    Situation,
    authentication_steps,
    other_gateway,
    parting,
    silence,
)
from gateway.ike.evidence import Evidence
from gateway.ike.fragments import Incomplete

Explained = tuple[str, tuple[str, ...]]

_OPEN_PORTS = "Open UDP 500 and 4500 on the whole way, in both directions: firewalls, routers, the provider."
_OTHER_NETWORK = "Try it from another network, such as a phone's hotspot: if it works there, the first one blocks it."


def explain_silence(evidence: Evidence, who: str) -> Explained:
    """Why the handshake's time ran out."""
    situation = silence(evidence)
    match situation:
        case Situation.BACKEND_SLOW:
            return (
                "AAA had not answered when the handshake's time was over: the gateway waited for the database.",
                ("Look whether the database can be reached and is not locked: `ostiary check`, the gateway's log.",),
            )
        case Situation.FRAGMENT_LOST if evidence.incomplete is not None:
            return _fragment_lost(evidence, who, evidence.incomplete)
        case Situation.ANSWER_LOST | Situation.ANSWER_LOST_IN_FRAGMENTS:
            return _answer_lost(evidence, who, situation)
        case Situation.INIT_ANSWER_LOST | Situation.IKE_AUTH_DAMAGED | Situation.IKE_AUTH_MISSING:
            return _nothing_after_init(evidence, who, situation)
        case _:
            return _parting(evidence, situation, f"{account.capital(who)} fell silent", told=False)


def explain_parting(evidence: Evidence, who: str, reason: str) -> Explained:
    """Why the client left, which it said in `reason`."""
    what = "deleted the SA" if "deleted" in reason else f"gave up with {reason.rpartition(' ')[2]}"
    return _parting(evidence, parting(evidence), f"{account.capital(who)} {what}", told=True)


# --- The network --------------------------------------------------------------------------------------------


def _nothing_after_init(evidence: Evidence, who: str, situation: Situation) -> Explained:
    trace = evidence.trace
    first = account.exchange_name(evidence.first_exchange)
    first_port = trace.init_port if trace is not None else evidence.path.local_port
    if situation is Situation.IKE_AUTH_DAMAGED:
        return (
            f"{account.capital(who)} had its answer to {first}, and what it sent then did not verify: it was "
            "changed on the way, or somebody else sent it.",
            ("Try it from another network. If that does not help, report it with a packet capture of both ends.",),
        )
    if situation is Situation.INIT_ANSWER_LOST:
        count = trace.init_repeats if trace is not None else 0
        return (
            f"{account.capital(who)} sent {first} {count + 1} times and got an answer each time, but did not "
            f"go on: what the gateway sends from UDP {first_port} does not reach it.",
            (_OPEN_PORTS, _OTHER_NETWORK),
        )
    sentence = (
        f"{account.capital(who)} sent {first} to UDP {first_port} and was answered, but IKE_AUTH never came: a "
        "firewall or a NAT on the way does not let UDP 4500 through, to which it goes next."
    )
    if not evidence.takes_fragments:
        sentence += (
            " Or its IKE_AUTH was so long that it went as IP fragments, for it announced no IKE "
            "fragmentation, and those are dropped in many places."
        )
    return (
        sentence,
        (
            _OPEN_PORTS,
            _OTHER_NETWORK,
            f"See what arrives: tcpdump -ni any 'host {evidence.path.remote} and udp port 4500'",
        ),
    )


def _fragment_lost(evidence: Evidence, who: str, incomplete: Incomplete) -> Explained:
    there = set(incomplete.arrived)
    missing = [number for number in range(1, incomplete.total + 1) if number not in there]
    plural = "s" if len(missing) > 1 else ""
    sentence = (
        f"Fragment{plural} {_ranges(missing)} of {incomplete.total} of a message of {who} never came, the "
        f"other{'s' if len(there) > 1 else ''} did"
    )
    if there == {incomplete.total}:
        # The last one is the only one that may be short.
        sentence += (
            f". The last and shortest one came, with {incomplete.largest_bytes} bytes in it: something on the "
            "way drops UDP datagrams that are longer than its MTU, or a firewall drops long ones."
        )
    else:
        sentence += ": packets are lost on the way, or a firewall drops part of them."
    return (
        sentence,
        (
            *clients.fragment_advice(evidence.client),
            "Let UDP datagrams of full size pass: look at the MTU of tunnels and PPPoE lines on the way, and "
            "at firewalls that limit UDP.",
            _OTHER_NETWORK,
        ),
    )


def _answer_lost(evidence: Evidence, who: str, situation: Situation) -> Explained:
    step = authentication_steps(evidence.trace)[-1] if evidence.trace is not None else None
    if step is None:
        return "", ()
    sentence = f"{account.capital(who)} repeated a request {step.repeats} times that was answered each time: "
    if situation is Situation.ANSWER_LOST:
        return (
            sentence + f"the answer, one datagram of {step.answer_bytes} bytes, does not reach it.",
            (_OPEN_PORTS, _OTHER_NETWORK),
        )
    if step.answer_bytes > ONE_DATAGRAM_BYTES:
        return (
            sentence
            + f"the answer does not reach it. It has {step.answer_bytes} bytes and went as one datagram, in IP "
            "fragments, since the client takes no IKE fragments (RFC 7383); those are dropped in many places.",
            ("Update the client, so that it takes IKE fragments.", _OTHER_NETWORK),
        )
    size = evidence.config.fragment_size_bytes
    return (
        sentence
        + f"the answer, {step.answer_datagrams} fragments of up to {step.answer_bytes} bytes, does not reach it "
        "whole. Something on the way drops UDP datagrams of that size.",
        (
            f"Send shorter ones: gateway.fragment_size_bytes = 576 (now {size}).",
            "Or let UDP datagrams of that size pass: MTU of the lines on the way, firewalls that limit UDP.",
            _OTHER_NETWORK,
        ),
    )


# --- The client ---------------------------------------------------------------------------------------------


def _parting(evidence: Evidence, situation: Situation, did: str, *, told: bool) -> Explained:
    """`did` is what the client did, with its name; `told` where it said so."""
    identity = str(evidence.config.identity)
    credential = evidence.config.credentials[0].chain_der[0]
    names = ", ".join(account.certificate_names(credential)) or identity
    trust = clients.trust_advice(evidence.client, identity, rsa=account.has_rsa_key(credential))
    match situation:
        case Situation.OTHER_GATEWAY_WANTED:
            return (
                f"{did} when it had seen the gateway's certificate: it asked for {other_gateway(evidence)!r} "
                f"(IDr), and this gateway is {identity!r}.",
                (
                    f"Set the server name (remote ID) in the client to {identity}.",
                    "Or, if clients are to use the other name: gateway.identity, gateway.public_addresses.",
                ),
            )
        case Situation.AFTER_CERTIFICATE:
            silent = "" if told or Family.of(evidence.client) is Family.STRONGSWAN else _WITHOUT_A_WORD
            return (
                f"{did} as soon as it had the gateway's certificate: it does not trust the authority that "
                "issued it, or the name that it was set up with is not among the certificate's "
                f"({names}).{silent}",
                trust,
            )
        case Situation.IN_EAP:
            last = authentication_steps(evidence.trace)[-1] if evidence.trace is not None else None
            at = account.eap_text(last.eap_out) if last is not None else ""
            return (
                f"{did} within EAP{f', after the {at}' if at else ''}: it waited for a person who typed "
                "nothing, it was stopped, or it did not accept what came.",
                ("Try again, and look at what the client shows.", *clients.credential_advice(evidence.client)),
            )
        case Situation.AFTER_EAP:
            return (
                f"{did} after EAP had succeeded, without the proof of its key (AUTH): it did not accept the "
                "gateway's last message.",
                ("Look at what the client logs; report it if it is a stock client.", _OTHER_NETWORK),
            )
        case _:
            return (
                f"{did} when it had the gateway's last answer: it did not accept the gateway's proof, or could "
                "not set up the tunnel.",
                ("Look at what the client logs.", *trust),
            )


_WITHOUT_A_WORD = (
    " Stock clients say nothing to the gateway then; it may also be that a person was asked and did nothing."
)


def _ranges(numbers: list[int]) -> str:
    """`2`, `2 to 4`, `1, 3 to 5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
