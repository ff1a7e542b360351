"""What EAP-TTLS and PEAP have in common: a TLS tunnel that proves the server, and an authentication inside it.

The peer's identity outside may be anyone's; the one that counts is said inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from OpenSSL import SSL

from aaa.eap.errors import FailureCode, MalformedPacket, WrongState
from aaa.eap.method import MethodAsk, MethodContinue, MethodFailure, MethodStep
from aaa.eap.questions import Answer, NeedCredentials, NeedPassword
from aaa.eap.steps import Authenticated, Failed, Send, Step
from aaa.eap.tls_link import TlsLink
from aaa.eap.tls_server import TlsServer

InnerName = Literal["mschapv2", "gtc", "pap"]
"""As in the settings: EAP-MSCHAPv2 and the MS-CHAP-V2 of TTLS; EAP-GTC; the PAP of TTLS."""

MAX_INNER_BYTES = 4096
"""What the peer may say at once inside the tunnel; a sign-in needs a few hundred bytes."""
MAX_INNER_MESSAGES = 24
"""From the peer, with data."""
_VERSION_BITS = 0x07


class InnerServer(Protocol):
    """What of an `EapServer` is needed to run it inside a tunnel."""

    @property
    def identifier(self) -> int:
        """Of the last request."""

    def start(self) -> bytes:
        """The EAP-Request/Identity."""

    def begin(self, packet: bytes) -> Step:
        """An EAP-Response/Identity that nobody asked for."""

    def receive(self, packet: bytes) -> Step:
        """An EAP-Response of the peer."""

    def answer(self, answer: Answer) -> Step:
        """The answer to the question that came as the last step."""


class Tunnel:
    """The tunnel of one conversation, up to the first message inside it.

    Args:
        server: what all tunnels share.
    """

    __slots__ = ("_messages", "link")

    def __init__(self, server: TlsServer) -> None:
        self.link = TlsLink(server)
        self._messages = 0

    def start(self) -> MethodContinue:
        """The start, of version 0."""
        return self.link.start()

    def take(self, data: bytes, when_established: Callable[[], MethodStep]) -> bytes | MethodStep:
        """What the peer says inside the tunnel, empty where it acknowledges what we said; or what to send before.

        Args:
            data: the type data of a response.
            when_established: gives what to send once the handshake is complete, unless the peer has spoken already.

        Raises:
            MalformedPacket: fragments that don't fit, or another version of the method.
            LimitExceeded: too much.
        """
        if data and data[0] & _VERSION_BITS:
            raise MalformedPacket(f"version {data[0] & _VERSION_BITS} of the tunnel where 0 was offered")
        link = self.link
        message = link.take(data)
        if not isinstance(message, bytes):
            return message
        if link.established:
            return self._inner(message)
        try:
            step = link.handshake(message)
            if step is not None:
                return step
            said = self._inner(b"")
            return said or when_established()
        except SSL.Error as error:
            return link.refuse(link.explain(error))

    def _inner(self, message: bytes) -> bytes | MethodFailure:
        said = self.link.read(message)
        if isinstance(said, MethodFailure):
            return said
        if len(said) > MAX_INNER_BYTES:
            return MethodFailure(
                FailureCode.LIMIT_EXCEEDED,
                f"{len(said)} bytes at once inside the tunnel, at most {MAX_INNER_BYTES} are taken",
            )
        if message and not said:
            # TLS has its own business, such as the new keys of 1.3; that is no acknowledgement of anything.
            return MethodFailure(FailureCode.PROTOCOL_ERROR, "TLS record without data inside the tunnel")
        if said:
            self._messages += 1
        if self._messages > MAX_INNER_MESSAGES:
            return MethodFailure(
                FailureCode.LIMIT_EXCEEDED, f"more than {MAX_INNER_MESSAGES} messages inside the tunnel"
            )
        return said


def inner_step(
    step: Step,
    send: Callable[[bytes], MethodStep],
    authenticated: Callable[[Authenticated], MethodStep],
    failed: Callable[[MethodFailure], MethodStep],
) -> MethodStep:
    """From a step of the EAP conversation inside the tunnel to one of the method around it."""
    match step:
        case Send(packet):
            return send(packet)
        case NeedCredentials() | NeedPassword():
            return MethodAsk(step)
        case Authenticated():
            return authenticated(step)
        case Failed():
            return failed(MethodFailure(FailureCode(step.code), step.reason))
    raise WrongState("unknown step of an EAP conversation")
