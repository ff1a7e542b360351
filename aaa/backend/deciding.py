"""Decides by what the database says now: sign-ins, devices whose users are to follow, site peers, and each of them
once more when its session starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy.engine import Connection

from aaa.access_rules import address_in
from aaa.backend import lookups
from aaa.backend.events import accepted, refused
from aaa.backend.lookups import CertificateState, CodeState, Known
from aaa.backend.requests import CheckDevice, DecideResumption, DecideSignIn, DecideSite, Proof, Reply
from aaa.backend.session_facts import SessionOf, session_facts
from aaa.backend.vouched import Directory
from aaa.decision import SITE_METHOD, UNMANAGED, Context, Decision, Rule, both_methods, decide, decide_site, site_user
from aaa.interface import Access, FirstFactor, Refusal, Resumed
from core.audit import Entry

_SINCE_SIGN_IN = Refusal("decision-changed", "what decides on this device has changed since it signed in")
# These say more about a refusal than a certificate or code that was taken back for the same cause.
_PERSONAL = frozenset({"revoked-device", "disabled-user"})


@dataclass(slots=True)
class Outcome:
    """What a batch of decisions leads to."""

    replies: list[Reply]
    """To be given after the commit."""
    events: list[Entry]
    """To be written in the transaction."""


class Decider:
    """Decides batches; used by the database thread only.

    Args:
        rules: gives the access rules, in order, as they are now.
        interim_interval_s: told to the gateway for each session.
        now: the time.
    """

    def __init__(
        self, rules: Callable[[], Sequence[Rule]], interim_interval_s: float, now: Callable[[], datetime]
    ) -> None:
        self._rules = rules
        self._interim_interval_s = interim_interval_s
        self._now = now

    def check_devices(self, connection: Connection, requests: Sequence[CheckDevice], outcome: Outcome) -> None:
        """Devices that have proved themselves by their certificates, and whose users are to follow."""
        if not requests:
            return
        found = _Found.of(connection, [request.proof for request in requests])
        for request in requests:
            known = found.directory.facts(request.proof)
            problem = _device_problem(known) or found.credential_problem(request.proof, None, self._now())
            if problem is None and known.device is not None:
                outcome.replies.append(partial(request.reply, FirstFactor(known.device.name, request.proof)))
                continue
            refusal = problem or Refusal("unknown-device", "this device is not enrolled")
            outcome.events.append(
                refused(
                    request.context,
                    refusal,
                    identity=request.proof.identity,
                    device_name=known.device.name if known.device else None,
                    method=request.proof.method,
                )
            )
            outcome.replies.append(partial(request.reply, refusal))

    def decide(self, connection: Connection, requests: Sequence[DecideSignIn], outcome: Outcome) -> None:
        """Peers that have proved who they are."""
        if not requests:
            return
        proofs = [proof for request in requests for proof in (request.first, request.proof) if proof is not None]
        found = _Found.of(connection, proofs)
        for request in requests:
            answer, entry = self._decide_one(request, found)
            outcome.events.append(entry)
            outcome.replies.append(partial(request.reply, answer))

    def _decide_one(self, request: DecideSignIn, found: _Found) -> tuple[Access | Refusal, Entry]:
        proof, first, context, now = request.proof, request.first, request.context, self._now()
        facts = found.directory.facts(proof)
        problem = found.credential_problem(proof, facts.code, now)
        method = proof.method
        if first is not None:
            # The device is that of the certificate, the user that of EAP; whose code it was counts no further.
            device_facts = found.directory.facts(first)
            problem = found.credential_problem(first, None, now) or problem or _second_device_problem(facts)
            facts = Known(facts.subject, device_facts.device, device_facts.posture, facts.code)
            method = both_methods(first.method, proof.method)
        asked_by = Context(method, context.gateway, address_in(context.remote_address), now)
        decision = decide(facts.subject, facts.device, facts.posture, asked_by, self._rules())
        answer: Access | Refusal
        if problem is not None and decision.code not in _PERSONAL:
            answer = problem
        elif not decision.allowed or facts.device is None or facts.subject is None:
            answer = Refusal(decision.code, decision.reason)
        else:
            answer = self._access(facts, first or proof, method, decision)
        if isinstance(answer, Access):
            asked = [vouched.revocation for one in (first, proof) if one is not None and (vouched := one.vouched)]
            return answer, accepted(context, answer, "; ".join(asked))
        return answer, refused(
            context,
            answer,
            identity=proof.identity,
            device_name=facts.device.name if facts.device else None,
            method=method,
            rule=decision.rule if problem is None else "",
        )

    def _access(self, facts: Known, certificate: Proof, method: str, decision: Decision) -> Access:
        device, subject, posture = facts.device, facts.subject, facts.posture
        if device is None or subject is None:
            raise ValueError("access for nobody")
        return Access(
            user_name=subject.user_name,
            device_id=device.id,
            device_name=device.name,
            method=method,
            rule=decision.rule,
            reason=decision.reason,
            pool=decision.pool,
            networks=decision.networks,
            dns=decision.dns,
            session_lifetime_s=decision.session_lifetime_s,
            interim_interval_s=self._interim_interval_s,
            certificate_serial=certificate.certificate_serial,
            certificate_authority=certificate.vouched.authority if certificate.vouched else "",
            managed=posture is not None and posture.state != UNMANAGED,
            dns_domains=decision.dns_domains,
        )

    def decide_sites(self, requests: Sequence[DecideSite], outcome: Outcome) -> None:
        """Site peers that have proved to have their pre-shared keys."""
        for request in requests:
            context, user = request.context, site_user(request.name)
            asked_by = Context(SITE_METHOD, context.gateway, address_in(context.remote_address), self._now())
            decision = decide_site(request.name, asked_by, self._rules())
            if not decision.allowed:
                refusal = Refusal(decision.code, decision.reason)
                outcome.events.append(
                    refused(context, refusal, identity=user, device_name=user, method=SITE_METHOD, rule=decision.rule)
                )
                outcome.replies.append(partial(request.reply, refusal))
                continue
            access = Access(
                user_name=user,
                device_id=user,
                device_name=user,
                method=SITE_METHOD,
                rule=decision.rule,
                reason=decision.reason,
                pool=None,
                networks=decision.networks,
                dns=(),
                session_lifetime_s=decision.session_lifetime_s,
                interim_interval_s=self._interim_interval_s,
                managed=False,
                peer_networks=request.networks,
            )
            outcome.events.append(accepted(context, access))
            outcome.replies.append(partial(request.reply, access))

    def resume(self, connection: Connection, requests: Sequence[DecideResumption], outcome: Outcome) -> None:
        """Peers that come back to a session: whether they may still, by the rule that let them in the first time."""
        if not requests:
            return
        accesses = [self._resumed_access(request.resumed) for request in requests]
        places = [(request.context.gateway, request.context.remote_address) for request in requests]
        results = self.decide_again(connection, accesses, places)
        for request, access, result in zip(requests, accesses, results, strict=True):
            answer: Access | Refusal
            if isinstance(result, Refusal):
                answer = _SINCE_SIGN_IN if result.code == _SINCE_SIGN_IN.code else result
                entry = refused(
                    request.context,
                    answer,
                    identity=access.user_name,
                    device_name=access.device_name,
                    method=access.method,
                )
            else:
                answer = replace(
                    access,
                    reason=result.reason,
                    pool=result.pool,
                    networks=result.networks,
                    dns=result.dns,
                    dns_domains=result.dns_domains,
                    session_lifetime_s=result.session_lifetime_s,
                )
                entry = accepted(request.context, answer, by_ticket=True)
            outcome.events.append(entry)
            outcome.replies.append(partial(request.reply, answer))

    def _resumed_access(self, resumed: Resumed) -> Access:
        """As far as a ticket says it."""
        return Access(
            user_name=resumed.user_name,
            device_id=resumed.device_id,
            device_name=resumed.device_name,
            method=resumed.method,
            rule=resumed.rule,
            reason="",
            pool=None,
            networks=(),
            dns=(),
            session_lifetime_s=0.0,
            interim_interval_s=self._interim_interval_s,
            certificate_serial=resumed.certificate_serial,
        )

    def decide_again(
        self, connection: Connection, accesses: Sequence[Access], places: Sequence[tuple[str, str]]
    ) -> list[Decision | Refusal]:
        """For each session that is about to start, what is decided now: the decision, or why it may not.

        Between the decision and the start a device may have been revoked; it is locked until the transaction ends.

        Args:
            connection: the transaction.
            accesses: as they were decided.
            places: the gateway of each, and the client's outer address, with or without port.
        """
        facts = session_facts(connection, [_session_of(access) for access in accesses], lock=True)
        serials = {access.certificate_serial for access in accesses if not access.certificate_authority}
        certificates = lookups.certificates(connection, serials)
        results: list[Decision | Refusal] = []
        rules, now = self._rules(), self._now()
        for access, known, (gateway, address) in zip(accesses, facts, places, strict=True):
            context = Context(access.method, gateway, address_in(address), now)
            if access.method == SITE_METHOD:
                decision = decide_site(access.user_name, context, rules)
                unchanged = decision.rule == access.rule
            else:
                decision = decide(known.subject, known.device, known.posture, context, rules)
                same_user = known.subject is not None and known.subject.user_name == access.user_name
                unchanged = decision.rule == access.rule and same_user
            problem = None
            if access.certificate_serial and not access.certificate_authority:
                problem = _certificate_problem(access.certificate_serial, access.device_id, certificates)
            if not decision.allowed:
                results.append(Refusal(decision.code, decision.reason))
            elif problem is not None:
                results.append(problem)
            elif not unchanged:
                results.append(Refusal("decision-changed", "what decides on this device changed during the sign-in"))
            else:
                results.append(decision)
        return results


def _session_of(access: Access) -> SessionOf:
    return SessionOf(access.user_name, access.device_id, access.device_name, access.method, managed=access.managed)


@dataclass(slots=True)
class _Found:
    """What the database knows of everyone in a batch."""

    directory: Directory
    certificates: Mapping[str, CertificateState]

    @classmethod
    def of(cls, connection: Connection, proofs: Sequence[Proof]) -> _Found:
        named = {proof.vouched.device_id if proof.vouched else proof.device_id for proof in proofs}
        serials = {proof.certificate_serial for proof in proofs if proof.vouched is None}
        directory = Directory(connection, proofs, lookups.devices(connection, named))
        return cls(directory, lookups.certificates(connection, serials))

    def credential_problem(self, proof: Proof, code: CodeState | None, now: datetime) -> Refusal | None:
        """Why what the peer proved to have counts no more; a proof of nothing never counts."""
        if proof.vouched is not None:
            # The other CA was asked, a moment ago.
            return None
        if proof.code is None:
            return _certificate_problem(proof.certificate_serial, proof.device_id, self.certificates)
        if code is None or code.encrypted_nt_hash != proof.code.encrypted_nt_hash:
            return Refusal("wrong-credential", "the access code was replaced by a new one during the sign-in")
        if code.expires_at <= now:
            ended = code.expires_at.strftime("%Y-%m-%d %H:%M UTC")
            return Refusal("expired-access-code", f"the access code ended at {ended}; ask for a new one")
        return None


def _device_problem(known: Known) -> Refusal | None:
    """Why a device may not even bring its user; who that is, and what the rules say, comes after."""
    if known.device is None:
        return Refusal("unknown-device", "this device is not enrolled")
    if known.posture is not None and known.posture.state == "revoked":
        because = f": {known.posture.reason}" if known.posture.reason else ""
        return Refusal("revoked-device", f"device {known.device.name} was revoked{because}")
    return None


def _second_device_problem(known: Known) -> Refusal | None:
    """A code that was given to a machine that was since stolen counts on no other machine either."""
    if known.device is not None and known.posture is not None and known.posture.state == "revoked":
        name = known.device.name
        return Refusal("revoked-device", f"the user signs in with what device {name} has, which was revoked")
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
