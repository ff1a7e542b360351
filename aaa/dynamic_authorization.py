"""RADIUS dynamic authorization (RFC 5176), the client's side: tells a gateway to end sessions, or to change them.

    Disconnect-Request   NAS-Identifier            the gateway's name
                         Chargeable-User-Identity  the device, for all its sessions; or
                         Acct-Session-Id           one session
                         Event-Timestamp           against replay
                         Message-Authenticator     always
    CoA-Request          the same, and
                         Filter-Id                 the rule that decided
                         NAS-Filter-Rule           what is reached (RFC 4849); none: the gateway's list
                         Session-Timeout           seconds that are left
                         Reply-Message             why

pyrad encodes, decodes and computes the authenticators. By itself it would take an answer without
Message-Authenticator, and cuts an attribute that runs past the packet's end: both are refused here first.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from pyrad import packet as radius

from aaa.interface import Network
from aaa.radius.constants import Attribute
from aaa.radius.filter_rules import filter_rules
from aaa.radius.wire import MAX_PACKET_BYTES, MAX_VALUE_BYTES, MalformedPacket, number_of, sound_packet
from core.errors import OstiaryError
from core.secrets import Secret

TIMEOUTS_S = (0.2, 0.4, 0.8)
"""Waits for an answer before each retransmission and, the last one, before giving up."""

SESSION_CONTEXT_NOT_FOUND = 503
"""Error-Cause: the gateway has no such session, so there is nothing left to do."""

_LONGEST_TEXT = MAX_VALUE_BYTES


def control_secret_name(gateway: str) -> str:
    """The stored secret that a gateway shares with whoever sends it Disconnect-Requests."""
    return f"gateway:{gateway}"


class NoAnswer(OstiaryError):
    """The gateway did not answer, or nothing that could be believed."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway, as a receiver of requests."""

    name: str
    address: str
    port: int
    secret: Secret


@dataclass(frozen=True, slots=True)
class Selector:
    """Which sessions: all of a device, or the one of this id. Exactly one of the two is given."""

    device_id: str | None = None
    session_id: str | None = None

    def __post_init__(self) -> None:
        if (self.device_id is None) == (self.session_id is None):
            raise ValueError("a request names a device or a session")


class WholeGateway(Enum):
    """What a gateway is told that is about none of its sessions: the Filter-Id of a CoA-Request that names none."""

    DRAIN = "drain"
    """Send clients to other gateways."""
    SERVE = "serve"
    """Take them in again."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a session gets from now on."""

    rule: str
    networks: tuple[Network, ...]
    """What it may reach; empty is the gateway's own list."""
    session_timeout_s: int
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said."""

    acknowledged: bool
    """The sessions are gone, or changed."""
    error_cause: int | None
    """Of a refusal (RFC 5176 section 3.5), where it gave one."""
    text: str
    """Its Reply-Message, printable; ours says how many sessions it was."""

    @property
    def settled(self) -> bool:
        """Whether no session is left there that the request meant."""
        return self.acknowledged or self.error_cause == SESSION_CONTEXT_NOT_FOUND


class DynamicRequest:
    """One request: encoded once, so that a retransmission is the same datagram."""

    def __init__(
        self,
        peer: Peer,
        about: Selector | WholeGateway,
        change: Change | None = None,
        *,
        identifier: int,
        timestamp: int,
    ) -> None:
        """Encode.

        Args:
            peer: whom it is for.
            about: which sessions; or all of the gateway, and then what it is to do.
            change: what becomes of the sessions; None ends them.
            identifier: 0 to 255; the answer repeats it.
            timestamp: seconds since 1970.
        """
        ends = change is None and isinstance(about, Selector)
        code = radius.DisconnectRequest if ends else radius.CoARequest
        packet = radius.CoAPacket(code, identifier, peer.secret.reveal())
        packet.add_message_authenticator()
        packet[int(Attribute.NAS_IDENTIFIER)] = [peer.name.encode()]
        if isinstance(about, WholeGateway):
            packet[int(Attribute.FILTER_ID)] = [about.value.encode()]
        elif about.device_id is not None:
            packet[int(Attribute.CHARGEABLE_USER_IDENTITY)] = [about.device_id.encode()]
        elif about.session_id is not None:
            packet[int(Attribute.ACCT_SESSION_ID)] = [about.session_id.encode()]
        packet[int(Attribute.EVENT_TIMESTAMP)] = [struct.pack("!I", timestamp)]
        if change is not None:
            for kind, values in _change_attributes(change):
                packet[int(kind)] = values
        self._acknowledged, self._refused = _ANSWERS[code]
        self._packet = packet
        self.data: bytes = packet.RequestPacket()

    def read_answer(self, data: bytes) -> Answer | None:
        """The answer in a datagram; None where it is none to this request, or not from who has the secret.

        Both authenticators are compared in constant time.
        """
        packet = _checked(data)
        if packet is None:
            return None
        if packet[0] not in (self._acknowledged, self._refused):
            return None
        try:
            reply = self._packet.CreateReply(packet=packet)
            if not self._packet.VerifyReply(reply):
                return None
        except (radius.PacketError, ValueError, struct.error):
            return None
        return Answer(
            acknowledged=reply.code == self._acknowledged,
            error_cause=number_of(reply.get(int(Attribute.ERROR_CAUSE), [])),
            text=_text(reply.get(int(Attribute.REPLY_MESSAGE), [])),
        )


def ask(
    peer: Peer,
    about: Selector | WholeGateway,
    change: Change | None = None,
    *,
    timeouts_s: Sequence[float] = TIMEOUTS_S,
) -> Answer:
    """Send a Disconnect-Request or, with a change, a CoA-Request; wait for the answer, asking again after each wait.

    Raises:
        NoAnswer: the gateway can't be reached, or kept silent for the sum of the waits.
    """
    request = DynamicRequest(peer, about, change, identifier=secrets.randbelow(256), timestamp=int(time.time()))
    family = socket.AF_INET6 if ":" in peer.address else socket.AF_INET
    problem = "no answer"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as channel:
            # A connected socket takes datagrams from this address and port only.
            channel.connect((peer.address, peer.port))
            for timeout_s in timeouts_s:
                deadline = time.monotonic() + timeout_s
                try:
                    channel.send(request.data)
                    answer = _wait(channel, request, deadline)
                except ConnectionRefusedError:
                    # Nobody listens there now; a gateway that restarts will, before long.
                    problem = "nobody listens there"
                    time.sleep(max(deadline - time.monotonic(), 0.0))
                    continue
                if answer is not None:
                    return answer
    except OSError as error:
        problem = error.strerror or str(error)
    raise NoAnswer(
        f"gateway {peer.name} at {peer.address} port {peer.port}: {problem}",
        fix="check that the gateway runs and that gateway.control_address can be reached from here",
    )


def _wait(channel: socket.socket, request: DynamicRequest, deadline: float) -> Answer | None:
    while (left := deadline - time.monotonic()) > 0:
        channel.settimeout(left)
        try:
            data = channel.recv(MAX_PACKET_BYTES + 1)
        except TimeoutError:
            return None
        answer = request.read_answer(data)
        if answer is not None:
            return answer
    return None


def _change_attributes(change: Change) -> Iterator[tuple[Attribute, list[bytes]]]:
    yield Attribute.FILTER_ID, [change.rule.encode()[:MAX_VALUE_BYTES]]
    yield Attribute.SESSION_TIMEOUT, [struct.pack("!I", change.session_timeout_s)]
    if change.networks:
        yield Attribute.NAS_FILTER_RULE, filter_rules(change.networks)
    if change.reason:
        yield Attribute.REPLY_MESSAGE, [_cut(change.reason)]


def _cut(text: str) -> bytes:
    """As much of a text as fits into an attribute, in whole characters."""
    return text.encode()[:MAX_VALUE_BYTES].decode("utf-8", "ignore").encode()


_ANSWERS = {
    radius.DisconnectRequest: (radius.DisconnectACK, radius.DisconnectNAK),
    radius.CoARequest: (radius.CoAACK, radius.CoANAK),
}


def _checked(data: bytes) -> bytes | None:
    """The packet, where its lengths fit and it has a Message-Authenticator."""
    try:
        packet, authenticators = sound_packet(data)
    except MalformedPacket:
        return None
    return packet if authenticators else None


def _text(values: Sequence[bytes]) -> str:
    text = b"".join(values)[:_LONGEST_TEXT].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "?" for character in text)
