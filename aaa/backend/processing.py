"""Handles a batch of requests in one transaction: few statements, whatever the number of requests.

Nothing about users, devices or certificates is remembered from one batch to the next, so that a revocation is
seen by the very next sign-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import bindparam, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from aaa import accounting, device_limit
from aaa.backend import lookups
from aaa.backend.events import accepted, refused
from aaa.backend.handshake_log import HandshakeLog
from aaa.backend.identity import user_candidates
from aaa.backend.lookups import NOTHING, CertificateState, CodeState, Known
from aaa.backend.requests import (
    CloseSession,
    CountHandshakes,
    DecideSignIn,
    FindCodes,
    FoundUser,
    OpenSession,
    Proof,
    Reply,
    Request,
    UpdateSession,
    WriteEvent,
    WriteReport,
)
from aaa.backend.vouched import Directory, unmanaged
from aaa.decision import UNMANAGED, Context, Decision, DeviceIdentity, Rule, Subject, decide
from aaa.interface import Access, Refusal
from aaa.models import Gateway
from core import audit
from core.audit import Entry
from core.clock import utc_now

SEEN_INTERVAL_S = 15.0

# These say more about a refusal than a certificate or code that was taken back for the same cause.
_PERSONAL = frozenset({"revoked-device", "disabled-user"})

R = TypeVar("R", bound=Request)

_SEEN = update(Gateway).where(Gateway.name == bindparam("gateway"))


class Processor:
    """Handles batches; used by the database thread only.

    Args:
        rules: the access rules, in order.
        devices_at_once: how many devices a user may have connected where the rule says nothing; None: any number.
        interim_interval_s: told to the gateway for each session.
        gateway: gives the name whose row says when this gateway was last seen, once it has said hello.
        wake: has a worker look at an item of the outbox, once it is committed.
        handshakes: keeps what is told of handshakes.
        now: the time.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        devices_at_once: int | None,
        interim_interval_s: float,
        gateway: Callable[[], str],
        wake: Callable[[int], object],
        handshakes: HandshakeLog,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._rules = tuple(rules)
        self._devices_at_once = devices_at_once
        self._interim_interval_s = interim_interval_s
        self._gateway = gateway
        self._wake = wake
        self._handshakes = handshakes
        self._now = now
        self._to_wake: list[int] = []
        self._seen_at: datetime | None = None

    def handle(self, session: Session, requests: Sequence[Request]) -> list[Reply]:
        """Do all that is asked, in the session's transaction; returns the answers to give after the commit."""
        connection = session.connection()
        # What a transaction asked for that did not come to its end, nobody needs to look at.
        self._to_wake.clear()
        replies: list[Reply] = []
        events: list[Entry] = []
        self._find_codes(connection, _of(requests, FindCodes), replies)
        self._decide(connection, _of(requests, DecideSignIn), replies, events)
        self._open(session, _of(requests, OpenSession), replies, events)
        # Whatever came for one session came in the order start, interim, stop.
        updates = [(request.usage, request.at) for request in _of(requests, UpdateSession)]
        accounting.update_sessions(connection, updates)
        stops = [(request.usage, request.cause, request.at) for request in _of(requests, CloseSession)]
        accounting.close_sessions(connection, stops)
        for request in _of(requests, WriteEvent):
            events.append(request.entry)
            if request.reply is not None:
                replies.append(request.reply)
        audit.record_many(session, events)
        self._handshakes.write(connection, _of(requests, WriteReport))
        self._handshakes.count(connection, self._gateway(), _of(requests, CountHandshakes))
        if any(request.writes for request in requests):
            self._mark_gateway_seen(connection)
            self._handshakes.prune(connection, self._gateway(), self._now())
        return replies

    def committed(self) -> None:
        """The transaction is in the database: wake the workers that it has work for."""
        for outbox_id in self._to_wake:
            self._wake(outbox_id)
        self._to_wake.clear()

    def _find_codes(self, connection: Connection, requests: Sequence[FindCodes], replies: list[Reply]) -> None:
        if not requests:
            return
        candidates = [user_candidates(request.identity) for request in requests]
        found = lookups.codes_of_users(connection, {name for names in candidates for name in names})
        for request, own in zip(requests, candidates, strict=True):
            name = next((candidate for candidate in own if candidate in found), None)
            codes = tuple(found[name]) if name is not None else ()
            replies.append(partial(request.reply, FoundUser(name, codes)))

    def _decide(
        self, connection: Connection, requests: Sequence[DecideSignIn], replies: list[Reply], events: list[Entry]
    ) -> None:
        if not requests:
            return
        proofs = [request.proof for request in requests]
        named = {proof.vouched.device_id if proof.vouched else proof.device_id for proof in proofs}
        directory = Directory(connection, proofs, lookups.devices(connection, named))
        serials = {proof.certificate_serial for proof in proofs if proof.vouched is None}
        certificates = lookups.certificates(connection, serials)
        now = self._now()
        for request in requests:
            proof, context = request.proof, request.context
            facts = directory.facts(proof)
            decision = decide(
                facts.subject, facts.device, facts.posture, Context(proof.method, context.gateway), self._rules
            )
            problem = _credential_problem(proof, facts.code, certificates, now)
            answer: Access | Refusal
            if problem is not None and decision.code not in _PERSONAL:
                answer = problem
            elif not decision.allowed or facts.device is None or facts.subject is None:
                answer = Refusal(decision.code, decision.reason)
            else:
                managed = facts.posture is not None and facts.posture.state != UNMANAGED
                answer = self._access(facts.device, facts.subject, proof, decision, managed=managed)
            device_name = facts.device.name if facts.device else None
            events.append(
                accepted(context, answer, proof.vouched.revocation if proof.vouched else "")
                if isinstance(answer, Access)
                else refused(
                    context,
                    answer,
                    identity=proof.identity,
                    device_name=device_name,
                    method=proof.method,
                    rule=decision.rule if problem is None else "",
                )
            )
            replies.append(partial(request.reply, answer))

    def _access(
        self, device: DeviceIdentity, subject: Subject, proof: Proof, decision: Decision, *, managed: bool
    ) -> Access:
        return Access(
            user_name=subject.user_name,
            device_id=device.id,
            device_name=device.name,
            method=proof.method,
            rule=decision.rule,
            reason=decision.reason,
            pool=decision.pool,
            networks=decision.networks,
            dns=decision.dns,
            session_lifetime_s=decision.session_lifetime_s,
            interim_interval_s=self._interim_interval_s,
            certificate_serial=proof.certificate_serial,
            certificate_authority=proof.vouched.authority if proof.vouched else "",
            managed=managed,
            dns_domains=decision.dns_domains,
        )

    def _open(
        self, session: Session, requests: Sequence[OpenSession], replies: list[Reply], events: list[Entry]
    ) -> None:
        """Between the decision and the start a device may have been revoked: decide again, under its lock."""
        if not requests:
            return
        connection = session.connection()
        known = lookups.devices(connection, {request.start.access.device_id for request in requests}, lock=True)
        accesses = [request.start.access for request in requests]
        users: Mapping[str, Subject] = {}
        if not all(access.managed for access in accesses):
            # All of the batch, in one order with the limit of devices below, so that two gateways don't wait for
            # each other.
            users = lookups.users(connection, {access.user_name for access in accesses}, lock=True)
        serials = {access.certificate_serial for access in accesses if not access.certificate_authority}
        certificates = lookups.certificates(connection, serials)
        starts = []
        limits: dict[str, int] = {}
        for request in requests:
            start = request.start
            access = start.access
            facts = _facts_of(access, known, users)
            decision = decide(
                facts.subject, facts.device, facts.posture, Context(access.method, start.gateway), self._rules
            )
            problem = None
            if access.certificate_serial and not access.certificate_authority:
                problem = _certificate_problem(access.certificate_serial, access.device_id, certificates)
            refusal: Refusal | None = None
            if not decision.allowed:
                refusal = Refusal(decision.code, decision.reason)
            elif problem is not None:
                refusal = problem
            elif decision.rule != access.rule or facts.subject is None or facts.subject.user_name != access.user_name:
                refusal = Refusal("decision-changed", "what decides on this device changed during the sign-in")
            if refusal is None:
                starts.append(start)
                limit = decision.devices_at_once or self._devices_at_once
                if limit is not None:
                    limits[access.user_name] = limit
            else:
                events.append(_start_refused(request, refusal))
            replies.append(partial(request.reply, refusal))
        accounting.open_sessions(connection, starts, self._now())
        surplus = device_limit.end_surplus(session, starts, limits)
        events.extend(surplus.events)
        self._to_wake.extend(surplus.outbox_ids)

    def _mark_gateway_seen(self, connection: Connection) -> None:
        now, name = self._now(), self._gateway()
        if name and (self._seen_at is None or (now - self._seen_at).total_seconds() >= SEEN_INTERVAL_S):
            self._seen_at = now
            connection.execute(_SEEN, {"gateway": name, "last_seen_at": now})


def _of(requests: Iterable[Request], kind: type[R]) -> list[R]:
    return [request for request in requests if isinstance(request, kind)]


def _facts_of(access: Access, known: Mapping[str, Known], users: Mapping[str, Subject]) -> Known:
    if access.managed:
        return known.get(access.device_id, NOTHING)
    return unmanaged(users.get(access.user_name), access.device_id, access.device_name)


def _credential_problem(
    proof: Proof, code: CodeState | None, certificates: Mapping[str, CertificateState], now: datetime
) -> Refusal | None:
    """Why what the peer proved to have counts no more; a proof of nothing never counts."""
    if proof.vouched is not None:
        # The other CA was asked, a moment ago.
        return None
    if proof.code is None:
        return _certificate_problem(proof.certificate_serial, proof.device_id, certificates)
    if code is None or code.encrypted_nt_hash != proof.code.encrypted_nt_hash:
        return Refusal("wrong-credential", "the access code was replaced by a new one during the sign-in")
    if code.expires_at <= now:
        ended = code.expires_at.strftime("%Y-%m-%d %H:%M UTC")
        return Refusal("expired-access-code", f"the access code ended at {ended}; ask for a new one")
    return None


def _certificate_problem(serial: str, device_id: str, certificates: Mapping[str, CertificateState]) -> Refusal | None:
    certificate = certificates.get(serial)
    if certificate is None or certificate.device_id != device_id:
        what = f"certificate {serial}" if serial else "certificate without number"
        return Refusal("unknown-certificate", f"no {what} was issued to this device")
    if certificate.revoked_at is not None:
        because = f": {certificate.revocation_reason}" if certificate.revocation_reason else ""
        return Refusal("revoked-certificate", f"the certificate {serial} was revoked{because}")
    return None


def _start_refused(request: OpenSession, refusal: Refusal) -> Entry:
    start = request.start
    return Entry(
        audit.Actor("device", start.access.device_name),
        "session.refuse",
        f"gateway:{start.gateway}",
        outcome="refused",
        reason=refusal.reason,
        detail={
            "code": refusal.code,
            "session_id": start.session_id,
            "gateway": start.gateway,
            "remote_address": start.remote_address,
            "method": start.access.method,
            "user": start.access.user_name,
        },
    )
