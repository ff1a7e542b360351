"""The RADIUS server, sans-IO: a datagram and the time in, answers out by a callable, at once or when AAA has decided.

    client (NAS)                                   server
    Access-Request, EAP-Response/Identity          ->
                                                   <- Access-Challenge, EAP-Request, State
    Access-Request, EAP-Response, State            ->
                                                   <- ... Access-Accept, EAP-Success, MS-MPPE keys, what was decided
                                                      or Access-Reject, EAP-Failure

What is not authentic, or too much, is dropped without an answer, as RADIUS has it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from aaa.backend.requests import UNAVAILABLE
from aaa.eap.packet import failure
from aaa.interface import (
    Access,
    EapAccepted,
    EapContinue,
    EapRejected,
    EapReply,
    Refusal,
    SessionStart,
    SessionUsage,
    SignInContext,
    TerminateCause,
)
from aaa.radius.accept import accept_attributes
from aaa.radius.accounting import ClientRecord, read_record
from aaa.radius.circumstances import sign_in_context
from aaa.radius.clients import RadiusClient, RadiusClients
from aaa.radius.constants import AcctStatus, Attribute, Code
from aaa.radius.conversations import Conversation, Conversations, SignIn
from aaa.radius.duplicates import Duplicates
from aaa.radius.grant import GrantSealer
from aaa.radius.recent import RecentGrants
from aaa.radius.request import NotAuthentic, Request, Service
from aaa.radius.wire import MalformedPacket

WITHOUT_EAP = Refusal(
    "no-common-method", "the RADIUS client brought a password or CHAP, and not EAP, by which alone one can sign in"
)
_PASSWORDS = (Attribute.USER_PASSWORD, Attribute.CHAP_PASSWORD)


class Peer(NamedTuple):
    """Where a datagram came from, and an answer goes."""

    service: Service
    host: str
    port: int
    via: Hashable
    """Whatever the shell sends by: the socket and the address that was asked."""


REPLAY_WINDOW_S = 300.0
"""By which the clocks of client and server may differ (RFC 5176 section 6.3 has the same)."""


class Backend(Protocol):
    """What is asked of AAA."""

    def open_eap(self, context: SignInContext) -> SignIn:
        """A new EAP conversation."""

    def refuse(
        self, context: SignInContext, refusal: Refusal, reply: Callable[[Refusal], None], *, identity: str
    ) -> None:
        """Write the audit event of a sign-in that needs no conversation to be refused; then call back."""


class Accounts(Protocol):
    """What takes accounting records. `recorded` is called with True once the record is stored, with False where it
    can't be and has to be sent again; as long as it waits to be stored, not at all.
    """

    def started(self, start: SessionStart, recorded: Callable[[bool], None]) -> None:
        """A session began."""

    def updated(self, usage: SessionUsage, delay_s: int, recorded: Callable[[bool], None]) -> None:
        """Counters of a session, some seconds old."""

    def ended(
        self, usage: SessionUsage, cause: TerminateCause, delay_s: int, recorded: Callable[[bool], None]
    ) -> None:
        """A session ended, some seconds ago."""

    def none_left(self, gateway: str, cause: TerminateCause, recorded: Callable[[bool], None]) -> None:
        """A network access server has started or stops, and has none of the sessions that are open here."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Why nothing came of a datagram."""

    reason: str
    client: str = ""
    """By its name, where the address is one's; that does not mean that the datagram was."""
    answered: bool = False
    """It was authentic and has its answer, so that the client goes on."""


class RadiusServer:
    """Answers authentic requests.

    Args:
        clients: who may ask.
        backend: AAA.
        accounts: where accounting records go.
        conversations: to keep the sign-ins in.
        grants: seals what was decided.
        random: gives so many unpredictable bytes.
        clock: monotonic seconds, for answers that come later.
        send: sends a datagram.
        unix_clock: seconds since 1970.
    """

    def __init__(
        self,
        clients: RadiusClients,
        backend: Backend,
        accounts: Accounts,
        conversations: Conversations,
        grants: GrantSealer,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        send: Callable[[bytes, Peer], None],
        unix_clock: Callable[[], float],
    ) -> None:
        self._clients = clients
        self._backend = backend
        self._accounts = accounts
        self._conversations = conversations
        self._grants = grants
        self._random = random
        self._clock = clock
        self._send = send
        self._unix_clock = unix_clock
        self._duplicates = Duplicates()
        self._recent = RecentGrants()

    def receive_datagram(self, data: bytes, peer: Peer, now: float) -> Drop | None:
        """Take a datagram; returns why, where nothing comes of it."""
        client = self._clients.find(peer.host)
        if client is None:
            return Drop("the address is no client's")
        try:
            request = Request.open(data, client.secret, peer.service)
        except (MalformedPacket, NotAuthentic) as error:
            return Drop(str(error), client.name)
        asked = _Asked(request, client, peer)
        if self._duplicates.is_known(asked.key, request.authenticator, now):
            earlier = self._duplicates.answer(asked.key)
            if earlier is not None:
                self._send(earlier, peer)
            return None
        drop = self._serve(asked, now)
        if drop is not None and not drop.answered:
            self._duplicates.drop(asked.key, request.authenticator)
        return drop

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do, monotonic seconds."""
        return self._conversations.next_timeout

    def handle_timer(self, now: float) -> None:
        """End the conversations whose clients have fallen silent."""
        for _ in self._conversations.overdue(now):
            continue

    def close(self) -> None:
        """End all conversations."""
        self._conversations.end_all()

    def _serve(self, asked: _Asked, now: float) -> Drop | None:
        match asked.request.code:
            case Code.STATUS_SERVER:
                self._answer(asked, _ALIVE[asked.peer.service])
                return None
            case Code.ACCESS_REQUEST:
                return self._access(asked, now)
        return self._account(asked, now)

    def _account(self, asked: _Asked, now: float) -> Drop | None:
        client, request = asked.client, asked.request

        def granted(remote: str) -> Access | None:
            sealed = self._grants.open(request.values(Attribute.CLASS), client.name)
            return sealed or self._recent.take(client.name, request.text(Attribute.USER_NAME), remote, now)

        try:
            record = read_record(request, client, granted)
        except MalformedPacket as error:
            return Drop(str(error), client.name)

        def recorded(is_stored: bool) -> None:
            if is_stored:
                self._answer(asked, Code.ACCOUNTING_RESPONSE)
            else:
                self._leave(asked)

        if isinstance(record, ClientRecord):
            if record.at is not None and abs(self._unix_clock() - record.at) > REPLAY_WINDOW_S:
                # An old one, played again, would close all sessions of the client in the books.
                return Drop("Accounting-On or -Off of another time (Event-Timestamp)", client.name)
            if not client.is_one_machine:
                # One of several machines by this name, and nothing tells which sessions are its own.
                recorded(True)
                return None
            is_on = record.status is AcctStatus.ACCOUNTING_ON
            cause = TerminateCause.NAS_REBOOT if is_on else TerminateCause.NAS_REQUEST
            self._accounts.none_left(client.name, cause, recorded)
        elif record.start is not None:
            self._accounts.started(record.start, recorded)
        elif record.status is AcctStatus.START:
            # A client that gets no answer may hold up its user, and asks again: that would help nobody.
            recorded(True)
            return Drop("a session for which nobody signed in here; its records are not kept", client.name, True)
        elif record.status is AcctStatus.STOP:
            self._accounts.ended(record.usage, record.cause, record.delay_s, recorded)
        else:
            self._accounts.updated(record.usage, record.delay_s, recorded)
        return None

    def _access(self, asked: _Asked, now: float) -> Drop | None:
        request, client = asked.request, asked.client.name
        eap, states = request.eap, request.values(Attribute.STATE)
        if eap is not None and any(request.values(kind) for kind in _PASSWORDS):
            return Drop("a password beside EAP", client)
        if len(states) > 1:
            return Drop("more than one State", client)
        if eap is None:
            self._refuse_without_eap(asked)
            return None
        if states:
            return self._go_on(asked, eap, states[0])
        if not self._conversations.make_room(client):
            return Drop("too many sign-ins are under way", client)
        context = sign_in_context(request, client, self._random(16))
        conversation = self._conversations.begin(self._backend.open_eap(context), context, client, now)
        conversation.is_asking = True
        reply = partial(self._replied, conversation, asked)
        if eap:
            conversation.sign_in.begin(eap, reply)
        else:
            conversation.sign_in.start(reply)
        return None

    def _go_on(self, asked: _Asked, eap: bytes, state: bytes) -> Drop | None:
        conversation = self._conversations.find(state, asked.client.name)
        if conversation is None:
            # Given up meanwhile, or begun with a server that has since been started anew.
            identifier = eap[1] if len(eap) > 1 else 0
            self._answer(asked, Code.ACCESS_REJECT, eap=failure(identifier))
            return None
        if conversation.is_asking:
            return Drop("the answer to the message before is still owed", asked.client.name)
        conversation.is_asking = True
        conversation.sign_in.receive(eap, partial(self._replied, conversation, asked))
        return None

    def _replied(self, conversation: Conversation, asked: _Asked, reply: EapReply) -> None:
        """AAA's answer to one message of a client."""
        conversation.is_asking = False
        match reply:
            case EapContinue(packet):
                state = self._conversations.challenge(conversation, self._clock())
                self._answer(asked, Code.ACCESS_CHALLENGE, [(Attribute.STATE, state)], eap=packet)
            case EapAccepted(packet, msk, access):
                self._conversations.end(conversation)
                context, now = conversation.context, self._clock()
                self._recent.remember(asked.client.name, context.ike_identity, context.remote_address, access, now)
                grant = self._grants.seal(access, asked.client.name)
                self._answer(asked, Code.ACCESS_ACCEPT, accept_attributes(access, grant), eap=packet, msk=msk)
            case EapRejected(packet, refusal):
                self._conversations.end(conversation)
                if refusal.code == UNAVAILABLE.code:
                    self._leave(asked)
                else:
                    self._answer(asked, Code.ACCESS_REJECT, eap=packet)

    def _refuse_without_eap(self, asked: _Asked) -> None:
        context = sign_in_context(asked.request, asked.client.name, self._random(16))

        def told(_: Refusal) -> None:
            self._answer(asked, Code.ACCESS_REJECT)

        self._backend.refuse(context, WITHOUT_EAP, told, identity=context.ike_identity)

    def _leave(self, asked: _Asked) -> None:
        """Without its database this server can say neither yes nor no: silence has the client ask another one, or ask
        again.
        """
        self._duplicates.drop(asked.key, asked.request.authenticator)

    def _answer(
        self,
        asked: _Asked,
        code: Code,
        attributes: Iterable[tuple[Attribute, bytes]] = (),
        *,
        eap: bytes = b"",
        msk: bytes = b"",
    ) -> None:
        answer = asked.request.answer(code, attributes, eap=eap, msk=msk)
        self._duplicates.answered(asked.key, asked.request.authenticator, answer)
        self._send(answer, asked.peer)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, from whom and from where."""

    request: Request
    client: RadiusClient
    peer: Peer

    @property
    def key(self) -> Hashable:
        """By which its repetition is known."""
        return self.peer.service, self.peer.host, self.peer.port, self.request.identifier


_ALIVE = {
    Service.AUTHENTICATION: Code.ACCESS_ACCEPT,
    Service.ACCOUNTING: Code.ACCOUNTING_RESPONSE,
}
"""What a Status-Server is answered on each port (RFC 5997 section 4.2)."""
