"""A network access server's RADIUS, made by hand from the RFCs and not by what the product uses: requests, answers
checked in every respect, keys decrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

USER_NAME, USER_PASSWORD, FRAMED_IP, FILTER_ID, STATE, CLASS, VENDOR = 1, 2, 8, 11, 24, 25, 26
SESSION_TIMEOUT, CALLING_STATION, NAS_IDENTIFIER, PROXY_STATE, STATUS_TYPE = 27, 31, 32, 33, 40
INPUT_OCTETS, OUTPUT_OCTETS, SESSION_ID, TERMINATE_CAUSE, INPUT_GIGAWORDS = 42, 43, 44, 49, 52
PORT_TYPE, EAP, MAC, INTERIM, FRAMED_POOL, FILTER_RULE = 61, 79, 80, 85, 88, 92
ACCESS_REQUEST, ACCEPT, REJECT, ACCOUNTING, ACCOUNTED, CHALLENGE, STATUS = 1, 2, 3, 4, 5, 11, 12
SEND_KEY, RECV_KEY = 16, 17
_MICROSOFT = struct.pack("!I", 311)

Attribute = tuple[int, bytes]


def encode(items: Sequence[Attribute]) -> bytes:
    """Attributes on the wire."""
    return b"".join(bytes((kind, 2 + len(value))) + value for kind, value in items)


def decode(data: bytes) -> list[Attribute]:
    """The attributes of a packet, in order."""
    found, at = [], 20
    while at < len(data):
        found.append((data[at], data[at + 2 : at + data[at + 1]]))
        at += data[at + 1]
    return found


def eap_attributes(packet: bytes) -> list[Attribute]:
    """An EAP packet in as many attributes as it needs."""
    return [(EAP, packet[at : at + 253]) for at in range(0, len(packet), 253)] or [(EAP, b"")]


def packet(
    code: int,
    secret: bytes,
    items: Sequence[Attribute],
    *,
    identifier: int = 1,
    authenticator: bytes = b"",
    macs: int = 1,
) -> bytes:
    """A request: Message-Authenticator in front, as often as `macs` says; for accounting the authenticator is the
    hash of all of it (RFC 2866 section 3).
    """
    hashed = code == ACCOUNTING
    authenticator = bytes(16) if hashed else authenticator or os.urandom(16)
    body = encode([*[(MAC, bytes(16))] * macs, *items])
    header = bytes((code, identifier)) + struct.pack("!H", 20 + len(body))
    mac = hmac.digest(secret, header + authenticator + body, "md5")
    body = encode([*[(MAC, mac)] * macs, *items])
    if hashed:
        authenticator = hashlib.md5(header + authenticator + body + secret).digest()
    return header + authenticator + body


@dataclass(frozen=True)
class Answer:
    """An answer that was found to be from the server, and to the request."""

    code: int
    items: list[Attribute]
    msk: bytes = field(default=b"", repr=False)

    def values(self, kind: int) -> list[bytes]:
        """All of an attribute."""
        return [value for other, value in self.items if other == kind]

    @property
    def eap(self) -> bytes:
        """The EAP packet."""
        return b"".join(self.values(EAP))


def read_answer(request: bytes, answer: bytes, secret: bytes) -> Answer:
    """Check an answer and take it apart; AssertionError where anything is wrong with it."""
    assert answer[1] == request[1], "another identifier"
    assert struct.unpack_from("!H", answer, 2)[0] == len(answer) <= 4096
    items = decode(answer)
    body = answer[20:]
    assert answer[4:20] == hashlib.md5(answer[:4] + request[4:20] + body + secret).digest(), "Response Authenticator"
    macs = [at for at, (kind, _) in enumerate(items) if kind == MAC]
    if request[0] == ACCOUNTING:
        assert macs == [], "clients do not agree on how it would be computed"
    else:
        assert macs == [0], "one Message-Authenticator, in front of all others"
        zeroed = answer[:4] + request[4:20] + body[:2] + bytes(16) + body[18:]
        assert items[0][1] == hmac.digest(secret, zeroed, "md5"), "Message-Authenticator"
    assert [item for item in items if item[0] == PROXY_STATE] == [
        item for item in decode(request) if item[0] == PROXY_STATE
    ]
    return Answer(answer[0], items, _msk(items, request[4:20], secret))


def _msk(items: Sequence[Attribute], authenticator: bytes, secret: bytes) -> bytes:
    keys: dict[int, bytes] = {}
    salts = []
    for kind, value in items:
        if kind == VENDOR and value[:4] == _MICROSOFT:
            assert value[5] == len(value) - 4
            salts.append(value[6:8])
            keys[value[4]] = reveal_key(value[6:], authenticator, secret)
    assert len(set(salts)) == len(salts), "a salt that comes twice"
    assert all(salt[0] & 0x80 for salt in salts)
    return keys[RECV_KEY] + keys[SEND_KEY] if keys else b""


def reveal_key(value: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """Decrypt an MS-MPPE key (RFC 2548 section 2.4.2)."""
    plain, last = b"", authenticator + value[:2]
    for at in range(2, len(value), 16):
        block = value[at : at + 16]
        plain += bytes(a ^ b for a, b in zip(block, hashlib.md5(secret + last).digest(), strict=True))
        last = block
    assert not any(plain[1 + plain[0] :]), "padding"
    return plain[1 : 1 + plain[0]]


def answer_to(
    request: bytes,
    code: int,
    secret: bytes,
    items: Sequence[Attribute] = (),
    *,
    msk: bytes = b"",
    macs: int = 1,
    identifier: int | None = None,
) -> bytes:
    """What a server answers: Message-Authenticator, the attributes, and keys where there is an MSK."""
    keys: list[Attribute] = []
    if msk:
        half = len(msk) // 2
        for kind, salt, key in ((RECV_KEY, b"\x80\x01", msk[:half]), (SEND_KEY, b"\x80\x02", msk[half:])):
            hidden = salt + hide_key(key, salt, request[4:20], secret)
            keys.append((VENDOR, _MICROSOFT + bytes((kind, 2 + len(hidden))) + hidden))
    attributes = [*[(MAC, bytes(16))] * macs, *items, *keys]
    head = bytes((code, request[1] if identifier is None else identifier))
    head += struct.pack("!H", 20 + len(encode(attributes)))
    mac = hmac.digest(secret, head + request[4:20] + encode(attributes), "md5")
    body = encode([*[(MAC, mac)] * macs, *items, *keys])
    return head + hashlib.md5(head + request[4:20] + body + secret).digest() + body


def hide_key(key: bytes, salt: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """Encrypt an MS-MPPE key (RFC 2548 section 2.4.2), without its salt."""
    plain = bytes((len(key),)) + key
    plain += bytes(-len(plain) % 16)
    hidden, last = b"", authenticator + salt
    for at in range(0, len(plain), 16):
        pad = hashlib.md5(secret + last).digest()
        last = bytes(a ^ b for a, b in zip(plain[at : at + 16], pad, strict=True))
        hidden += last
    return hidden


class Nas:
    """Carries EAP packets of one peer to a server, as an access point does.

    Args:
        ask: sends a request and brings the answer's datagram; None where there is none.
        secret: shared with the server.
        items: more attributes of every request.
    """

    def __init__(self, ask: Callable[[bytes], bytes | None], secret: bytes, items: Sequence[Attribute] = ()) -> None:
        self.ask = ask
        self._secret = secret
        self._items = list(items)
        self._state: bytes | None = None
        self._identifier = 0
        self.last_request = b""

    def carry(self, eap: bytes, *items: Attribute) -> Answer:
        """One Access-Request with an EAP packet, and its answer."""
        self.last_request = self.request(eap, *items)
        answer = self.ask(self.last_request)
        assert answer is not None, "no answer"
        read = read_answer(self.last_request, answer, self._secret)
        states = read.values(STATE)
        self._state = states[0] if read.code == CHALLENGE else None
        assert len(states) == (read.code == CHALLENGE)
        return read

    def request(self, eap: bytes, *items: Attribute) -> bytes:
        """The Access-Request that would be the next."""
        self._identifier = (self._identifier + 1) & 0xFF
        state = [(STATE, self._state)] if self._state is not None else []
        return packet(
            ACCESS_REQUEST,
            self._secret,
            [*self._items, *eap_attributes(eap), *state, *items],
            identifier=self._identifier,
        )

    def sign_in(self, first: bytes, respond: Callable[[bytes], bytes | None]) -> Answer:
        """To the end: the answer that is no challenge.

        Args:
            first: the EAP-Response/Identity, or nothing for the server to ask.
            respond: the peer.
        """
        answer = self.carry(first)
        while answer.code == CHALLENGE:
            response = respond(answer.eap)
            assert response is not None
            answer = self.carry(response)
        respond(answer.eap)
        return answer
