"""Facts and timeline as text, whatever a peer has sent."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from cryptography import x509

from gateway.diagnosis.account import (
    certificate_names,
    eap_identity,
    eap_text,
    facts,
    has_rsa_key,
    seconds,
    timeline,
    wanted_methods,
)
from gateway.diagnosis.diagnose import report_failure
from gateway.ike.constants import CfgType, ExchangeType
from gateway.ike.evidence import Evidence
from gateway.ike.path import Path
from gateway.ike.payloads.configuration import Configuration, ConfigurationAttribute
from gateway.ike.states import State
from gateway.ike.trace import MOST_STEPS, Trace
from tests.unit.aaa.eap.authority import SERVER, house, issue
from tests.unit.gateway.ike.credentials import gateway_credential
from tests.unit.gateway.ike.wire import responder_config

PATH = Path("192.0.2.1", 4500, "198.51.100.7", 61_000)


def evidence(**changes: object) -> Evidence:
    """Of a handshake in the middle of EAP."""
    trace = Trace(100.0, 500)
    trace.request(100.05, ExchangeType.IKE_AUTH, 4500, 1)
    found = Evidence(responder_config(), PATH, "", trace=trace, state=State.EAP, by_eap=True)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (b"", ""),
        (b"\x03\x01\x00\x04", "success"),
        (b"\x04\x01\x00\x04", "failure"),
        (b"\x01\x01\x00\x05\x01", "request Identity"),
        (b"\x02\x01\x00\x06\x0d\x80", "response TLS"),
        (b"\x02\x01\x00\x06\x03\x19", "response Nak, wants PEAP"),
        (b"\x02\x01\x00\x07\x03\x15\x63", "response Nak, wants TTLS, type 99"),
        (b"\x02\x01\x00\x05\x03", "response Nak, wants nothing"),
        (b"\x02\x01\x00\x06\x03\x00", "response Nak, wants nothing"),
        (b"\x09", "code 9"),
        (b"\xff" * 5, "code 255 type 255"),
    ],
)
def test_eap(packet: bytes, text: str) -> None:
    assert eap_text(packet) == text


@pytest.mark.parametrize(
    ("packet", "identity"),
    [
        (b"\x02\x01\x00\x0a\x01alice", "alice"),
        (b"\x02\x01\x00\x05\x01", ""),
        (b"\x02\x01\x00\x07\x01\xff\xfe", "\ufffd\ufffd"),
        (b"\x02\x01\x00\x0a\x1aalice", ""),
        (b"", ""),
    ],
)
def test_what_a_client_calls_itself_within_eap(packet: bytes, identity: str) -> None:
    trace = Trace(0.0, 500)
    trace.request(0.1, ExchangeType.IKE_AUTH, 4500, 1)
    trace.ask_backend(0.1, packet)
    assert eap_identity(evidence(trace=trace)) == identity
    assert eap_identity(evidence(trace=None)) == ""


def test_a_nak_that_wants_everything_has_an_end() -> None:
    assert len(wanted_methods(b"\x02\x01\x00\xff\x03" + bytes(range(1, 250)))) == 8


@pytest.mark.parametrize(
    ("span_s", "text"), [(0.0, "0 ms"), (0.0484, "48 ms"), (0.9999, "1000 ms"), (12.34, "12.3 s")]
)
def test_seconds(span_s: float, text: str) -> None:
    assert seconds(span_s) == text


def test_the_gateways_certificate() -> None:
    names = [x509.DNSName("vpn.example.com"), x509.IPAddress(IPv4Address("192.0.2.1"))]
    named = issue("gateway.example", house().issuing, usage=SERVER, names=names)
    assert certificate_names(named.chain[0]) == ("vpn.example.com", "192.0.2.1")
    # By its common name alone no client knows it.
    assert certificate_names(house().gateway.chain[0]) == ()
    assert [has_rsa_key(gateway_credential(kind).chain_der[0]) for kind in ("rsa", "p256")] == [True, False]
    assert (certificate_names(b"no certificate"), has_rsa_key(b"")) == ((), False)


def test_facts_that_are_not_known_are_left_out() -> None:
    told = dict(facts(Evidence(responder_config(), PATH, ""), 100.0))
    assert told == {"from": "198.51.100.7:61000", "to": "192.0.2.1:4500"}


def test_facts() -> None:
    wants = Configuration(
        CfgType.REQUEST, (ConfigurationAttribute(1), ConfigurationAttribute(23456), ConfigurationAttribute(999))
    )
    found = evidence(nat_local=True, nat_remote=True, configuration=wants, chain_der=(b"no certificate",))
    told = dict(facts(found, 101.0))
    assert told["NAT"] == "in front of the client and in front of the gateway"
    assert told["asked to be configured with"] == "INTERNAL_IP4_ADDRESS, MS_INTERNAL_IP4_SERVER, 999"
    assert told["client certificate"] == "unreadable"
    assert told["authentication"] == "certificate and EAP"
    assert told["took"] == "1.0 s"


def test_a_long_timeline_says_what_it_left_out() -> None:
    trace = Trace(0.0, 500)
    for number in range(MOST_STEPS + 5):
        trace.request(number / 10, 250, 4500, 2)
    told = timeline(evidence(trace=trace), 10.0, "failed: handshake-timeout")
    assert len(told) == MOST_STEPS + 3
    assert told[-3][1] == "5 further requests"
    assert told[-2][1] == "exchange 250 on port 4500, in 2 fragments"


def test_an_ipv6_path() -> None:
    found = Evidence(responder_config(), Path("2001:db8::1", 500, "2001:db8::7", 500), "")
    assert dict(facts(found, 0.0))["from"] == "[2001:db8::7]:500"


@pytest.mark.parametrize("state", [None, *State])
@pytest.mark.parametrize(
    "code",
    [
        "no-proposal-chosen",
        "handshake-timeout",
        "client-gave-up",
        "no-common-method",
        "ts-unacceptable",
        "never-heard-of",
    ],
)
def test_every_story_can_be_told_of_any_evidence(code: str, state: State | None) -> None:
    """Of a resumed SA, of one without a trace, of one about which next to nothing is known."""
    for trace in (None, Trace(0.0, 500), evidence().trace):
        report = report_failure(
            evidence(trace=trace, state=state, offer=b"not an SA payload"), code, "some reason", 101.0
        )
        assert report.explanation
        assert report.advice
        assert report.timeline[-1][1].endswith(f"failed: {code}")


def test_a_client_that_came_with_a_ticket() -> None:
    trace = Trace(0.0, 500, ExchangeType.IKE_SESSION_RESUME)
    trace.request(0.1, ExchangeType.IKE_AUTH, 4500, 1)
    found = evidence(trace=trace, first_exchange=trace.first_exchange, state=State.AUTHORISING, by_eap=False)
    report = report_failure(found, "authentication-failed", "the proof does not verify", 0.2)
    assert report.cause == "resumption"
    assert dict(report.facts)["authentication"] == "ticket"
    assert report.timeline[0][1] == "IKE_SESSION_RESUME on port 500, answered"
    # It was shown no certificate that it could have refused.
    assert report_failure(found, "client-gave-up", "the client gave up: AUTHENTICATION_FAILED", 0.2).cause == "client"
