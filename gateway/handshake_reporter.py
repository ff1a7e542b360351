"""Tells of handshakes: counts all, explains those that fail or are slow, and writes the audit events of failures.

Every failure is counted. What is written, strangers can cause, so it is limited; a limit of its own for peers that
have proved their address keeps their explanations from drowning in a flood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import structlog

from aaa.interface import AaaBackend, HandshakeKind, HandshakeReport, Refusal, SignInContext
from core.rate import TokenBucket
from gateway.diagnosis.account import eap_identity
from gateway.diagnosis.causes import UNAUDITED, Cause
from gateway.diagnosis.diagnose import SLOW, report_failure, report_slow, slow_cause
from gateway.diagnosis.situation import cause_of
from gateway.ike.evidence import Evidence, evidence_of
from gateway.ike.responder import Statistics
from gateway.ike.sa import IkeSa
from gateway.ike.states import State

AUDIT_EVENTS_PER_S, AUDIT_EVENTS_BURST = 2.0, 100.0
"""Audit events that peers can cause before they have proved anything, not even their address: at this rate a flood
of a whole day writes some 150 MB.
"""
REPORTS_PER_S, REPORTS_BURST = 2.0, 100.0
"""Explanations, of peers that have proved their address and of the others each. Making one takes a millisecond."""
UNKNOWN_CLIENT = "unknown client"

_log = structlog.get_logger(__name__)


class HandshakeReporter:
    """Used on the event loop's thread.

    Args:
        backend: AAA, which writes it all.
        gateway_name: for handshakes that never came as far as a sign-in.
        slow_s: a handshake that took longer is explained.
        now: monotonic seconds.
    """

    def __init__(self, backend: AaaBackend, gateway_name: str, slow_s: float, now: float) -> None:
        self._backend = backend
        self._gateway_name = gateway_name
        self._slow_s = slow_s
        self._audit = TokenBucket(AUDIT_EVENTS_PER_S, AUDIT_EVENTS_BURST, now)
        self._reports = {proven: TokenBucket(REPORTS_PER_S, REPORTS_BURST, now) for proven in (True, False)}
        self._counts: Counter[HandshakeKind] = Counter()
        self._deferred: Counter[HandshakeKind] = Counter()
        """Those that were told to come again, up to the last call of `take_counts`."""

    def take_counts(self, statistics: Statistics) -> Mapping[HandshakeKind, int]:
        """How many handshakes came to an end since the last call, by kind.

        Args:
            statistics: of the responder, which keeps nothing of those that it tells to come again.
        """
        counts, self._counts = self._counts, Counter()
        for kind, total in _deferred(statistics).items():
            if total > self._deferred[kind]:
                counts[kind] = total - self._deferred[kind]
                self._deferred[kind] = total
        return counts

    def failed(
        self, evidence: Evidence, code: str, reason: str, now: float, context: SignInContext | None = None
    ) -> None:
        """A handshake failed in the gateway itself.

        Args:
            evidence: of the moment when it did.
            code, reason: of the audit event.
            now: monotonic seconds.
            context: of its sign-in, where it had come so far.
        """
        context = context or self._context(evidence)
        # A scan of the internet makes thousands that stop before anybody said who he is: no failed sign-in of anyone.
        is_nobodys = code in UNAUDITED or (code == "handshake-timeout" and evidence.state is State.HALF_OPEN)
        if not is_nobodys:
            self._write_event(context, evidence, code, reason, now)
        self._explain(context, evidence, code, reason, now)

    def refused(self, context: SignInContext, evidence: Evidence, refusal: Refusal, now: float) -> None:
        """AAA refused a sign-in, and has written the audit event."""
        self._explain(context, evidence, refusal.code, refusal.reason, now, tell=refusal.recorded)

    def established(self, sa: IkeSa, context: SignInContext, now: float) -> None:
        """A handshake came to a good end."""
        if sa.trace is None or now - sa.trace.began <= self._slow_s:
            self._counts[HandshakeKind("established", "", "", sa.client)] += 1
            return
        evidence = evidence_of(sa)
        self._counts[HandshakeKind("slow", slow_cause(evidence, now).value, SLOW, sa.client)] += 1
        if self._reports[True].take(now):
            self._tell(context, evidence, report_slow(evidence, now))

    def _write_event(self, context: SignInContext, evidence: Evidence, code: str, reason: str, now: float) -> None:
        if not self._audit.take(now):
            return
        cause = cause_of(evidence, code).value
        _log.info("handshake failed", remote=context.remote_address, code=code, cause=cause, reason=reason)
        detail = {"client": context.client, "cause": cause}
        if evidence.suite is not None:
            detail["suite"] = str(evidence.suite)
        left_out = self._audit.reset_missed()
        if left_out:
            detail["failures_left_out_before"] = str(left_out)
        self._backend.sign_in_failed(context, code, reason, detail)

    def _explain(
        self, context: SignInContext, evidence: Evidence, code: str, reason: str, now: float, *, tell: bool = True
    ) -> None:
        cause = cause_of(evidence, code).value
        self._counts[HandshakeKind("failed", cause, code, evidence.client)] += 1
        if tell and self._reports[evidence.keys_agreed].take(now):
            self._tell(context, evidence, report_failure(evidence, code, reason, now))

    def _tell(self, context: SignInContext, evidence: Evidence, report: HandshakeReport) -> None:
        """With the client as it looks by now, and with what it calls itself: IDi may be no more than an address."""
        client = evidence.client or UNKNOWN_CLIENT
        identity = eap_identity(evidence) or evidence.identity or context.ike_identity
        self._backend.handshake_reported(replace(context, client=client, ike_identity=identity), report)

    def _context(self, evidence: Evidence) -> SignInContext:
        return SignInContext(
            sign_in_id=evidence.spi_r.hex(),
            gateway=self._gateway_name,
            remote_address=evidence.path.remote,
            ike_identity=evidence.identity,
            client=evidence.client or UNKNOWN_CLIENT,
        )


def _deferred(statistics: Statistics) -> dict[HandshakeKind, int]:
    return {
        HandshakeKind("deferred", Cause.COOKIE.value, "cookie-asked", ""): statistics.cookies_sent,
        HandshakeKind("deferred", Cause.PROPOSAL.value, "other-group-asked", ""): statistics.other_groups_asked,
        HandshakeKind("deferred", Cause.GATEWAY.value, "redirected", ""): statistics.redirected,
    }
