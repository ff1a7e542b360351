"""A request that has been found authentic, and the answers to it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from pyrad.packet import AcctPacket, AuthPacket, PacketError

from aaa.radius.constants import MICROSOFT, Attribute, Code, MicrosoftAttribute
from aaa.radius.wire import MalformedPacket, join_values, number_of, sound_packet, split_value
from core.secrets import Secret

HALF_MSK_BYTES = 32
_SALT_BYTES = 2


class Service(Enum):
    """What a port is for."""

    AUTHENTICATION = "authentication"
    ACCOUNTING = "accounting"


_CODES = {
    Service.AUTHENTICATION: frozenset((Code.ACCESS_REQUEST, Code.STATUS_SERVER)),
    Service.ACCOUNTING: frozenset((Code.ACCOUNTING_REQUEST, Code.STATUS_SERVER)),
}


class NotAuthentic(Exception):
    """Not from one who has the secret, or nothing shows that it is; the packet is dropped without an answer."""


class Request:
    """One request of a network access server."""

    __slots__ = ("_packet",)

    def __init__(self, packet: Any) -> None:
        self._packet = packet

    @classmethod
    def open(cls, data: bytes, secret: Secret, service: Service) -> Request:
        """Check a datagram and take it apart.

        Of an Access-Request and a Status-Server only the Message-Authenticator says who it is from (RFC 3579
        section 3.2, RFC 5997 section 3), so it has to be there; of an Accounting-Request the Request Authenticator
        does (RFC 2866 section 3), and a Message-Authenticator beside it has to be right as well. Both are compared in
        constant time.

        Raises:
            MalformedPacket: not RADIUS, or no request for this service.
            NotAuthentic: it is not from one who has the secret.
        """
        raw, authenticators = sound_packet(data)
        if raw[0] not in _CODES[service]:
            raise MalformedPacket(f"code {raw[0]} on the port for {service.value}")
        kind = AuthPacket if service is Service.AUTHENTICATION else AcctPacket
        try:
            packet = kind(packet=raw, secret=secret.reveal())
        except PacketError as error:
            raise MalformedPacket(str(error)) from None
        if raw[0] == Code.ACCOUNTING_REQUEST:
            if not packet.VerifyAcctRequest():
                raise NotAuthentic("the Request Authenticator is not made with this client's secret")
        elif not authenticators:
            raise NotAuthentic("no Message-Authenticator")
        if authenticators and not packet.verify_message_authenticator():
            raise NotAuthentic("the Message-Authenticator is not made with this client's secret")
        return cls(packet)

    @property
    def code(self) -> int:
        """A `Code`."""
        return int(self._packet.code)

    @property
    def identifier(self) -> int:
        """By which the client knows the answer."""
        return int(self._packet.id)

    @property
    def authenticator(self) -> bytes:
        """The Request Authenticator: the same in a repetition, another one in every other request."""
        return bytes(self._packet.authenticator)

    def values(self, kind: Attribute) -> list[bytes]:
        """All values of an attribute, in order."""
        return list(self._packet.get(int(kind), []))

    def number(self, kind: Attribute) -> int | None:
        """The value of an attribute that is a number and there once."""
        return number_of(self.values(kind))

    def text(self, kind: Attribute) -> str:
        """The value of an attribute that is text and there once; empty where it is not. It may not be printable."""
        values = self.values(kind)
        return values[0].decode("utf-8", "replace") if len(values) == 1 else ""

    @property
    def eap(self) -> bytes | None:
        """The EAP packet, joined; empty is a request to ask for the identity (RFC 3579 section 2.1)."""
        values = self.values(Attribute.EAP_MESSAGE)
        return join_values(values) if values else None

    def answer(
        self, code: Code, attributes: Iterable[tuple[Attribute, bytes]] = (), *, eap: bytes = b"", msk: bytes = b""
    ) -> bytes:
        """Encode an answer, with the Message-Authenticator first and the request's Proxy-States behind it.

        Accounting has none: RFC 3579 says nothing of it there, and of two common clients one computes it over the
        Request Authenticator (strongSwan), the other over zeros (FreeRADIUS).

        Args:
            code: of the answer.
            attributes: in order; a value has at most 253 bytes.
            eap: the EAP packet.
            msk: of which the client gets the first 64 bytes, encrypted (RFC 2548 section 2.4).
        """
        reply = self._packet.CreateReply()
        reply.code = int(code)
        if self.code != Code.ACCOUNTING_REQUEST:
            reply.add_message_authenticator()
        for kind, value in attributes:
            reply.setdefault(int(kind), []).append(value)
        if eap:
            reply[int(Attribute.EAP_MESSAGE)] = split_value(eap)
        if msk:
            # What the network access server receives with is the first half.
            receive, send = _hidden(reply, msk[:HALF_MSK_BYTES], msk[HALF_MSK_BYTES : 2 * HALF_MSK_BYTES])
            reply[MICROSOFT, int(MicrosoftAttribute.MPPE_RECV_KEY)] = [receive]
            reply[MICROSOFT, int(MicrosoftAttribute.MPPE_SEND_KEY)] = [send]
        return bytes(reply.ReplyPacket())


def _hidden(reply: Any, first: bytes, second: bytes) -> tuple[bytes, bytes]:
    """Two keys, encrypted. Under one salt the two ciphertexts would tell how the keys differ, so it is never the same
    (RFC 2548 section 2.4.2).
    """
    hidden = bytes(reply.SaltCrypt(first))
    while True:
        other = bytes(reply.SaltCrypt(second))
        if other[:_SALT_BYTES] != hidden[:_SALT_BYTES]:
            return hidden, other
