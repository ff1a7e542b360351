"""The RADIUS client, sans-IO: asks servers to carry on EAP conversations, and finds another one where one is silent.

    gateway                                        server
    Access-Request, EAP-Response/Identity          ->
                                                   <- Access-Challenge, EAP-Request, State
    Access-Request, EAP-Response, State            ->      (to the same server)
                                                   <- Access-Accept, EAP-Success, MS-MPPE keys
                                                      or Access-Reject, EAP-Failure

A request is repeated as it was until its time is over (RFC 5080 section 2.2.1). An answer without
Message-Authenticator, or with two, is none: it could be made of another (CVE-2024-3596).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyrad.packet import AuthPacket, PacketError

from aaa.radius.constants import MICROSOFT, Attribute, Code, MicrosoftAttribute
from aaa.radius.wire import MalformedPacket, join_values, number_of, sound_packet, split_value
from core.secrets import Secret

MSK_BYTES = 64
_IDENTIFIERS = 256
_AUTHENTICATOR_BYTES = 16
_ANSWERS = frozenset((Code.ACCESS_ACCEPT, Code.ACCESS_REJECT, Code.ACCESS_CHALLENGE))
_VENDOR = struct.Struct("!IBB")
_HALVES = (16, 32)
"""How long a key is: MSCHAPv2's, and those of all others."""
_VENDOR_SPECIFIC = 26

Items = Sequence[tuple[Attribute, bytes]]


@dataclass(frozen=True, slots=True)
class Upstream:
    """A RADIUS server."""

    name: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class Verdict:
    """An authentic answer."""

    server: int
    """Which one's, by its place in the list."""
    code: Code
    eap: bytes
    state: bytes | None
    """To be brought back with the next request of the conversation."""
    msk: bytes = field(repr=False)
    """64 bytes, or empty where a key is missing or makes no sense."""
    user_name: str
    """Empty where the server does not say."""
    session_timeout_s: int | None


Done = Callable[[Verdict | None], None]
"""None: no server answered."""


@dataclass(slots=True)
class _Ask:
    items: Items
    eap: bytes
    servers: list[int]
    """That are still to be tried."""
    done: Done


@dataclass(slots=True)
class _Outstanding:
    ask: _Ask
    packet: Any
    data: bytes
    due: float
    repeated: int = 0


class RadiusRequester:
    """Requests that wait for their answers.

    Args:
        servers: in the order in which they are tried.
        timeouts_s: waits for an answer before each repetition and, the last one, before giving up.
        dead_s: how long a server that gave no answer is tried after all others.
        random: gives so many unpredictable bytes.
        send: sends a datagram to the server at this place.
    """

    def __init__(
        self,
        servers: Sequence[Upstream],
        timeouts_s: Sequence[float],
        dead_s: float,
        random: Callable[[int], bytes],
        send: Callable[[int, bytes], None],
    ) -> None:
        self._servers = tuple(servers)
        self._timeouts_s = tuple(timeouts_s)
        self._dead_s = dead_s
        self._random = random
        self._send = send
        self._dead_until = [float("-inf")] * len(self._servers)
        self._next_identifier = [0] * len(self._servers)
        self._outstanding: dict[tuple[int, int], _Outstanding] = {}

    def __len__(self) -> int:
        return len(self._outstanding)

    def ask(self, items: Items, eap: bytes, server: int | None, now: float, done: Done) -> None:
        """Send an Access-Request.

        Args:
            items: its attributes, but for EAP-Message and Message-Authenticator.
            eap: the peer's EAP packet.
            server: which has the conversation; None for one that begins, which any server may have.
            now: monotonic seconds.
            done: called once, with the answer.
        """
        servers = sorted(range(len(self._servers)), key=lambda index: self._dead_until[index] > now)
        self._try_next(_Ask(items, eap, [server] if server is not None else servers, done), now)

    def receive_datagram(self, server: int, data: bytes, now: float) -> bool:
        """A datagram from this server's address; False where it is no answer to what was asked."""
        try:
            raw, authenticators = sound_packet(data)
        except MalformedPacket:
            return False
        key = (server, raw[1])
        waiting = self._outstanding.get(key)
        if waiting is None or not authenticators or raw[0] not in _ANSWERS:
            return False
        try:
            reply = waiting.packet.CreateReply(packet=raw)
            if not waiting.packet.VerifyReply(reply, enforce_ma=True):
                return False
        except PacketError:
            return False
        del self._outstanding[key]
        self._dead_until[server] = now
        waiting.ask.done(_verdict(server, reply, waiting.packet.authenticator))
        return True

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do, monotonic seconds."""
        return min((waiting.due for waiting in self._outstanding.values()), default=None)

    def handle_timer(self, now: float) -> None:
        """Repeat what was not answered in time; after the last time, ask another server."""
        for key, waiting in list(self._outstanding.items()):
            if waiting.due > now:
                continue
            waiting.repeated += 1
            if waiting.repeated < len(self._timeouts_s):
                waiting.due = now + self._timeouts_s[waiting.repeated]
                self._send(key[0], waiting.data)
                continue
            del self._outstanding[key]
            self._dead_until[key[0]] = now + self._dead_s
            self._try_next(waiting.ask, now)

    def _try_next(self, ask: _Ask, now: float) -> None:
        while ask.servers:
            server = ask.servers.pop(0)
            identifier = self._free_identifier(server)
            if identifier is None:
                continue
            packet = self._encode(ask, self._servers[server], identifier)
            data = bytes(packet.RequestPacket())
            waiting = _Outstanding(ask, packet, data, now + self._timeouts_s[0])
            self._outstanding[server, identifier] = waiting
            self._send(server, data)
            return
        ask.done(None)

    def _free_identifier(self, server: int) -> int | None:
        """One that no request waits under; None where as many wait as there are."""
        for _ in range(_IDENTIFIERS):
            identifier = self._next_identifier[server]
            self._next_identifier[server] = (identifier + 1) % _IDENTIFIERS
            if (server, identifier) not in self._outstanding:
                return identifier
        return None

    def _encode(self, ask: _Ask, server: Upstream, identifier: int) -> Any:
        packet = AuthPacket(
            Code.ACCESS_REQUEST,
            identifier,
            server.secret.reveal(),
            self._random(_AUTHENTICATOR_BYTES),
        )
        packet.add_message_authenticator()
        for kind, value in ask.items:
            packet.setdefault(int(kind), []).append(value)
        packet[int(Attribute.EAP_MESSAGE)] = split_value(ask.eap)
        return packet


def _verdict(server: int, reply: Any, authenticator: bytes) -> Verdict:
    states = reply.get(int(Attribute.STATE), [])
    names = reply.get(int(Attribute.USER_NAME), [])
    return Verdict(
        server=server,
        code=Code(reply.code),
        eap=join_values(reply.get(int(Attribute.EAP_MESSAGE), [])),
        state=states[0] if len(states) == 1 else None,
        msk=_msk(reply, authenticator),
        user_name=names[0].decode("utf-8", "replace") if len(names) == 1 else "",
        session_timeout_s=number_of(reply.get(int(Attribute.SESSION_TIMEOUT), [])),
    )


def _msk(reply: Any, authenticator: bytes) -> bytes:
    """What the network access server receives with, and then what it sends with (RFC 2548 section 2.4)."""
    reply.request_authenticator = authenticator
    halves: dict[int, bytes] = {}
    for value in reply.get(_VENDOR_SPECIFIC, []):
        if len(value) < _VENDOR.size:
            continue
        vendor, kind, size = _VENDOR.unpack_from(value)
        if vendor != MICROSOFT or size != len(value) - 4 or kind in halves:
            continue
        try:
            halves[kind] = bytes(reply.SaltDecrypt(value[_VENDOR.size :]))
        except PacketError:
            continue
    receive = halves.get(MicrosoftAttribute.MPPE_RECV_KEY, b"")
    send = halves.get(MicrosoftAttribute.MPPE_SEND_KEY, b"")
    if len(receive) not in _HALVES or len(send) not in _HALVES:
        return b""
    return (receive + send).ljust(MSK_BYTES, b"\0")
