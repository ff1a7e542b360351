"""Handshakes of a morning on which some went wrong, explained by the gateway itself, for the pages to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aaa.backend.handshake_log import HandshakeLog
from aaa.backend.requests import CountHandshakes, WriteReport
from aaa.interface import HandshakeKind, SignInContext
from core.runtime import Runtime
from gateway.diagnosis.account import eap_identity
from gateway.diagnosis.diagnose import SLOW, report_failure, report_slow
from gateway.diagnosis.situation import cause_of
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import ExchangeType
from gateway.ike.evidence import Evidence
from gateway.ike.fragments import Incomplete
from gateway.ike.path import Path
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.security_association import proposals_to_bytes
from gateway.ike.states import State
from gateway.ike.trace import Trace
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.credentials import gateway_credential

GATEWAY = "gateway-1"
_NAME = Identification.fqdn("gateway.ostiary.internal")
_CONFIG = ResponderConfig(_NAME, (_NAME,), (gateway_credential("rsa"),))
_BEGAN = 100.0
_IDENTITY_REQUEST = b"\x01\x01\x00\x05\x01"
_ESTABLISHED = {"iOS": 61, "Windows": 48, "strongSwan": 23, "Android 12 or newer": 19}


@dataclass(frozen=True, slots=True)
class _Trouble:
    client: str
    remote: str
    minutes_ago: int
    code: str
    reason: str = ""
    identity: str = ""
    eap_name: str = ""
    took_s: float = 30.0
    times: int = 1
    facts: dict[str, object] = field(default_factory=dict)

    def evidence(self) -> Evidence:
        """As if it had been noted while the handshake went on."""
        path = Path("192.0.2.1", 4500, self.remote, 61_002)
        found = Evidence(_CONFIG, path, self.client, identity=self.identity, takes_fragments=True, nat_remote=True)
        for name, value in self.facts.items():
            setattr(found, name, value)
        if self.code != "no-proposal-chosen":
            found.trace = Trace(_BEGAN, 500)
            found.spi_r = self.remote.encode()
        if self.eap_name and found.trace is not None:
            found.keys_agreed = found.by_eap = True
            self._eap(found.trace)
        return found

    def _eap(self, trace: Trace) -> None:
        """Identity and password are asked for; the password takes AAA its time where the story is about that."""
        name = self.eap_name.encode()
        packets = (b"", b"\x02\x01\x00" + bytes((5 + len(name),)) + b"\x01" + name, b"\x02\x02\x00\x06\x1a\x02")
        answers = (_IDENTITY_REQUEST, b"\x01\x02\x00\x06\x1a\x01", b"\x04\x03\x00\x04")
        slow_s = self.took_s - 0.4 if self.code == SLOW else 0.004
        for number, (packet, answer) in enumerate(zip(packets, answers, strict=True)):
            at = _BEGAN + 0.06 * (number + 1)
            trace.request(at, ExchangeType.IKE_AUTH, 4500, 1)
            trace.ask_backend(at, packet)
            trace.backend_answered(at + (slow_s if number == 2 else 0.001), answer)
            trace.answer([bytes(1248), bytes(611)] if number == 0 else [bytes(88)])


_TROUBLES = (
    _Trouble(
        "Windows 10 or 11",
        "203.0.113.17",
        4,
        "no-proposal-chosen",
        times=7,
        facts={"offer": proposals_to_bytes(offers.WINDOWS_DEFAULT)},
    ),
    _Trouble("strongSwan", "203.0.113.142", 11, "handshake-timeout", times=12, facts={"state": State.HALF_OPEN}),
    _Trouble(
        "Apple",
        "203.0.113.84",
        26,
        "handshake-timeout",
        times=2,
        facts={"state": State.HALF_OPEN, "incomplete": Incomplete((1, 2, 4, 5), 5, 1176), "keys_agreed": True},
    ),
    _Trouble(
        "Android 12 or newer",
        "2001:db8:7::21",
        38,
        "wrong-credential",
        "the code is none of user amira",
        identity="amira",
        eap_name="amira",
        took_s=0.21,
        times=3,
        facts={"state": State.EAP, "nat_remote": False},
    ),
    _Trouble(
        "iOS",
        "203.0.113.17",
        52,
        SLOW,
        identity="tomas",
        eap_name="tomas",
        took_s=7.3,
        facts={"state": State.ESTABLISHED},
    ),
)


def write_bad_morning(runtime: Runtime, now: datetime) -> None:
    """Put it into the database."""
    log = HandshakeLog(runtime.settings.gateway)
    counts = {HandshakeKind("established", "", "", client): count for client, count in _ESTABLISHED.items()}
    with runtime.database.transaction() as session:
        connection = session.connection()
        for trouble in reversed(_TROUBLES):
            evidence, ended = trouble.evidence(), _BEGAN + trouble.took_s
            is_slow = trouble.code == SLOW
            report = (
                report_slow(evidence, ended)
                if is_slow
                else report_failure(evidence, trouble.code, trouble.reason, ended)
            )
            identity = eap_identity(evidence) or trouble.identity
            where = SignInContext(evidence.spi_r.hex()[:36], GATEWAY, trouble.remote, identity, trouble.client)
            last = now - timedelta(minutes=trouble.minutes_ago)
            for number in reversed(range(trouble.times)):
                log.write(connection, [WriteReport(where, report, last - timedelta(seconds=40 * number))])
            cause = report.cause if is_slow else cause_of(evidence, trouble.code).value
            counts[HandshakeKind(report.outcome, cause, trouble.code, trouble.client)] = trouble.times
        log.count(connection, GATEWAY, [CountHandshakes(counts, now)])
