"""One EAP sign-in that a RADIUS server of the company decides: carries its packets, then asks our own rules as well.

The server says who it is; what that user may do here, and whether the device may, the rules say, as for everybody.
A device that has not proved itself before is one that nobody knows.

What a peer calls itself outside of a tunnel, or beside a certificate, it has not proved: whoever has a password could
call himself somebody else. EAP-MSCHAPv2 checks that name. With all other methods the server has to say who it was,
and many a server just repeats what it was told: only the settings can say of it that it does not.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from aaa.backend.conversation import NOT_COUNTED, Desk, ReplyTo
from aaa.backend.events import BY_RADIUS
from aaa.backend.identity import limiter_key, vouched_candidates
from aaa.backend.refusals import TOO_MANY_FAILURES
from aaa.backend.requests import BROKEN, UNAVAILABLE, DecideSignIn, Proof, Vouched
from aaa.eap.errors import EapError, MalformedPacket
from aaa.eap.identity import decode_identity
from aaa.eap.packet import EapCode, EapPacket, EapType, failure, request
from aaa.eap.server import MAX_ROUNDS
from aaa.interface import Access, EapAccepted, EapContinue, EapRejected, Refusal, SignInContext
from aaa.radius.client import Done, Items, Verdict
from aaa.radius.constants import Attribute, Code, NasPortType
from aaa.radius.wire import MAX_VALUE_BYTES

FRAMED_MTU = 1020
"""Of EAP packets: with IKE, UDP and IPv6 around them, they fit the 1280 bytes of the smallest path."""
LONGEST_EAP_BYTES = 2048
"""Of a packet that goes to a server: a client that keeps to the size above sends none that is longer, and a server
that gets more than 4096 bytes in all says nothing, as if it were down.
"""
NO_SERVER = Refusal("radius-unavailable", "no RADIUS server answers, so nobody can be let in")
_NAMESPACE = uuid.UUID("2b8d5c3a-90c1-4a0e-a1d0-d0d1c7a1f3e9")
_NO_METHODS = frozenset({EapType.IDENTITY, EapType.NOTIFICATION})
_SERVICE_FRAMED = 2
_NUMBER = struct.Struct("!I")


class Upstreams(Protocol):
    """The RADIUS servers."""

    domains: frozenset[str]
    """Those that are ours: there `alice@corp.example` is also `alice`."""

    user_name_is_proved: bool
    """What they say of the user's name is what was authenticated."""

    def ask(self, items: Items, eap: bytes, server: int | None, done: Done) -> None:
        """Send an Access-Request; `done` is called once, on the caller's thread."""

    def name_of(self, server: int) -> str:
        """As the settings call it."""


class PassThrough:
    """Implements `aaa.radius.conversations.SignIn`, which is `aaa.interface.EapConversation` and more.

    Args:
        desk: what all conversations share.
        upstreams: the RADIUS servers.
        context: the circumstances.
        first: what the device has proved before.
        random: gives so many unpredictable bytes.
    """

    __slots__ = (
        "_asking",
        "_closed",
        "_context",
        "_desk",
        "_finished",
        "_first",
        "_identifier",
        "_identity",
        "_methods",
        "_refused",
        "_rounds",
        "_server",
        "_state",
        "_upstreams",
    )

    def __init__(
        self,
        desk: Desk,
        upstreams: Upstreams,
        context: SignInContext,
        first: Proof | None,
        random: Callable[[int], bytes],
    ) -> None:
        self._desk = desk
        self._upstreams = upstreams
        self._context = context
        self._first = first
        self._identifier = random(1)[0]
        self._identity = ""
        self._methods: set[int] = set()
        """Types of EAP that the server has asked for."""
        self._rounds = 0
        self._server: int | None = None
        self._state: bytes | None = None
        self._asking = self._finished = self._closed = False
        self._refused: Refusal | None = None

    def start(self, reply: ReplyTo) -> None:
        """See `EapConversation`."""
        if self._blocked(""):
            self._refuse(TOO_MANY_FAILURES, reply)
            return
        reply(EapContinue(request(self._identifier, EapType.IDENTITY, b"")))

    def begin(self, packet: bytes, reply: ReplyTo) -> None:
        """The peer's EAP-Response/Identity, where somebody else asked for it; instead of `start`."""
        if len(packet) > 1:
            self._identifier = packet[1]
        self.receive(packet, reply)

    def receive(self, packet: bytes, reply: ReplyTo) -> None:
        """See `EapConversation`.

        Raises:
            RuntimeError: the conversation is over, or the answer to the packet before is still owed.
        """
        if self._closed or self._finished or self._asking:
            raise RuntimeError("the EAP conversation waits for no packet")
        try:
            self._check(packet)
        except EapError as error:
            self._refuse(Refusal(error.code, str(error)), reply)
            return
        if self._blocked(limiter_key(self._identity)):
            self._refuse(TOO_MANY_FAILURES, reply)
            return

        def answered(verdict: Verdict | None) -> None:
            self._asking = False
            if not self._closed:
                self._answered(verdict, reply)

        self._asking = True
        self._upstreams.ask(self._items(), packet, self._server, answered)

    def close(self) -> Refusal | None:
        """See `EapConversation`."""
        self._closed = True
        return self._refused

    def _check(self, packet: bytes) -> None:
        """What is no answer to the last question goes to no server."""
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise MalformedPacket(f"more than {MAX_ROUNDS} EAP packets in one conversation")
        if len(packet) > LONGEST_EAP_BYTES:
            raise MalformedPacket(f"an EAP packet of {len(packet)} bytes")
        response = EapPacket.parse(packet)
        if response.code != EapCode.RESPONSE or response.identifier != self._identifier:
            raise MalformedPacket("EAP response to another request than the last")
        if not self._identity:
            if response.type != EapType.IDENTITY:
                raise MalformedPacket("no identity where one was asked for")
            self._identity = decode_identity(response.data)

    def _items(self) -> list[tuple[Attribute, bytes]]:
        items = [
            (Attribute.USER_NAME, self._identity.encode()[:MAX_VALUE_BYTES]),
            (Attribute.NAS_IDENTIFIER, self._context.gateway.encode()),
            (Attribute.NAS_PORT_TYPE, _NUMBER.pack(NasPortType.VIRTUAL)),
            (Attribute.SERVICE_TYPE, _NUMBER.pack(_SERVICE_FRAMED)),
            (Attribute.FRAMED_MTU, _NUMBER.pack(FRAMED_MTU)),
        ]
        if self._context.remote_address:
            items.append((Attribute.CALLING_STATION_ID, self._context.remote_address.encode()[:MAX_VALUE_BYTES]))
        if self._state is not None:
            items.append((Attribute.STATE, self._state))
        return items

    def _answered(self, verdict: Verdict | None, reply: ReplyTo) -> None:
        if verdict is None:
            self._refuse(NO_SERVER, reply)
            return
        name = self._upstreams.name_of(verdict.server)
        try:
            eap = EapPacket.parse(verdict.eap)
        except EapError:
            self._refuse(Refusal("radius-refused", f"RADIUS server {name} answered without EAP"), reply)
            return
        if verdict.code == Code.ACCESS_CHALLENGE and eap.code == EapCode.REQUEST:
            self._identifier, self._server, self._state = eap.identifier, verdict.server, verdict.state
            if eap.type is not None and eap.type not in _NO_METHODS:
                self._methods.add(eap.type)
            reply(EapContinue(verdict.eap))
        elif verdict.code != Code.ACCESS_ACCEPT:
            self._refuse(Refusal("radius-refused", f"RADIUS server {name} refused the sign-in"), reply)
        elif eap.code != EapCode.SUCCESS or not verdict.msk:
            # A key is what IKE is authenticated with; a method without one lets nobody in.
            reason = f"RADIUS server {name} accepted without EAP-Success or keys"
            self._refuse(Refusal("radius-refused", reason), reply)
        elif (problem := self._name_problem(verdict)) is not None:
            self._refuse(Refusal("radius-refused", f"RADIUS server {name} accepted, but {problem}"), reply)
        else:
            self._decide(verdict, name, reply)

    def _name_problem(self, verdict: Verdict) -> str | None:
        """Why it is not known whom the server has let in."""
        if self._methods == {EapType.MSCHAPV2}:
            return None
        if not self._upstreams.user_name_is_proved:
            return "with this method that proves no name (radius.upstream.user_name_is_proved)"
        return None if verdict.user_name else "did not say whom: its Access-Accept has no User-Name, or several"

    def _decide(self, verdict: Verdict, server: str, reply: ReplyTo) -> None:
        """Ask our own rules about whom the server has let in."""
        candidates = vouched_candidates(verdict.user_name or self._identity, self._upstreams.domains)
        user = candidates[-1] if candidates else ""
        vouched = Vouched(
            authority=server,
            names_user=True,
            user_names=candidates,
            device_id="",
            device_names=(),
            holder_id=str(uuid.uuid5(_NAMESPACE, user)),
            revocation="",
            holder_name=f"radius/{user}",
        )

        def decided(answer: Access | Refusal) -> None:
            self._asking = False
            if self._closed:
                return
            if isinstance(answer, Access):
                self._finished = True
                limit_s = verdict.session_timeout_s or answer.session_lifetime_s
                lifetime_s = min(answer.session_lifetime_s, limit_s)
                reply(EapAccepted(verdict.eap, verdict.msk, replace(answer, session_lifetime_s=lifetime_s)))
            elif answer in (UNAVAILABLE, BROKEN):
                self._refuse(answer, reply)
            else:
                self._finished, self._refused = True, answer
                reply(EapRejected(self._failure(), answer))

        self._asking = True
        proof = Proof(BY_RADIUS, self._identity, "", vouched=vouched)
        self._desk.submit(DecideSignIn(self._context, proof, decided, lambda: not self._closed, self._first))

    def _refuse(self, refusal: Refusal, reply: ReplyTo) -> None:
        """Write the event, then tell the gateway."""
        self._finished, self._refused = True, refusal
        if refusal not in (UNAVAILABLE, BROKEN) and refusal.code not in NOT_COUNTED:
            key = limiter_key(self._identity)
            self._desk.limit.failed(key, self._context.remote_address, self._desk.monotonic())

        def told(recorded: Refusal) -> None:
            if not self._closed:
                reply(EapRejected(self._failure(), recorded))

        self._desk.refusals.write(
            self._context, refusal, self._desk.monotonic(), identity=self._identity, method=BY_RADIUS, told=told
        )

    def _failure(self) -> bytes:
        return failure(self._identifier)

    def _blocked(self, identity_key: str) -> bool:
        return self._desk.limit.blocked(identity_key, self._context.remote_address, self._desk.monotonic())
