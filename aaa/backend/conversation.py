"""One EAP sign-in: carries the EAP server's questions to the database thread and its verdict to the audit log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aaa.backend.credentials import CertificateChecker, NtHashes
from aaa.backend.failure_limit import FailureLimit
from aaa.backend.identity import limiter_key
from aaa.backend.passwords import (
    WRONG_PASSWORD_CODES,
    PasswordAttempt,
    PasswordBackend,
    Prompt,
    why_wrong,
)
from aaa.backend.refusals import TOO_MANY_FAILURES, RefusalLog, Submit
from aaa.backend.requests import (
    BROKEN,
    UNAVAILABLE,
    DecideSignIn,
    FindCodes,
    FoundUser,
    Proof,
    StoredCode,
)
from aaa.decision import both_methods
from aaa.eap.server import (
    Authenticated,
    EapServer,
    Failed,
    NeedCredentials,
    NeedPassword,
    PasswordPrompt,
    PasswordRight,
    PasswordWrong,
    Send,
    Step,
)
from aaa.interface import Access, EapAccepted, EapContinue, EapRejected, EapReply, Refusal, SignInContext

# These are mistakes of setting up and outages, not attempts to get in, and an office behind one address must not be
# shut out by one badly configured client.
NOT_COUNTED = frozenset(
    {
        "no-common-method",
        "client-refused-server",
        "tls-version",
        "no-common-cipher",
        "revocation-unknown",
        "directory-busy",
        "directory-refused",
        "directory-unavailable",
        "radius-unavailable",
        "second-factor-needed",
        TOO_MANY_FAILURES.code,
    }
)
_UNAUTHENTICATED_USER = frozenset({"unknown-user", "wrong-credential"})

_CAN_NOT_ASK = Refusal(
    "second-factor-needed", "the user has to be asked for more than a password, and the client's method can't"
)

ReplyTo = Callable[[EapReply], None]


@dataclass(frozen=True, slots=True)
class Desk:
    """What all conversations of a backend share."""

    submit: Submit
    hashes: NtHashes
    passwords: PasswordBackend
    certificates: CertificateChecker
    limit: FailureLimit
    refusals: RefusalLog
    monotonic: Callable[[], float] = time.monotonic


class EapSignIn:
    """Implements `aaa.interface.EapConversation`. Runs on the caller's thread; only the database does not."""

    __slots__ = (
        "_asking",
        "_attempt",
        "_closed",
        "_codes",
        "_context",
        "_desk",
        "_finished",
        "_first",
        "_identity",
        "_password_proof",
        "_refused",
        "_server",
        "_user",
        "_wrong_password",
    )

    def __init__(self, desk: Desk, server: EapServer, context: SignInContext, first: Proof | None = None) -> None:
        self._desk = desk
        self._first = first
        self._server = server
        self._context = context
        self._identity = ""
        self._user: FoundUser | None = None
        self._codes: dict[str, StoredCode] = {}
        self._attempt: PasswordAttempt | None = None
        self._password_proof: Proof | None = None
        self._wrong_password: Refusal | None = None
        self._asking = False
        self._finished = False
        self._refused: Refusal | None = None
        self._closed = False

    def start(self, reply: ReplyTo) -> None:
        """See `EapConversation`."""
        packet = self._server.start()
        if self._blocked(""):
            # Before the gateway signs anything for an address that had its chances.
            self._refuse(TOO_MANY_FAILURES, self._server.failure(), reply)
            return
        reply(EapContinue(packet))

    def begin(self, packet: bytes, reply: ReplyTo) -> None:
        """The peer's EAP-Response/Identity, where the authenticator asked for it by itself; instead of `start`."""
        step = self._server.begin(packet)
        if self._blocked(""):
            self._refuse(TOO_MANY_FAILURES, self._server.failure(), reply)
            return
        self._advance(step, reply)

    def receive(self, packet: bytes, reply: ReplyTo) -> None:
        """See `EapConversation`.

        Raises:
            RuntimeError: the conversation is over, or the answer to the packet before is still owed.
        """
        if self._closed or self._finished or self._asking:
            raise RuntimeError("the EAP conversation waits for no packet")
        if not self._identity and self._blocked(""):
            # The same for what began before its address was blocked.
            self._refuse(TOO_MANY_FAILURES, self._server.failure(), reply)
            return
        self._advance(self._server.receive(packet), reply)

    def close(self) -> Refusal | None:
        """See `EapConversation`."""
        if self._closed:
            return self._refused
        self._closed = True
        decided = self._server.decided
        if decided is not None and not self._finished:
            # The peer was told by a TLS alert, and left without acknowledging it.
            refusal = self._explained(decided)
            self._count(refusal)
            self._desk.refusals.write(self._context, refusal, self._desk.monotonic(), identity=decided.identity)
            self._refused = refusal
        return self._refused

    def _is_wanted(self) -> bool:
        return not self._closed

    def _advance(self, step: Step, reply: ReplyTo) -> None:
        match step:
            case Send(packet):
                reply(EapContinue(packet))
            case NeedCredentials(identity):
                self._identity = identity
                self._find_codes(identity, reply)
            case NeedPassword():
                self._identity = step.identity
                self._check_password(step, reply)
            case Authenticated():
                self._identity = step.identity
                self._decide(step, reply)
            case Failed():
                self._identity = step.identity
                self._refuse(self._explained(step), step.packet, reply)

    def _find_codes(self, identity: str, reply: ReplyTo) -> None:
        if self._blocked(limiter_key(identity)):
            self._refuse(TOO_MANY_FAILURES, self._server.failure(), reply)
            return

        def found(answer: FoundUser | Refusal) -> None:
            self._asking = False
            if self._closed:
                return
            if isinstance(answer, Refusal):
                self._refuse(answer, self._server.failure(), reply)
                return
            self._user = answer
            self._codes = {code.device_id: code for code in answer.codes}
            # Those that count no more are tried as well, so that the audit log can say which one it was.
            self._advance(self._server.provide_credentials(self._desk.hashes.credentials(answer.codes)), reply)

        self._asking = True
        self._desk.submit(FindCodes(identity, found, self._is_wanted))

    def _check_password(self, question: NeedPassword, reply: ReplyTo) -> None:
        if self._blocked(limiter_key(question.identity)):
            self._refuse(TOO_MANY_FAILURES, self._server.failure(), reply)
            return

        def checked(answer: Proof | Prompt | Refusal) -> None:
            self._asking = False
            if self._closed:
                return
            if isinstance(answer, Proof):
                self._password_proof = answer
                self._advance(self._server.provide_password(PasswordRight(answer.device_id)), reply)
            elif isinstance(answer, Prompt) and question.can_ask:
                self._advance(self._server.provide_password(PasswordPrompt(answer.text)), reply)
            elif isinstance(answer, Refusal) and answer.code in WRONG_PASSWORD_CODES:
                self._wrong_password = answer
                self._advance(self._server.provide_password(PasswordWrong()), reply)
            else:
                # Nobody could be asked; or the user would have to be asked more, and this client can't.
                refusal = answer if isinstance(answer, Refusal) else _CAN_NOT_ASK
                self._refuse(refusal, self._server.failure(), reply)

        if self._attempt is None:
            self._attempt = self._desk.passwords.open(question.identity, self._is_wanted)
        self._asking = True
        self._attempt.answer(question.password, can_ask=question.can_ask, reply=checked)

    def _decide(self, step: Authenticated, reply: ReplyTo) -> None:
        if step.method != "eap-tls":
            self._proved(step, self._code_proof(step), reply)
            return

        def checked(proof: Proof | Refusal) -> None:
            self._asking = False
            if not self._closed:
                self._proved(step, proof, reply)

        self._asking = True
        self._desk.certificates.check(step.chain_der, step.identity, step.method, checked)

    def _proved(self, step: Authenticated, proof: Proof | Refusal, reply: ReplyTo) -> None:
        if isinstance(proof, Refusal):
            self._refuse(proof, self._server.failure(), reply, method=self._both(step.method))
            return

        def decided(answer: Access | Refusal) -> None:
            self._asking = False
            if self._closed:
                return
            if isinstance(answer, Access):
                self._finished = True
                reply(EapAccepted(self._server.success(), step.msk, answer))
            elif answer in (UNAVAILABLE, BROKEN):
                self._refuse(answer, self._server.failure(), reply, method=self._both(step.method))
            else:
                self._finished, self._refused = True, answer
                reply(EapRejected(self._server.failure(), answer))

        self._asking = True
        self._desk.submit(DecideSignIn(self._context, proof, decided, self._is_wanted, self._first))

    def _both(self, method: str) -> str:
        """What the sign-in is called, with what came before EAP."""
        return both_methods(self._first.method, method) if self._first is not None else method

    def _code_proof(self, step: Authenticated) -> Proof | Refusal:
        if self._password_proof is not None:
            return replace(self._password_proof, method=step.method)
        code = self._codes.get(step.credential_key or "")
        if code is None:
            return Refusal("wrong-credential", "the access code belongs to no device")
        return Proof(step.method, step.identity, code.device_id, code)

    def _explained(self, step: Failed) -> Refusal:
        """The EAP server can't tell why it was given no credentials; the directory can."""
        if step.code in _UNAUTHENTICATED_USER:
            if self._wrong_password is not None:
                return self._wrong_password
            if self._user is not None:
                return why_wrong(self._user)
        return Refusal(step.code, step.reason)

    def _refuse(self, refusal: Refusal, packet: bytes, reply: ReplyTo, *, method: str = "") -> None:
        """Write the event, then tell the gateway."""
        self._finished, self._refused = True, refusal
        self._asking = True
        self._count(refusal)

        def told(recorded: Refusal) -> None:
            self._asking = False
            if not self._closed:
                reply(EapRejected(packet, recorded))

        self._desk.refusals.write(
            self._context, refusal, self._desk.monotonic(), identity=self._identity, method=method, told=told
        )

    def _blocked(self, identity_key: str) -> bool:
        return self._desk.limit.blocked(identity_key, self._context.remote_address, self._desk.monotonic())

    def _count(self, refusal: Refusal) -> None:
        if refusal not in (UNAVAILABLE, BROKEN) and refusal.code not in NOT_COUNTED:
            key = limiter_key(self._identity)
            self._desk.limit.failed(key, self._context.remote_address, self._desk.monotonic())
