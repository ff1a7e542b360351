"""The account of a handshake: its facts and its timeline, as text."""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.diagnosis.situation import asked_identity, uses_eap
from gateway.ike.constants import CfgAttribute, ExchangeType
from gateway.ike.evidence import Evidence
from gateway.ike.trace import Step, Trace

_EAP_CODES = {1: "request", 2: "response", 3: "success", 4: "failure"}
_EAP_TYPES = {
    1: "Identity",
    2: "Notification",
    3: "Nak",
    4: "MD5",
    6: "GTC",
    13: "TLS",
    18: "SIM",
    21: "TTLS",
    23: "AKA",
    25: "PEAP",
    26: "MSCHAPv2",
    43: "FAST",
    50: "AKA'",
    52: "PWD",
    55: "TEAP",
    254: "expanded type",
}
_EAP_HEADER_BYTES = 5
_IDENTITY = b"\x01"
_LONGEST_IDENTITY = 253
_NAK = 3
_MOST_WANTED = 8


def who(evidence: Evidence) -> str:
    """What to call the client within a sentence."""
    return evidence.client or "the client"


def capital(text: str) -> str:
    """At the beginning of one; iOS stays iOS."""
    return "The client" if text == "the client" else text


def facts(evidence: Evidence, now: float) -> tuple[tuple[str, str], ...]:
    """Name and value, what matters most first; what is not known is left out."""
    trace, path = evidence.trace, evidence.path
    asked = asked_identity(evidence)
    found = [
        ("looks like", evidence.client),
        ("identity (IDi)", evidence.identity),
        ("identity in EAP", eap_identity(evidence)),
        ("asked for (IDr)", str(asked) if asked is not None else ""),
        ("from", path.remote_text),
        ("to", path._replace(remote=path.local, remote_port=path.local_port).remote_text),
        ("NAT", _nat(evidence)),
        ("IKE suite", str(evidence.suite) if evidence.suite is not None else ""),
        ("authentication", _authentication(evidence)),
        ("client certificate", _certificate_text(evidence.chain_der[0]) if evidence.chain_der else ""),
        ("asked to be configured with", _configuration(evidence)),
        ("IKE fragmentation", ("taken" if evidence.takes_fragments else "not taken") if trace is not None else ""),
    ]
    if trace is not None:
        found += [
            (f"repeated {exchange_name(evidence.first_exchange)}", _times(trace.init_repeats)),
            ("repeated answered requests", _times(sum(step.repeats for step in trace.steps))),
            ("datagrams that did not verify", _times(trace.damaged)),
            ("AAA took", seconds(backend_s(trace, now)) if backend_s(trace, now) >= 0.001 else ""),
            ("took", seconds(now - trace.began)),
        ]
    return tuple((name, value) for name, value in found if value)


def timeline(evidence: Evidence, now: float, end: str) -> tuple[tuple[float, str], ...]:
    """Seconds since the beginning, and what happened; the last entry is `end`."""
    trace = evidence.trace
    if trace is None:
        return ((0.0, f"{exchange_name(evidence.first_exchange)} on port {evidence.path.local_port}: {end}"),)
    again = f"; came {trace.init_repeats} times more" if trace.init_repeats else ""
    first = exchange_name(evidence.first_exchange)
    entries = [(0.0, f"{first} on port {trace.init_port}, answered{again}")]
    entries += [(step.at - trace.began, _step(step)) for step in trace.steps]
    if trace.left_out:
        entries.insert(-1, (entries[-1][0], f"{trace.left_out} further requests"))
    if evidence.incomplete is not None:
        arrived = ", ".join(map(str, evidence.incomplete.arrived))
        entries.append((now - trace.began, f"of {evidence.incomplete.total} fragments there are {arrived}"))
    entries.append((now - trace.began, end))
    return tuple(entries)


def exchange_name(number: int) -> str:
    """`IKE_AUTH`."""
    try:
        return ExchangeType(number).name
    except ValueError:
        return f"exchange {number}"


def backend_s(trace: Trace, now: float) -> float:
    """How long AAA took over all that it was asked."""
    waiting = now - trace.waiting_since if trace.waiting_since is not None else 0.0
    return sum(step.backend_s for step in trace.steps) + waiting


def eap_text(packet: bytes) -> str:
    """`request MSCHAPv2`, `response Nak, wants PEAP`; empty for none."""
    if not packet:
        return ""
    code = _EAP_CODES.get(packet[0], f"code {packet[0]}")
    if len(packet) < _EAP_HEADER_BYTES:
        return code
    text = f"{code} {_eap_type(packet[4])}"
    if packet[4] == _NAK:
        text += f", wants {', '.join(wanted_methods(packet)) or 'nothing'}"
    return text


def eap_identity(evidence: Evidence) -> str:
    """What the client called itself within EAP, of which IDi need say nothing; empty where it did not come so far."""
    for step in evidence.trace.steps if evidence.trace is not None else ():
        if step.eap_in[4:5] == _IDENTITY:
            return step.eap_in[_EAP_HEADER_BYTES : _EAP_HEADER_BYTES + _LONGEST_IDENTITY].decode(errors="replace")
    return ""


def wanted_methods(packet: bytes) -> tuple[str, ...]:
    """The methods that an EAP-Nak asks for; none for any other packet."""
    if len(packet) < _EAP_HEADER_BYTES or packet[4] != _NAK:
        return ()
    wanted = packet[_EAP_HEADER_BYTES : _EAP_HEADER_BYTES + _MOST_WANTED]
    return tuple(_eap_type(number) for number in wanted if number)


def seconds(span_s: float) -> str:
    """`48 ms`, `3.2 s`."""
    return f"{span_s * 1000:.0f} ms" if span_s < 1.0 else f"{span_s:.1f} s"


@lru_cache(maxsize=16)
def certificate_names(der: bytes) -> tuple[str, ...]:
    """The subject alternative names of the gateway's certificate; none where it can't be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    # An address may be there twice, as what it is and, for Windows, as a name.
    return tuple(dict.fromkeys(str(name.value) for name in names))


@lru_cache(maxsize=16)
def has_rsa_key(der: bytes) -> bool:
    """Whether the gateway's certificate has an RSA key."""
    try:
        return isinstance(x509.load_der_x509_certificate(der).public_key(), rsa.RSAPublicKey)
    except ValueError:
        return False


def _nat(evidence: Evidence) -> str:
    if evidence.trace is None:
        return ""
    sides = [("in front of the client", evidence.nat_remote), ("in front of the gateway", evidence.nat_local)]
    return " and ".join(side for side, there in sides if there) or "none"


def _authentication(evidence: Evidence) -> str:
    if evidence.is_resumed:
        return "ticket"
    ways = ("certificate", bool(evidence.chain_der)), ("EAP", uses_eap(evidence))
    return " and ".join(way for way, used in ways if used)


def _certificate_text(der: bytes) -> str:
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
        until = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        return f"{subject[:96]}, issued by {issuer[:96]}, good until {until}"
    except ValueError:
        return "unreadable"


def _configuration(evidence: Evidence) -> str:
    if evidence.configuration is None:
        return ""
    known = {kind.value: kind.name for kind in CfgAttribute}
    kinds = dict.fromkeys(attribute.type for attribute in evidence.configuration.attributes)
    return ", ".join(known.get(kind, str(kind)) for kind in kinds)


def _step(step: Step) -> str:
    parts = [f"{exchange_name(step.exchange)} on port {step.local_port}"]
    if step.fragments > 1:
        parts.append(f"in {step.fragments} fragments")
    if step.eap_in:
        parts.append(f"EAP {eap_text(step.eap_in)}")
    if step.backend_s >= 0.001:
        parts.append(f"AAA took {seconds(step.backend_s)}")
    if step.answer_datagrams:
        pieces = "1 datagram" if step.answer_datagrams == 1 else f"{step.answer_datagrams} datagrams"
        eap = f" with EAP {eap_text(step.eap_out)}" if step.eap_out else ""
        parts.append(f"answered in {pieces} of up to {step.answer_bytes} bytes{eap}")
    if step.repeats:
        parts.append(f"came {step.repeats} times more")
    return ", ".join(parts)


def _times(count: int) -> str:
    return str(count) if count else ""


def _eap_type(number: int) -> str:
    return _EAP_TYPES.get(number, f"type {number}")
