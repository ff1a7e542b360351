"""One EAP conversation, the server's side: Identity, the choice of a method, the method, the verdict.

IKE (and RADIUS) answer every message and deliver each once. So what RFC 3748 discards in silence, a packet
with a wrong length, code or identifier, ends the conversation here, and there is no retransmission.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aaa.eap.errors import EapError, FailureCode, MalformedPacket, SetupError, WrongState
from aaa.eap.gtc import GtcMethod
from aaa.eap.identity import decode_identity
from aaa.eap.method import Method, MethodAsk, MethodContinue, MethodFailure, MethodStep, MethodSuccess
from aaa.eap.mschapv2 import MsChapV2Method
from aaa.eap.offer import MUTUAL_METHODS, TUNNELS, TYPE_OF_METHOD, Inside, MethodName, eap_methods
from aaa.eap.packet import EapCode, EapPacket, EapType, failure, request, success, type_name
from aaa.eap.peap import PeapMethod
from aaa.eap.questions import (
    Answer,
    NeedCredentials,
    NeedPassword,
    NtCredential,
    PasswordPrompt,
    PasswordRight,
    PasswordVerdict,
    PasswordWrong,
    Question,
)
from aaa.eap.states import Input, State
from aaa.eap.steps import Authenticated, Failed, Send, Step
from aaa.eap.tls import EapTlsServer
from aaa.eap.ttls import TtlsMethod

__all__ = [
    "MUTUAL_METHODS",
    "TUNNELS",
    "Authenticated",
    "EapServer",
    "Failed",
    "Input",
    "Inside",
    "MethodName",
    "NeedCredentials",
    "NeedPassword",
    "NtCredential",
    "PasswordPrompt",
    "PasswordRight",
    "PasswordVerdict",
    "PasswordWrong",
    "Send",
    "State",
    "Step",
]

MAX_ROUNDS = 100
"""Responses in one conversation; EAP-TLS with long chains needs some 20."""
_MAX_NAMED_TYPES = 8
"""A Nak may hold thousands of types; the reason names no more than this."""


class EapServer:
    """One conversation. Whatever the peer sends, `receive` does not raise, and nothing but a completed method
    comes out as `Authenticated`.

    Args:
        methods: in order of preference; the first is offered, the others on request.
        server_name: what EAP-MSCHAPv2 tells the client that it talks to.
        tls: what the conversations share, where `tls` is among the methods.
        random: gives so many unpredictable bytes.
        inside: what runs inside the tunnels, where there are such among the methods.

    Raises:
        SetupError: no method, `tls` without its server, or a tunnel without anything inside.
    """

    __slots__ = (
        "_after_question",
        "_asked_type",
        "_decided",
        "_identifier",
        "_identity",
        "_inside",
        "_last_request",
        "_method",
        "_methods",
        "_nak_received",
        "_question",
        "_random",
        "_rounds",
        "_server_name",
        "_state",
        "_tls",
    )

    def __init__(
        self,
        methods: Sequence[MethodName],
        server_name: str,
        tls: EapTlsServer | None,
        random: Callable[[int], bytes],
        *,
        inside: Inside | None = None,
    ) -> None:
        if not methods:
            raise SetupError("EAP without a method")
        if "tls" in methods and tls is None:
            raise SetupError("EAP-TLS without a certificate")
        if "ttls" in methods and (inside is None or not inside.methods):
            raise SetupError("EAP-TTLS without a certificate or without anything inside")
        if "peap" in methods and (inside is None or not eap_methods(inside)):
            raise SetupError("PEAP without a certificate or without a method inside")
        self._methods = tuple(methods)
        self._inside = inside
        self._server_name = server_name
        self._tls = tls
        self._random = random
        self._state = State.IDLE
        self._identifier = 0
        self._identity = ""
        self._method: Method | None = None
        self._asked_type = int(EapType.IDENTITY)
        self._last_request = b""
        self._nak_received = False
        self._rounds = 0
        self._decided: MethodFailure | None = None
        self._question: Question | None = None
        self._after_question = State.OFFERED

    @property
    def identifier(self) -> int:
        """Of the last request."""
        return self._identifier

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._state

    @property
    def decided(self) -> Failed | None:
        """The refusal that is certain already while the peer is still being told why (a TLS alert is on its way).

        A peer that vanishes on the alert, as many do, never brings about the `Failed` step: whoever gives the
        conversation up finds here what to write into the audit log.
        """
        if self._decided is None or self._state is State.FAILED:
            return None
        return self._failed(self._decided)

    def start(self) -> bytes:
        """The EAP-Request/Identity.

        Raises:
            WrongState: the conversation has begun.
        """
        if self._state is not State.IDLE:
            raise WrongState("the EAP conversation has begun")
        self._identifier = self._random(1)[0]
        self._state = State.IDENTITY
        return self._request(EapType.IDENTITY, b"").packet

    def begin(self, packet: bytes) -> Step:
        """An EAP-Response/Identity to a request that others made, as an authenticator that speaks RADIUS does
        (RFC 3579 section 2.1), or to none, as inside EAP-TTLS; instead of `start`.

        Raises:
            WrongState: the conversation has begun.
        """
        if self._state is not State.IDLE:
            raise WrongState("the EAP conversation has begun")
        self._identifier = packet[1] if len(packet) > 1 else 0
        self._state = State.IDENTITY
        self._last_request = request(self._identifier, EapType.IDENTITY, b"")
        return self.receive(packet)

    def receive(self, packet: bytes) -> Step:
        """An EAP-Response of the peer; hostile bytes are expected and never raise.

        Raises:
            WrongState: `start` was not called.
        """
        if self._state is State.IDLE:
            raise WrongState("the EAP conversation has not begun")
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            return self._fail(FailureCode.LIMIT_EXCEEDED, f"more than {MAX_ROUNDS} EAP packets in one conversation")
        try:
            response = EapPacket.parse(packet)
            if response.code != EapCode.RESPONSE:
                raise MalformedPacket(f"EAP {response.code.name.title()} from the peer")
            if response.identifier != self._identifier:
                raise MalformedPacket("EAP response to another request than the last")
            handler = _TRANSITIONS.get((self._state, self._classify(response.type)))
            if handler is None:
                raise MalformedPacket(f"{type_name(response.type)} in state {self._state.value}")
            return handler(self, response.data)
        except EapError as error:
            return self._fail(error.code, str(error))

    def provide_credentials(self, credentials: Sequence[NtCredential]) -> Step:
        """What the user of `NeedCredentials` may sign in with.

        None at all means that the user is unknown or has nothing valid: the conversation goes on as with any
        other, and fails where a wrong password would.

        Raises:
            WrongState: nobody asked.
        """
        if not isinstance(self._question, NeedCredentials):
            raise WrongState("the EAP conversation does not wait for credentials")
        return self.answer(tuple(credentials))

    def provide_password(self, verdict: PasswordVerdict) -> Step:
        """Whether the password of `NeedPassword` is right, or what else to ask.

        Raises:
            WrongState: nobody asked, or there is something to ask where the peer can't be.
        """
        question = self._question
        if not isinstance(question, NeedPassword):
            raise WrongState("the EAP conversation does not wait for a verdict on a password")
        if isinstance(verdict, PasswordPrompt) and not question.can_ask:
            raise WrongState("the peer can't be asked anything more")
        return self.answer(verdict)

    def answer(self, answer: Answer) -> Step:
        """What the method asked for, whichever it is.

        Raises:
            WrongState: nobody asked, or for something else.
        """
        if self._question is None or self._method is None:
            raise WrongState("the EAP conversation waits for no answer")
        self._question = None
        self._state = self._after_question
        try:
            return self._advance(self._method, self._method.answer(answer))
        except EapError as error:
            return self._fail(error.code, str(error))

    def success(self) -> bytes:
        """The EAP-Success, after `Authenticated`.

        Raises:
            WrongState: the peer is not authenticated.
        """
        if self._state is not State.AUTHENTICATED:
            raise WrongState("the EAP peer is not authenticated")
        self._state = State.SUCCEEDED
        return success(self._identifier)

    def failure(self) -> bytes:
        """An EAP-Failure: after `Authenticated` where the peer may not enter, or to give up at any time before.

        Raises:
            WrongState: the conversation has not begun, or EAP-Success is out.
        """
        if self._state in (State.IDLE, State.SUCCEEDED):
            raise WrongState("the EAP conversation can't fail any more, or not yet")
        self._end()
        return failure(self._identifier)

    def _classify(self, eap_type: int) -> Input:
        if eap_type == self._asked_type:
            return Input.IDENTITY if self._state is State.IDENTITY else Input.METHOD
        return _INPUT_OF_TYPE.get(eap_type, Input.OTHER)

    def _handle_identity(self, data: bytes) -> Step:
        self._identity = decode_identity(data)
        return self._offer(self._methods[0])

    def _handle_notification(self, data: bytes) -> Step:
        """Nobody asked for it. It changes nothing (RFC 3748 section 5.2): the question stands."""
        return Send(self._last_request)

    def _handle_nak(self, data: bytes) -> Step:
        """RFC 3748 section 5.3.1: the types that the peer would have instead; a 0 among them means none."""
        self._nak_received = True
        wanted = set(data)
        for method in self._methods:
            eap_type = TYPE_OF_METHOD[method]
            if eap_type in wanted and eap_type != self._asked_type:
                return self._offer(method)
        return self._fail(FailureCode.NO_COMMON_METHOD, f"the client does EAP by {_name_types(data)}{self._ours()}")

    def _handle_late_nak(self, data: bytes) -> Step:
        return self._fail(
            FailureCode.NO_COMMON_METHOD,
            f"the client declined {type_name(self._asked_type)} that it had accepted or asked for",
        )

    def _handle_expanded(self, data: bytes) -> Step:
        """An expanded Nak (RFC 3748 section 5.3.2) answers an expanded type; we have none."""
        return self._fail(FailureCode.NO_COMMON_METHOD, f"the client does EAP by expanded types only{self._ours()}")

    def _handle_method(self, data: bytes) -> Step:
        if self._method is None:
            raise MalformedPacket("response to a method that does not run")
        self._state = State.METHOD
        return self._advance(self._method, self._method.process(data))

    def _advance(self, method: Method, step: MethodStep) -> Step:
        match step:
            case MethodContinue(data, refusal):
                self._decided = refusal
                return self._request(method.eap_type, data)
            case MethodAsk(question):
                self._identity = question.identity
                self._question = question
                self._after_question, self._state = self._state, State.QUESTION
                return question
            case MethodSuccess():
                self._state = State.AUTHENTICATED
                self._method = None
                return Authenticated(self._identity, method.label, step.msk, step.credential_key, step.chain_der)
            case MethodFailure(code, reason):
                return self._fail(code, reason)

    def _offer(self, name: MethodName) -> Step:
        self._method = method = self._open(name)
        self._state = State.METHOD if self._nak_received else State.OFFERED
        return self._advance(method, method.start())

    def _open(self, name: MethodName) -> Method:
        """Raises: SetupError: the constructor has seen to it that it does not."""
        if name == "mschapv2":
            # The challenge repeats the identifier of the request that is about to carry it.
            return MsChapV2Method(self._identity, self._server_name, self._next_identifier(), self._random)
        if name == "gtc":
            return GtcMethod(self._identity)
        if name == "tls" and self._tls is not None:
            return self._tls.open()
        inside = self._inside
        if name == "peap" and inside is not None:
            return PeapMethod(
                inside.tls,
                lambda: self._conversation_inside(inside),
                self._next_identifier,
                self._random,
                binding_required=inside.binding_required,
            )
        if name == "ttls" and inside is not None:
            return TtlsMethod(
                inside.tls,
                inside.methods,
                lambda: self._conversation_inside(inside) if eap_methods(inside) else None,
                self._random,
            )
        raise SetupError(f"EAP method {name} without what it needs")

    def _conversation_inside(self, inside: Inside) -> EapServer:
        """One that has no tunnel in it, so that there is no end of tunnels."""
        return EapServer(eap_methods(inside), self._server_name, None, self._random)

    def _next_identifier(self) -> int:
        return (self._identifier + 1) & 0xFF

    def _request(self, eap_type: int, data: bytes) -> Send:
        self._identifier = self._next_identifier()
        self._asked_type = eap_type
        self._last_request = request(self._identifier, eap_type, data)
        return Send(self._last_request)

    def _ours(self) -> str:
        return "; here it is " + ", ".join(type_name(TYPE_OF_METHOD[name]) for name in self._methods)

    def _fail(self, code: FailureCode, reason: str) -> Failed:
        # What was decided before the peer's last word is the cause, not what it said afterwards.
        verdict = self._decided or MethodFailure(code, reason)
        self._end()
        return self._failed(verdict)

    def _failed(self, verdict: MethodFailure) -> Failed:
        return Failed(failure(self._identifier), self._identity, verdict.code, verdict.reason)

    def _end(self) -> None:
        self._state = State.FAILED
        self._method = None
        self._question = None
        self._last_request = b""


def _name_types(data: bytes) -> str:
    """The types of a Nak in words."""
    types = [eap_type for eap_type in dict.fromkeys(data) if eap_type != 0]
    if not types:
        return "none of the methods that were offered"
    names = ", ".join(type_name(eap_type) for eap_type in types[:_MAX_NAMED_TYPES])
    return names + (", ..." if len(types) > _MAX_NAMED_TYPES else "")


_INPUT_OF_TYPE = {
    int(EapType.NOTIFICATION): Input.NOTIFICATION,
    int(EapType.NAK): Input.NAK,
    int(EapType.EXPANDED): Input.EXPANDED,
}

_TRANSITIONS: dict[tuple[State, Input], Callable[[EapServer, bytes], Step]] = {
    (State.IDENTITY, Input.IDENTITY): EapServer._handle_identity,
    (State.IDENTITY, Input.NOTIFICATION): EapServer._handle_notification,
    (State.OFFERED, Input.METHOD): EapServer._handle_method,
    (State.OFFERED, Input.NOTIFICATION): EapServer._handle_notification,
    (State.OFFERED, Input.NAK): EapServer._handle_nak,
    (State.OFFERED, Input.EXPANDED): EapServer._handle_expanded,
    (State.METHOD, Input.METHOD): EapServer._handle_method,
    (State.METHOD, Input.NOTIFICATION): EapServer._handle_notification,
    (State.METHOD, Input.NAK): EapServer._handle_late_nak,
    (State.METHOD, Input.EXPANDED): EapServer._handle_expanded,
}
"""What each state accepts; absent means that the conversation fails with a protocol error."""
