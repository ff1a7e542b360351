"""Disconnect-Requests and CoA-Requests (RFC 5176), sans-IO: a datagram and the time in, the answer out.

Demanded of every request: a correct Request Authenticator, a Message-Authenticator, an Event-Timestamp near
now. A repeated request gets the earlier answer, and is not carried out again: wherever it comes from, and for as
long as its timestamp would still be taken.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pyrad.dictionary import Dictionary
from pyrad.packet import CoAACK, CoANAK, CoAPacket, CoARequest, DisconnectACK, DisconnectNAK, DisconnectRequest

from aaa.radius.wire import MalformedPacket, number_of, sound_packet
from gateway.control.change import BadFilterRule, SessionChange, parse_filter_rules

TIMESTAMP_WINDOW_S = 300.0
"""RFC 5176 section 6.3."""
REMEMBERED_ANSWERS = 65_536
"""A backstop: an answer is forgotten when its request would be refused as too old, long before there are so many."""
MAX_ATTRIBUTES = 64

_DICTIONARY = """
ATTRIBUTE User-Name 1 string
ATTRIBUTE NAS-IP-Address 4 ipaddr
ATTRIBUTE NAS-Port 5 integer
ATTRIBUTE Framed-IP-Address 8 ipaddr
ATTRIBUTE Filter-Id 11 string
ATTRIBUTE Reply-Message 18 string
ATTRIBUTE State 24 octets
ATTRIBUTE Session-Timeout 27 integer
ATTRIBUTE Called-Station-Id 30 string
ATTRIBUTE Calling-Station-Id 31 string
ATTRIBUTE NAS-Identifier 32 string
ATTRIBUTE Proxy-State 33 octets
ATTRIBUTE Acct-Session-Id 44 string
ATTRIBUTE Acct-Terminate-Cause 49 integer
ATTRIBUTE Acct-Multi-Session-Id 50 string
ATTRIBUTE Event-Timestamp 55 date
ATTRIBUTE Message-Authenticator 80 octets
ATTRIBUTE NAS-Port-Id 87 string
ATTRIBUTE Chargeable-User-Identity 89 string
ATTRIBUTE NAS-Filter-Rule 92 octets
ATTRIBUTE NAS-IPv6-Address 95 ipv6addr
ATTRIBUTE Error-Cause 101 integer
"""


class ErrorCause(IntEnum):
    """RFC 5176 section 3.5."""

    RESIDUAL_CONTEXT_REMOVED = 201
    UNSUPPORTED_ATTRIBUTE = 401
    MISSING_ATTRIBUTE = 402
    NAS_IDENTIFICATION_MISMATCH = 403
    INVALID_REQUEST = 404
    INVALID_ATTRIBUTE_VALUE = 407
    SESSION_CONTEXT_NOT_FOUND = 503
    RESOURCES_UNAVAILABLE = 506


@dataclass(frozen=True, slots=True)
class SessionSelector:
    """What names the sessions that are meant; all that is given must match (RFC 5176 section 3)."""

    session_id: str | None
    chargeable_identity: str | None
    user_name: str | None
    framed_ipv4: str | None


Disconnect = Callable[[SessionSelector], int]
"""Ends the sessions that match and returns how many there were."""
Change = Callable[[SessionSelector, SessionChange], int]
"""Changes the sessions that match and returns how many there were; it holds for their packets when it returns."""

Drain = Callable[[bool], int | None]
"""Sends the gateway's clients to others, or takes them in again; returns how many will go, None where none can."""

_DRAINING = {b"drain": True, b"serve": False}
"""The Filter-Id of a CoA-Request that names no session, but the gateway as a whole."""
_IDENTIFIERS = {
    "Acct-Session-Id": "session_id",
    "Chargeable-User-Identity": "chargeable_identity",
    "User-Name": "user_name",
    "Framed-IP-Address": "framed_ipv4",
}
_OTHER_ALLOWED = frozenset(
    ("NAS-Identifier", "Event-Timestamp", "Message-Authenticator", "Proxy-State", "Reply-Message",
     "Acct-Terminate-Cause")
)  # fmt: skip
_CHANGES = frozenset(("NAS-Filter-Rule", "Session-Timeout", "Filter-Id"))
"""What only a CoA-Request may carry."""
_CODES = frozenset((bytes((DisconnectRequest,)), bytes((CoARequest,))))
_ANSWERS = {DisconnectRequest: (DisconnectACK, DisconnectNAK, "ended"), CoARequest: (CoAACK, CoANAK, "changed")}


class DynamicAuthorizationServer:
    """Answers Disconnect-Requests and CoA-Requests for one gateway.

    Args:
        nas_identifier: the gateway's name.
        secret: shared with those who may disconnect.
        disconnect: ends sessions.
        change: changes sessions.
        drain: sends all clients away, where there are other gateways.
    """

    def __init__(
        self,
        nas_identifier: str,
        secret: bytes,
        disconnect: Disconnect,
        change: Change,
        drain: Drain = lambda _: None,
    ) -> None:
        self._nas_identifier = nas_identifier
        self._secret = secret
        self._disconnect = disconnect
        self._change = change
        self._drain = drain
        self._dictionary = Dictionary(io.StringIO(_DICTIONARY))
        self._answers: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        """By Request Authenticator, which covers the whole request: until when to remember, and the answer."""
        self.dropped = 0
        """Requests that were not authentic, not timely, or not RADIUS."""

    def receive_datagram(self, data: bytes, unix_time_s: float) -> bytes | None:
        """The answer to a datagram; None where it deserves none."""
        request = self._authentic(data)
        if request is None:
            self.dropped += 1
            return None
        self._forget(unix_time_s)
        earlier = self._answers.get(request.authenticator)
        if earlier is not None:
            return earlier[1]
        timestamp = number_of(request.get(55, []))
        if timestamp is None or abs(timestamp - unix_time_s) > TIMESTAMP_WINDOW_S:
            self.dropped += 1
            return None
        cause, count = self._carry_out(request)
        answer = self._answer(request, cause, count)
        self._answers[request.authenticator] = unix_time_s + 2 * TIMESTAMP_WINDOW_S, answer
        return answer

    def _forget(self, unix_time_s: float) -> None:
        while self._answers:
            until, _ = next(iter(self._answers.values()))
            if until >= unix_time_s and len(self._answers) < REMEMBERED_ANSWERS:
                return
            self._answers.popitem(last=False)

    def _authentic(self, data: bytes) -> Any | None:
        """The request, or None: lengths and attribute count before decoding, both authenticators after it."""
        if data[:1] not in _CODES:
            return None
        try:
            packet, authenticators = sound_packet(data, max_attributes=MAX_ATTRIBUTES)
        except MalformedPacket:
            return None
        if not authenticators:
            return None
        try:
            request = CoAPacket(packet=packet, secret=self._secret, dict=self._dictionary)
            if not request.VerifyCoARequest() or not request.verify_message_authenticator():
                return None
        except Exception:
            return None
        return request

    def _carry_out(self, request: Any) -> tuple[ErrorCause | None, int]:
        given: dict[str, str] = {}
        for code in request:
            name = self._name_of(code)
            if name in _IDENTIFIERS:
                try:
                    values = request[name]
                except Exception:
                    return ErrorCause.INVALID_REQUEST, 0
                # pyrad gives text that is not UTF-8 as bytes.
                if len(values) != 1 or not isinstance(values[0], str) or not values[0]:
                    return ErrorCause.INVALID_REQUEST, 0
                given[_IDENTIFIERS[name]] = values[0]
            elif name == "NAS-Identifier":
                if request[code] != [self._nas_identifier.encode()]:
                    return ErrorCause.NAS_IDENTIFICATION_MISMATCH, 0
            elif name in _CHANGES and request.code == CoARequest:
                continue
            elif name not in _OTHER_ALLOWED:
                return ErrorCause.UNSUPPORTED_ATTRIBUTE, 0
        if not given:
            return self._carry_out_on_gateway(request)
        fields = dict.fromkeys(("session_id", "chargeable_identity", "user_name", "framed_ipv4"))
        selector = SessionSelector(**{**fields, **given})
        if request.code == CoARequest:
            change = _session_change(request)
            if isinstance(change, ErrorCause):
                return change, 0
            count = self._change(selector, change)
        else:
            count = self._disconnect(selector)
        return (None, count) if count else (ErrorCause.SESSION_CONTEXT_NOT_FOUND, 0)

    def _carry_out_on_gateway(self, request: Any) -> tuple[ErrorCause | None, int]:
        """No session is named, so the gateway itself is meant; it has to be, by its name."""
        filters = request.get(11, [])
        if request.code != CoARequest or len(filters) != 1 or filters[0] not in _DRAINING or 32 not in request:
            return ErrorCause.MISSING_ATTRIBUTE, 0
        if 27 in request or 92 in request:
            return ErrorCause.INVALID_REQUEST, 0
        count = self._drain(_DRAINING[filters[0]])
        return (None, count) if count is not None else (ErrorCause.RESOURCES_UNAVAILABLE, 0)

    def _name_of(self, code: object) -> str | None:
        """None for an attribute that the dictionary does not have, a vendor's among them."""
        index = self._dictionary.attrindex
        return index.GetBackward(code) if index.HasBackward(code) else None

    @staticmethod
    def _answer(request: Any, cause: ErrorCause | None, count: int) -> bytes:
        reply = request.CreateReply(message_authenticator=True)
        acknowledged, refused, verb = _ANSWERS[request.code]
        reply.code = acknowledged if cause is None else refused
        if cause is not None:
            reply["Error-Cause"] = int(cause)
        else:
            reply["Reply-Message"] = f"{count} {'session' if count == 1 else 'sessions'} {verb}"
        if "Proxy-State" in request:
            # Whatever proxies the request came through find their way back by these (RFC 5176 section 3.1).
            reply["Proxy-State"] = request["Proxy-State"]
        return bytes(reply.ReplyPacket())


def _session_change(request: Any) -> SessionChange | ErrorCause:
    """All of it is sound, or nothing is changed (RFC 5176 section 2.2)."""
    rules, messages = request.get(11, []), request.get(18, [])
    timeout_s = number_of(request.get(27, []))
    if (27 in request and timeout_s is None) or len(rules) > 1:
        return ErrorCause.INVALID_ATTRIBUTE_VALUE
    try:
        change = SessionChange(
            networks=parse_filter_rules(request[92]) if 92 in request else None,
            session_timeout_s=timeout_s,
            rule=rules[0].decode() if rules else None,
            reason=b"".join(messages).decode("utf-8", "replace"),
        )
    except (BadFilterRule, UnicodeDecodeError):
        return ErrorCause.INVALID_ATTRIBUTE_VALUE
    return ErrorCause.MISSING_ATTRIBUTE if change.is_empty else change
