"""The AAA backend in the gateway's own process: the embedded default.

EAP is computed on the caller's thread. Everything that needs the database goes to one thread, which takes all
that waits in one transaction; the answers come back through `post`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from aaa import accounting
from aaa.access_rules import AccessRules
from aaa.backend.conversation import NOT_COUNTED, Desk, EapSignIn
from aaa.backend.credentials import CertificateChecker, NtHashes
from aaa.backend.events import refused
from aaa.backend.failure_limit import FailureLimit
from aaa.backend.handshake_log import HandshakeLog
from aaa.backend.intake import AccountingIntake
from aaa.backend.own_certificates import GatewayCredential, OwnCertificates
from aaa.backend.pass_through import PassThrough
from aaa.backend.passwords import AccessCodes
from aaa.backend.processing import Processor
from aaa.backend.refusals import TOO_MANY_FAILURES, RefusalLog
from aaa.backend.requests import (
    BROKEN,
    UNAVAILABLE,
    CheckDevice,
    CloseSession,
    CountHandshakes,
    DecideResumption,
    DecideSignIn,
    DecideSite,
    Heartbeat,
    OpenSession,
    Proof,
    UpdateSession,
    WriteEvent,
    WriteReport,
)
from aaa.backend.spraying import SprayingWatch
from aaa.backend.ticket_keys import EPOCH_S, ticket_keys
from aaa.backend.worker import DatabaseWorker
from aaa.decision import SITE_METHOD
from aaa.directory.passwords import CodesThenDirectories
from aaa.directory.worker import DirectoryPasswords
from aaa.dynamic_authorization import control_secret_name
from aaa.interface import (
    Access,
    FirstFactor,
    GatewayHello,
    HandshakeKind,
    HandshakeReport,
    Refusal,
    Resumed,
    SessionStart,
    SessionUsage,
    SignInContext,
    TerminateCause,
    TicketKeys,
)
from aaa.radius_service.upstream import UpstreamThread
from core import jobs
from core.clock import utc_now
from core.database import DatabaseError
from core.runtime import Runtime
from core.secrets import Secret, get_or_create_secret
from pki.authority import CertificateAuthority
from pki.revocation.evidence import Stapled
from pki.revocation.service import RevocationService, own_networks
from pki.trust import load_authorities

IDENTITY_PATIENCE = 10
"""How many times as many failures an identity may have, from all addresses together, as one address."""
FLUSH_TIMEOUT_S = 15.0
"""How long an orderly stop waits for a database that can't be reached."""

_log = structlog.get_logger(__name__)
_Good = TypeVar("_Good")


class InProcessBackend:
    """Implements `aaa.interface.AaaBackend`. All methods are called on one thread, that of the caller's loop;
    `gateway_credentials` and `ticket_keys` on another one, if the caller likes, one call of them at a time.

    Args:
        runtime: of this process.
        post: brings a callable to the caller's thread; may be called from any thread.
        authority: our CA.
    """

    def __init__(
        self, runtime: Runtime, post: Callable[[Callable[[], None]], None], authority: CertificateAuthority
    ) -> None:
        settings = runtime.settings.aaa
        self._runtime = runtime
        self._authority = authority
        self._gateway = ""
        self._stopped = False
        self._foreign = load_authorities(
            runtime.settings.pki.trusted_authorities, [authority.root, authority.issuing]
        )
        self._revocation = self._revocation_service(post)
        self._own = OwnCertificates(runtime, authority, self._foreign)
        processor = Processor(
            AccessRules(runtime.rules).current,
            settings.devices_at_once,
            settings.interim_interval_s,
            lambda: self._gateway,
            lambda outbox_id: jobs.wake(runtime.settings, outbox_id),
            HandshakeLog(runtime.settings.gateway),
        )
        self._worker = DatabaseWorker(runtime.database, processor.handle, post, committed=processor.committed)
        self._passwords = DirectoryPasswords(runtime, post)
        per_address = settings.sign_in_failures_per_minute
        limit = FailureLimit(per_address, IDENTITY_PATIENCE * per_address, os.urandom(16))
        self._upstreams = self._upstream_thread(post)
        hashes = NtHashes(runtime.box)
        self._desk = Desk(
            submit=self._worker.submit,
            hashes=hashes,
            passwords=CodesThenDirectories(AccessCodes(self._worker.submit, hashes), self._passwords),
            certificates=CertificateChecker([authority.root], [authority.issuing], self._foreign, self._revocation),
            limit=limit,
            refusals=RefusalLog(self._worker.submit, limit, SprayingWatch(settings.spraying_users), time.monotonic()),
        )

    @classmethod
    def open(cls, runtime: Runtime, post: Callable[[Callable[[], None]], None]) -> InProcessBackend:
        """Open the CA and the gateway's certificate, and start the database thread.

        Raises:
            OstiaryError: the database, the CA or a key can't be used.
        """
        backend = cls(runtime, post, CertificateAuthority.open(runtime))
        runtime.database.favour_speed()
        backend._worker.start()
        backend._passwords.start()
        if backend._revocation is not None:
            backend._revocation.start()
        if backend._upstreams is not None:
            backend._upstreams.start()
        return backend

    def gateway_credentials(self) -> tuple[GatewayCredential, ...]:
        """The gateway's current certificates, renewed where it is time to; EAP uses the first.

        May block. Call it at start and every hour or so; connections that are up are not touched.
        """
        return self._own.renewed()

    def accepted_authorities(self) -> tuple[bytes, ...]:
        """What CERTREQ says of the CAs whose clients are accepted (RFC 7296 section 3.7): SHA-1 of each one's
        SubjectPublicKeyInfo, ours first, then those that are trusted beside it, as many as fit.
        """
        return self._own.accepted_authorities()

    def trust_pem(self) -> str:
        """The root certificate, PEM: what every client has to trust."""
        return self._authority.trust_pem()

    def control_secret(self) -> Secret:
        """The shared secret of this gateway's RADIUS dynamic authorization; may block."""
        with self._runtime.database.transaction() as session:
            return get_or_create_secret(
                session, self._runtime.box, control_secret_name(self._runtime.settings.gateway.name)
            )

    def ticket_keys(self) -> TicketKeys:
        """The keys for clients' tickets, renewed where it is time to; may block. Call it every hour or so."""
        return TicketKeys(EPOCH_S, ticket_keys(self._runtime.database, self._runtime.box, utc_now()))

    def hello(self, gateway: GatewayHello) -> None:
        """See `AaaBackend`.

        Raises:
            DatabaseError: the database can't be reached; nobody could sign in, so the gateway must not start.
        """
        try:
            with self._runtime.database.transaction() as session:
                closed = accounting.gateway_started(session, gateway)
                get_or_create_secret(session, self._runtime.box, control_secret_name(gateway.name))
        except SQLAlchemyError as error:
            raise DatabaseError(
                f"gateway {gateway.name} can't be registered in the database: {error}",
                fix="check database.url, that the server runs, and that no other process keeps the database locked",
            ) from error
        self._gateway = gateway.name
        if closed:
            _log.warning("closed the sessions that this gateway left open", gateway=gateway.name, sessions=closed)

    def goodbye(self) -> None:
        """See `AaaBackend`. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        if self._revocation is not None:
            self._revocation.stop()
        self._passwords.stop()
        if self._upstreams is not None:
            self._upstreams.stop()
        self._worker.stop(FLUSH_TIMEOUT_S)
        if not self._gateway:
            return
        try:
            with self._runtime.database.transaction() as session:
                accounting.gateway_stopped(session, self._gateway)
        except SQLAlchemyError:
            _log.exception("the end of this gateway could not be written; its next start closes what is open")

    def open_eap(
        self, context: SignInContext, first: FirstFactor | None = None, *, mutual: bool = False
    ) -> EapSignIn | PassThrough:
        """See `AaaBackend`.

        Raises:
            TypeError: the first factor is of another backend.
        """
        proof = first.proof if first is not None else None
        if proof is not None and not isinstance(proof, Proof):
            raise TypeError("a first factor of another backend")
        if self._upstreams is not None:
            return PassThrough(self._desk, self._upstreams, context, proof, os.urandom)
        return EapSignIn(self._desk, self._own.eap_server(mutual=mutual), context, proof)

    def check_device(
        self,
        context: SignInContext,
        chain_der: list[bytes],
        reply: Callable[[FirstFactor | Refusal], None],
        *,
        ocsp_responses: Sequence[bytes] = (),
        crls: Sequence[bytes] = (),
    ) -> None:
        """See `AaaBackend`."""

        def proved(proof: Proof) -> None:
            self._worker.submit(CheckDevice(context, proof, self._or_write(context, reply)))

        self._check_certificate(context, chain_der, Stapled(ocsp_responses, crls), proved, reply)

    def authorise_certificate(
        self,
        context: SignInContext,
        chain_der: list[bytes],
        reply: Callable[[Access | Refusal], None],
        *,
        ocsp_responses: Sequence[bytes] = (),
        crls: Sequence[bytes] = (),
    ) -> None:
        """See `AaaBackend`."""

        def proved(proof: Proof) -> None:
            self._worker.submit(DecideSignIn(context, proof, self._or_write(context, reply), lambda: True))

        self._check_certificate(context, chain_der, Stapled(ocsp_responses, crls), proved, reply)

    def authorise_site(self, context: SignInContext, name: str, reply: Callable[[Access | Refusal], None]) -> None:
        """See `AaaBackend`."""
        sites = self._runtime.settings.gateway.site_peers
        networks = next((site.networks for site in sites if site.name == name), ())
        written = self._or_write(context, reply, method=SITE_METHOD)
        self._worker.submit(DecideSite(context, name, networks, written))

    def authorise_resumption(
        self, context: SignInContext, resumed: Resumed, reply: Callable[[Access | Refusal], None]
    ) -> None:
        """See `AaaBackend`."""
        written = self._or_write(context, reply, method=resumed.method)
        self._worker.submit(DecideResumption(context, resumed, written))

    def _check_certificate(
        self,
        context: SignInContext,
        chain_der: list[bytes],
        stapled: Stapled,
        proved: Callable[[Proof], None],
        refused: Callable[[Refusal], None],
    ) -> None:
        """Judge a certificate without the database; a refusal is written before it is told."""
        desk = self._desk
        if desk.limit.blocked("", context.remote_address, desk.monotonic()):
            self._write_refusal(context, TOO_MANY_FAILURES, refused)
            return

        def checked(proof: Proof | Refusal) -> None:
            if isinstance(proof, Proof):
                proved(proof)
                return
            if proof.code not in NOT_COUNTED:
                desk.limit.failed("", context.remote_address, desk.monotonic())
            self._write_refusal(context, proof, refused)

        desk.certificates.check(chain_der, context.ike_identity, "certificate", checked, stapled)

    def _or_write(
        self, context: SignInContext, reply: Callable[[_Good | Refusal], None], method: str = "certificate"
    ) -> Callable[[_Good | Refusal], None]:
        """Where the database thread could not decide, it could write nothing either."""

        def decided(answer: _Good | Refusal) -> None:
            if isinstance(answer, Refusal) and answer in (UNAVAILABLE, BROKEN):
                self._write_refusal(context, answer, reply, method)
            else:
                reply(answer)

        return decided

    def alive(self, handshakes: Mapping[HandshakeKind, int]) -> None:
        """See `AaaBackend`."""
        self._worker.submit(Heartbeat())
        if handshakes:
            self._worker.submit(CountHandshakes(handshakes, utc_now()))

    def session_started(self, start: SessionStart, reply: Callable[[Refusal | None], None]) -> None:
        """See `AaaBackend`."""
        self._worker.submit(OpenSession(start, reply))

    def session_updated(self, usage: SessionUsage) -> None:
        """See `AaaBackend`."""
        self._worker.submit(UpdateSession(usage, utc_now()))

    def session_ended(self, usage: SessionUsage, cause: TerminateCause) -> None:
        """See `AaaBackend`."""
        self._worker.submit(CloseSession(usage, cause, utc_now()))

    def sign_in_failed(self, context: SignInContext, code: str, reason: str, detail: dict[str, str]) -> None:
        """See `AaaBackend`."""
        event = refused(context, Refusal(code, reason), identity="", detail=detail, at=utc_now())
        self._worker.submit(WriteEvent(event))

    def refuse(
        self, context: SignInContext, refusal: Refusal, reply: Callable[[Refusal], None], *, identity: str
    ) -> None:
        """Write the event of a sign-in that is refused without a conversation; where there are many, not of each."""
        self._desk.refusals.write(context, refusal, self._desk.monotonic(), identity=identity, told=reply)

    def accounting_intake(self) -> AccountingIntake:
        """What takes the records of network access servers."""
        return AccountingIntake(self._worker.submit)

    def handshake_reported(self, context: SignInContext, report: HandshakeReport) -> None:
        """See `AaaBackend`."""
        self._worker.submit(WriteReport(context, report, utc_now()))

    def _write_refusal(
        self,
        context: SignInContext,
        refusal: Refusal,
        reply: Callable[[Refusal], None],
        method: str = "certificate",
    ) -> None:
        self._desk.refusals.write(
            context, refusal, self._desk.monotonic(), identity=context.ike_identity, method=method, told=reply
        )

    def _upstream_thread(self, post: Callable[[Callable[[], None]], None]) -> UpstreamThread | None:
        settings = self._runtime.settings.radius.upstream
        return UpstreamThread(settings, post) if settings.servers else None

    def _revocation_service(self, post: Callable[[Callable[[], None]], None]) -> RevocationService | None:
        if not self._foreign:
            return None
        settings = self._runtime.settings
        return RevocationService(self._foreign, settings.pki.revocation, own_networks(settings.gateway), post)
