"""Disconnect-Requests, byte by byte and against the gateway's own server; no socket."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.dynamic_authorization import Answer, Change, DynamicRequest, Peer, Selector
from core.secrets import Secret
from gateway.control.change import SessionChange
from gateway.control.dynamic_authorization import DynamicAuthorizationServer, SessionSelector

SECRET = b"a shared secret of thirty-two bytes"
PEER = Peer("gateway-1", "192.0.2.1", 3799, Secret(SECRET))
DEVICE = "0b8e7a3c-5d0e-4a57-9d0b-3c1f0a2b4c5d"
NOW = 1_790_000_000


def _request(selector: Selector | None = None) -> DynamicRequest:
    return DynamicRequest(PEER, selector or Selector(device_id=DEVICE), identifier=7, timestamp=NOW)


def _attribute(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value) + 2)) + value


def _answer(
    request: bytes,
    *,
    code: int = 41,
    identifier: int = 7,
    attributes: bytes = b"",
    secret: bytes = SECRET,
    authenticators: int = 1,
) -> bytes:
    """An answer made by hand, by RFC 5176 section 3.3 and RFC 3579 section 3.2."""
    body = _attribute(80, bytes(16)) * authenticators + attributes
    header = struct.pack("!BBH", code, identifier, 20 + len(body))
    request_authenticator = request[4:20]
    if authenticators:
        mac = hmac.new(secret, header + request_authenticator + body, "md5").digest()
        body = _attribute(80, mac) + body[18:]
    digest = hashlib.md5(header + request_authenticator + body + secret, usedforsecurity=False).digest()
    return header + digest + body


def test_the_request_on_the_wire() -> None:
    data = _request().data
    code, identifier, length = struct.unpack_from("!BBH", data)
    assert (code, identifier, length) == (40, 7, len(data))
    mac_attribute, rest = data[20:38], data[38:]
    assert mac_attribute[:2] == bytes((80, 18)), "Message-Authenticator comes first"
    assert rest == _attribute(32, b"gateway-1") + _attribute(89, DEVICE.encode()) + _attribute(
        55, struct.pack("!I", NOW)
    )
    # RFC 5176 section 3.3: computed with an authenticator of zeros, then MD5 over the packet and the secret.
    zeroed = data[:4] + bytes(16) + bytes((80, 18)) + bytes(16) + rest
    assert mac_attribute[2:] == hmac.new(SECRET, zeroed, "md5").digest()
    assert data[4:20] == hashlib.md5(data[:4] + bytes(16) + data[20:] + SECRET, usedforsecurity=False).digest()
    assert _request().data == data, "the same request is the same datagram"


def test_a_request_for_one_session() -> None:
    data = _request(Selector(session_id="abc")).data
    assert _attribute(44, b"abc") in data
    assert _attribute(89, DEVICE.encode()) not in data


def test_a_selector_names_one_thing() -> None:
    with pytest.raises(ValueError, match="device or a session"):
        Selector()
    with pytest.raises(ValueError, match="device or a session"):
        Selector(device_id="a", session_id="b")


def test_answers() -> None:
    request = _request()
    assert request.read_answer(_answer(request.data)) == Answer(True, None, "")
    text = _answer(request.data, attributes=_attribute(18, b"2 ended"))
    assert request.read_answer(text) == Answer(True, None, "2 ended")
    nothing = request.read_answer(_answer(request.data, code=42, attributes=_attribute(101, struct.pack("!I", 503))))
    assert nothing == Answer(False, 503, "")
    assert nothing.settled
    other = request.read_answer(_answer(request.data, code=42, attributes=_attribute(101, struct.pack("!I", 403))))
    assert other == Answer(False, 403, "")
    assert not other.settled
    assert not Answer(False, None, "").settled
    # Padding after the length is not part of the packet (RFC 2865 section 3).
    assert request.read_answer(_answer(request.data) + b"\0\0") == Answer(True, None, "")
    # What it says is shown, so it has to print.
    assert request.read_answer(_answer(request.data, attributes=_attribute(18, b"a\x1b[2J\xff"))) == Answer(
        True, None, "a?[2J\ufffd"
    )


@pytest.mark.parametrize(
    "forged",
    [
        lambda request: b"",
        lambda request: _answer(request)[:19],
        lambda request: _answer(request, identifier=8),
        lambda request: _answer(request, code=44),
        lambda request: _answer(request, code=40),
        lambda request: _answer(request, secret=b"another secret"),
        lambda request: _answer(request, authenticators=0),
        lambda request: _answer(request, authenticators=2),
        lambda request: _answer(bytes(len(request))),
        lambda request: _answer(request, attributes=b"\x12\x01"),
        lambda request: _answer(request, attributes=b"\x12\x00"),
        lambda request: _answer(request, attributes=b"\x12"),
        lambda request: _answer(request, attributes=b"\x12\x40abc"),
        lambda request: _answer(request)[:2] + b"\xff\xff" + _answer(request)[4:],
        lambda request: _answer(request) + bytes(5000),
    ],
    ids=range(15),
)
def test_what_is_no_answer(forged: Callable[[bytes], bytes]) -> None:
    request = _request()
    assert request.read_answer(forged(request.data)) is None


def test_an_answer_without_message_authenticator_is_refused_though_its_md5_is_right() -> None:
    """pyrad alone would take it."""
    request = _request()
    data = _answer(request.data, authenticators=0)
    reply = request._packet.CreateReply(packet=data)
    assert request._packet.VerifyReply(reply, enforce_ma=True)
    assert request.read_answer(data) is None


@given(st.integers(0), st.integers(1, 255))
def test_every_changed_byte_is_noticed(position: int, change: int) -> None:
    request = _request()
    data = bytearray(_answer(request.data, attributes=_attribute(18, b"1 ended")))
    data[position % len(data)] ^= change
    assert request.read_answer(bytes(data)) is None


@given(st.binary(max_size=200))
def test_no_datagram_raises(data: bytes) -> None:
    request = _request()
    assert request.read_answer(data) is None
    assert request.read_answer(_answer(request.data)[:4] + data) is None


def _never(*_: object) -> int:
    raise AssertionError("not asked for")


CHANGES = [
    (Change("quarantine", (IPv4Network("10.1.0.80/32"),), 3600, "disk encryption is off"), ("10.1.0.80/32",)),
    (
        Change("staff", tuple(IPv4Network(f"10.{number}.0.0/16") for number in range(40)), 1, ""),
        tuple(f"10.{number}.0.0/16" for number in range(40)),
    ),
    (Change("all", (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")), 60, "ü" * 300), ("0.0.0.0/0", "::/0")),
    (Change("own list", (), 60, ""), None),
]


@pytest.mark.parametrize(("change", "networks"), CHANGES)
def test_a_change_arrives_whole(change: Change, networks: tuple[str, ...] | None) -> None:
    arrived: list[tuple[str | None, SessionChange]] = []

    def taken(selector: SessionSelector, change: SessionChange) -> int:
        arrived.append((selector.session_id, change))
        return 1

    server = DynamicAuthorizationServer("gateway-1", SECRET, lambda _: 0, taken)
    request = DynamicRequest(PEER, Selector(session_id="s-1"), change, identifier=9, timestamp=NOW)
    answer = server.receive_datagram(request.data, NOW)
    assert answer is not None
    assert request.read_answer(answer) == Answer(True, None, "1 session changed")
    ((session_id, got),) = arrived
    assert session_id == "s-1"
    assert (None if got.networks is None else tuple(str(n) for n in got.networks)) == networks
    assert (got.rule, got.session_timeout_s) == (change.rule, change.session_timeout_s)
    assert change.reason.startswith(got.reason)


@pytest.mark.parametrize("ended", [0, 1, 3])
def test_with_the_gateways_server(ended: int) -> None:
    asked: list[SessionSelector] = []

    def disconnect(selector: SessionSelector) -> int:
        asked.append(selector)
        return ended

    server = DynamicAuthorizationServer("gateway-1", SECRET, disconnect, _never)
    request = _request()
    answer = server.receive_datagram(request.data, NOW + 3)
    assert answer is not None
    assert [selector.chargeable_identity for selector in asked] == [DEVICE]
    read = request.read_answer(answer)
    assert read == (
        Answer(True, None, f"{ended} {'session' if ended == 1 else 'sessions'} ended")
        if ended
        else Answer(False, 503, "")
    )
    assert server.receive_datagram(request.data, NOW + 3) == answer
    assert len(asked) == 1, "a retransmission is answered, not carried out again"


def test_another_gateway_says_that_it_is_not_meant() -> None:
    server = DynamicAuthorizationServer("gateway-2", SECRET, lambda _: 1, _never)
    request = _request()
    answer = server.receive_datagram(request.data, NOW)
    assert answer is not None
    assert request.read_answer(answer) == Answer(False, 403, "")
