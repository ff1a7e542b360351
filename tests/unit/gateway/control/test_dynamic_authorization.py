"""Disconnect- and CoA-Requests (RFC 5176): who is believed, what is carried out how often, what hostile bytes do."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.dynamic_authorization import DynamicRequest as ClientRequest
from aaa.dynamic_authorization import Peer, Selector
from aaa.radius.wire import MAX_PACKET_BYTES
from core.secrets import Secret
from gateway.control.change import EVERYTHING, MAX_RULES, SessionChange
from gateway.control.dynamic_authorization import (
    MAX_ATTRIBUTES,
    TIMESTAMP_WINDOW_S,
    DynamicAuthorizationServer,
    ErrorCause,
    SessionSelector,
)

NOW = 1_800_000_000
SECRET = b"0123456789abcdef0123456789abcdef"
NAME = "gateway-1"
REQUEST, ACK, NAK = 40, 41, 42
CHANGE, CHANGED, NOT_CHANGED = 43, 44, 45
FILTER_ID, SESSION_TIMEOUT, FILTER_RULE = 11, 27, 92
USER_NAME, FRAMED_IP, REPLY_MESSAGE, NAS_IDENTIFIER, PROXY_STATE = 1, 8, 18, 32, 33
STATE = 24
SESSION_ID, TERMINATE_CAUSE, TIMESTAMP, MESSAGE_AUTHENTICATOR, DEVICE, ERROR_CAUSE = 44, 49, 55, 80, 89, 101

Attribute = tuple[int, bytes]
STAMP: Attribute = (TIMESTAMP, NOW.to_bytes(4, "big"))
IS_ME: Attribute = (NAS_IDENTIFIER, NAME.encode())
LAPTOP: Attribute = (DEVICE, b"device-7")
USUAL = (IS_ME, LAPTOP, STAMP)


def attributes(data: bytes) -> list[Attribute]:
    """Of a packet, in order."""
    found, offset = [], 20
    while offset < len(data):
        found.append((data[offset], data[offset + 2 : offset + data[offset + 1]]))
        offset += data[offset + 1]
    return found


def encode(items: tuple[Attribute, ...]) -> bytes:
    return b"".join(bytes((kind, 2 + len(value))) + value for kind, value in items)


def request(
    *items: Attribute, code: int = REQUEST, identifier: int = 5, secret: bytes = SECRET, macs: int = 1
) -> bytes:
    """A request with both authenticators made by hand (RFC 5176 section 2.3, RFC 3579 section 3.2)."""
    body = encode(((MESSAGE_AUTHENTICATOR, bytes(16)),) * macs + items)
    header = bytes((code, identifier)) + (20 + len(body)).to_bytes(2, "big")
    if macs:
        mac = hmac.digest(secret, header + bytes(16) + body, "md5")
        body = encode(((MESSAGE_AUTHENTICATOR, mac),) * macs + items)
    return header + hashlib.md5(header + bytes(16) + body + secret).digest() + body


def assert_answers(question: bytes, answer: bytes) -> None:
    """The answer is from the one who has the secret, and to this question."""
    assert answer[1] == question[1]
    body, at = answer[20:], 20
    for kind, value in attributes(answer):
        if kind == MESSAGE_AUTHENTICATOR:
            zeroed = answer[:4] + question[4:20] + answer[20 : at + 2] + bytes(16) + answer[at + 18 :]
            assert hmac.compare_digest(value, hmac.digest(SECRET, zeroed, "md5"))
            break
        at += 2 + len(value)
    else:
        raise AssertionError("no Message-Authenticator")
    assert answer[4:20] == hashlib.md5(answer[:4] + question[4:20] + body + SECRET).digest()


class Gateway:
    """A server and what it was told to end."""

    def __init__(self, sessions: int = 1) -> None:
        self.sessions = sessions
        self.asked: list[SessionSelector] = []
        self.changes: list[SessionChange] = []
        self.server = DynamicAuthorizationServer(NAME, SECRET, self._disconnect, self._change)

    def _disconnect(self, selector: SessionSelector) -> int:
        self.asked.append(selector)
        return self.sessions

    def _change(self, selector: SessionSelector, change: SessionChange) -> int:
        self.asked.append(selector)
        self.changes.append(change)
        return self.sessions

    def ask(self, data: bytes, now: float = NOW) -> bytes | None:
        """Hand a datagram in."""
        return self.server.receive_datagram(data, now)

    def verdict(self, data: bytes, now: float = NOW) -> tuple[int, int | None]:
        """Code and Error-Cause of the answer, which must verify."""
        answer = self.ask(data, now)
        assert answer is not None
        assert_answers(data, answer)
        causes = [int.from_bytes(value, "big") for kind, value in attributes(answer) if kind == ERROR_CAUSE]
        return answer[0], causes[0] if causes else None


def rules(*texts: str) -> Attribute:
    return FILTER_RULE, b"\0".join(text.encode() for text in texts)


PERMIT = "permit in ip from assigned to"
NOTHING = "deny in ip from any to any"


class TestChange:
    @pytest.mark.parametrize(
        ("items", "change"),
        [
            ([rules(f"{PERMIT} 10.1.0.0/24")], SessionChange((ip_network("10.1.0.0/24"),))),
            (
                [rules(f"{PERMIT} 10.1.0.0/24", f"{PERMIT} fd01::/64", NOTHING)],
                SessionChange((ip_network("10.1.0.0/24"), ip_network("fd01::/64"))),
            ),
            ([rules(f"{PERMIT} any")], SessionChange(EVERYTHING)),
            ([rules(NOTHING)], SessionChange(())),
            # One rule in two attributes (RFC 4849 section 2).
            (
                [(FILTER_RULE, b"permit in ip from assi"), (FILTER_RULE, b"gned to 10.1.0.7")],
                SessionChange((ip_network("10.1.0.7/32"),)),
            ),
            ([(SESSION_TIMEOUT, (600).to_bytes(4, "big"))], SessionChange(None, 600)),
            ([(FILTER_ID, b"staff"), (REPLY_MESSAGE, b"healthy")], SessionChange(None, None, "staff", "healthy")),
        ],
    )
    def test_is_carried_out(self, items: list[Attribute], change: SessionChange) -> None:
        gateway = Gateway()
        assert gateway.verdict(request(*USUAL, *items, code=CHANGE)) == (CHANGED, None)
        assert gateway.changes == [change]
        assert gateway.asked == [SessionSelector(None, "device-7", None, None)]

    def test_says_how_many(self) -> None:
        answer = Gateway(sessions=2).ask(request(*USUAL, rules(NOTHING), code=CHANGE))
        assert answer is not None
        assert (REPLY_MESSAGE, b"2 sessions changed") in attributes(answer)

    @pytest.mark.parametrize(
        ("items", "cause"),
        [
            ([], ErrorCause.MISSING_ATTRIBUTE),
            ([(REPLY_MESSAGE, b"why")], ErrorCause.MISSING_ATTRIBUTE),
            ([(SESSION_TIMEOUT, b"\0\1")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([(SESSION_TIMEOUT, bytes(4)), (SESSION_TIMEOUT, bytes(4))], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([(FILTER_ID, b"\xff")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules("")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules("permit out ip from any to any")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules("permit in tcp from assigned to 10.1.0.0/24 443")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules(f"{PERMIT} 10.1.0.1/24")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules(f"{PERMIT} everything")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            # A permission behind the last word would widen what was meant to be narrow.
            ([rules(NOTHING, f"{PERMIT} 10.1.0.0/24")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules(f"{PERMIT} 10.1.0.0/24", "nonsense")], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules(*["x"] * (MAX_RULES + 1))], ErrorCause.INVALID_ATTRIBUTE_VALUE),
            ([rules(f"{PERMIT} 10.1.0.0/24"), (STATE, b"state")], ErrorCause.UNSUPPORTED_ATTRIBUTE),
        ],
    )
    def test_is_refused_whole(self, items: list[Attribute], cause: ErrorCause) -> None:
        gateway = Gateway()
        assert gateway.verdict(request(*USUAL, *items, code=CHANGE)) == (NOT_CHANGED, cause)
        assert gateway.changes == []

    def test_of_nobody(self) -> None:
        verdict = Gateway(sessions=0).verdict(request(*USUAL, rules(NOTHING), code=CHANGE))
        assert verdict == (NOT_CHANGED, ErrorCause.SESSION_CONTEXT_NOT_FOUND)

    def test_has_no_place_in_a_disconnect_request(self) -> None:
        assert Gateway().verdict(request(*USUAL, rules(NOTHING))) == (NAK, ErrorCause.UNSUPPORTED_ATTRIBUTE)


class TestAcknowledged:
    @pytest.mark.parametrize(
        ("items", "selector"),
        [
            ([LAPTOP], SessionSelector(None, "device-7", None, None)),
            ([(SESSION_ID, b"s-1")], SessionSelector("s-1", None, None, None)),
            ([(USER_NAME, b"alice")], SessionSelector(None, None, "alice", None)),
            ([(FRAMED_IP, bytes((10, 99, 0, 7)))], SessionSelector(None, None, None, "10.99.0.7")),
            ([LAPTOP, (USER_NAME, "jörg".encode())], SessionSelector(None, "device-7", "jörg", None)),
        ],
    )
    def test_what_names_the_sessions(self, items: list[Attribute], selector: SessionSelector) -> None:
        gateway = Gateway()
        assert gateway.verdict(request(IS_ME, *items, STAMP)) == (ACK, None)
        assert gateway.asked == [selector]

    def test_without_a_nas_identifier(self) -> None:
        assert Gateway().verdict(request(LAPTOP, STAMP)) == (ACK, None)

    def test_says_how_many(self) -> None:
        answer = Gateway(sessions=3).ask(request(*USUAL))
        assert answer is not None
        assert (REPLY_MESSAGE, b"3 sessions ended") in attributes(answer)

    def test_proxy_states_come_back_in_order(self) -> None:
        states = ((PROXY_STATE, b"first"), (PROXY_STATE, b"second"))
        for sessions in (1, 0):
            answer = Gateway(sessions).ask(request(*USUAL, *states))
            assert answer is not None
            assert_answers(request(*USUAL, *states), answer)
            assert [item for item in attributes(answer) if item[0] == PROXY_STATE] == list(states)

    def test_attributes_that_say_nothing_about_which(self) -> None:
        more = ((TERMINATE_CAUSE, (6).to_bytes(4, "big")), (REPLY_MESSAGE, b"bye"))
        assert Gateway().verdict(request(*USUAL, *more)) == (ACK, None)

    def test_bytes_after_the_packet_are_not_part_of_it(self) -> None:
        data = request(*USUAL)
        answer = Gateway().ask(data + b"padding")
        assert answer is not None
        assert_answers(data, answer)

    @pytest.mark.parametrize("selector", [Selector(device_id="device-7"), Selector(session_id="s-1")])
    def test_by_the_client_of_our_own(self, selector: Selector) -> None:
        made = ClientRequest(Peer(NAME, "127.0.0.1", 3799, Secret(SECRET)), selector, identifier=9, timestamp=NOW)
        gateway = Gateway(sessions=2)
        answer = gateway.ask(made.data)
        assert answer is not None
        read = made.read_answer(answer)
        assert read is not None
        assert (read.acknowledged, read.settled, read.text) == (True, True, "2 sessions ended")
        assert gateway.asked == [SessionSelector(selector.session_id, selector.device_id, None, None)]

    def test_the_client_of_our_own_sees_that_there_is_none(self) -> None:
        peer = Peer(NAME, "127.0.0.1", 3799, Secret(SECRET))
        made = ClientRequest(peer, Selector(device_id="device-7"), identifier=9, timestamp=NOW)
        answer = Gateway(sessions=0).ask(made.data)
        assert answer is not None
        read = made.read_answer(answer)
        assert read is not None
        assert (read.acknowledged, read.error_cause, read.settled) == (False, 503, True)


class TestRefused:
    """Authentic requests that can't be carried out: an answer, with the cause (RFC 5176 section 3.5)."""

    @pytest.mark.parametrize(
        ("items", "cause"),
        [
            ([(NAS_IDENTIFIER, b"gateway-2"), LAPTOP], ErrorCause.NAS_IDENTIFICATION_MISMATCH),
            ([(NAS_IDENTIFIER, b"Gateway-1"), LAPTOP], ErrorCause.NAS_IDENTIFICATION_MISMATCH),
            ([IS_ME, (NAS_IDENTIFIER, b"gateway-2"), LAPTOP], ErrorCause.NAS_IDENTIFICATION_MISMATCH),
            ([IS_ME], ErrorCause.MISSING_ATTRIBUTE),
            ([], ErrorCause.MISSING_ATTRIBUTE),
            ([IS_ME, LAPTOP, (5, bytes(4))], ErrorCause.UNSUPPORTED_ATTRIBUTE),
            ([IS_ME, LAPTOP, (4, bytes(4))], ErrorCause.UNSUPPORTED_ATTRIBUTE),
            ([IS_ME, LAPTOP, (200, b"?")], ErrorCause.UNSUPPORTED_ATTRIBUTE),
            ([IS_ME, LAPTOP, (26, b"\0\0\x01\x37\x01\x06abcd")], ErrorCause.UNSUPPORTED_ATTRIBUTE),
            ([IS_ME, LAPTOP, (DEVICE, b"device-8")], ErrorCause.INVALID_REQUEST),
            ([IS_ME, (DEVICE, b"")], ErrorCause.INVALID_REQUEST),
            ([IS_ME, (USER_NAME, b"\xff\xfe")], ErrorCause.INVALID_REQUEST),
            ([IS_ME, (FRAMED_IP, b"\x0a\x63\0")], ErrorCause.INVALID_REQUEST),
        ],
    )
    def test_causes(self, items: list[Attribute], cause: ErrorCause) -> None:
        gateway = Gateway()
        assert gateway.verdict(request(*items, STAMP)) == (NAK, cause)
        assert gateway.asked == []

    def test_there_is_no_such_session(self) -> None:
        gateway = Gateway(sessions=0)
        assert gateway.verdict(request(*USUAL)) == (NAK, ErrorCause.SESSION_CONTEXT_NOT_FOUND)
        assert len(gateway.asked) == 1


class TestNotBelieved:
    """No answer at all, and nothing is done."""

    @staticmethod
    def assert_dropped(data: bytes, now: float = NOW) -> None:
        gateway = Gateway()
        assert gateway.ask(data, now) is None
        assert (gateway.asked, gateway.server.dropped) == ([], 1)

    def test_without_a_message_authenticator(self) -> None:
        self.assert_dropped(request(*USUAL, macs=0))

    def test_with_two(self) -> None:
        self.assert_dropped(request(*USUAL, macs=2))

    def test_with_another_secret(self) -> None:
        self.assert_dropped(request(*USUAL, secret=b"guessed"))

    def test_with_a_wrong_message_authenticator_under_a_right_request_authenticator(self) -> None:
        data = bytearray(request(*USUAL))
        data[25] ^= 1
        header, body = bytes(data[:4]), bytes(data[20:])
        self.assert_dropped(header + hashlib.md5(header + bytes(16) + body + SECRET).digest() + body)

    def test_with_a_wrong_request_authenticator(self) -> None:
        data = bytearray(request(*USUAL))
        data[10] ^= 1
        self.assert_dropped(bytes(data))

    def test_with_a_message_authenticator_of_the_wrong_size(self) -> None:
        body = encode(((MESSAGE_AUTHENTICATOR, bytes(15)), *USUAL))
        header = bytes((REQUEST, 5)) + (20 + len(body)).to_bytes(2, "big")
        self.assert_dropped(header + hashlib.md5(header + bytes(16) + body + SECRET).digest() + body)

    @pytest.mark.parametrize("code", [0, 1, 2, 4, 12, 41, 42, 44, 45, 255])
    def test_other_codes(self, code: int) -> None:
        self.assert_dropped(request(*USUAL, code=code))

    @pytest.mark.parametrize("age_s", [TIMESTAMP_WINDOW_S + 1, -TIMESTAMP_WINDOW_S - 1, NOW])
    def test_old_or_from_the_future(self, age_s: float) -> None:
        self.assert_dropped(request(*USUAL), NOW + age_s)

    @pytest.mark.parametrize(
        "stamps", [(), (STAMP, STAMP), ((TIMESTAMP, b""), STAMP), ((TIMESTAMP, bytes(8)),), ((TIMESTAMP, b"\x6b"),)]
    )
    def test_without_one_good_timestamp(self, stamps: tuple[Attribute, ...]) -> None:
        self.assert_dropped(request(IS_ME, LAPTOP, *stamps))

    def test_every_changed_byte(self) -> None:
        data, gateway = request(*USUAL), Gateway()
        for at in range(len(data)):
            for bit in (0x01, 0x80):
                changed = data[:at] + bytes((data[at] ^ bit,)) + data[at + 1 :]
                assert gateway.ask(changed) is None, at
        assert gateway.asked == []

    @pytest.mark.parametrize("age_s", [TIMESTAMP_WINDOW_S - 1, 1 - TIMESTAMP_WINDOW_S])
    def test_within_the_window_it_is(self, age_s: float) -> None:
        assert Gateway().verdict(request(*USUAL), NOW + age_s) == (ACK, None)


class TestReplay:
    def test_the_same_request_gets_the_same_answer_and_acts_once(self) -> None:
        gateway, data = Gateway(), request(*USUAL)
        answers = {gateway.ask(data, NOW + second) for second in range(0, 290, 10)}
        assert len(answers) == 1
        assert None not in answers
        assert len(gateway.asked) == 1

    def test_for_as_long_as_its_timestamp_would_be_taken(self) -> None:
        gateway = Gateway()
        early = request(IS_ME, LAPTOP, (TIMESTAMP, (NOW + 290).to_bytes(4, "big")))
        gateway.ask(early, NOW)
        for second in range(0, 700, 7):
            gateway.ask(early, NOW + second)
        assert len(gateway.asked) == 1
        assert len(gateway.server._answers) == 0

    def test_many_others_in_between_do_not_wash_it_out(self) -> None:
        gateway, data = Gateway(), request(*USUAL)
        gateway.ask(data)
        for number in range(3000):
            gateway.ask(request(IS_ME, (DEVICE, b"device-%d" % number), STAMP, identifier=number % 256))
        acted = len(gateway.asked)
        gateway.ask(data)
        assert (acted, len(gateway.asked)) == (3001, 3001)

    def test_answers_are_forgotten(self) -> None:
        gateway = Gateway()
        for second in range(0, 3000, 10):
            stamp = (TIMESTAMP, (NOW + second).to_bytes(4, "big"))
            gateway.ask(request(IS_ME, LAPTOP, stamp), NOW + second)
        assert len(gateway.asked) == 300
        assert len(gateway.server._answers) <= 2 * TIMESTAMP_WINDOW_S / 10 + 2

    def test_a_new_request_acts_again(self) -> None:
        gateway = Gateway()
        gateway.ask(request(*USUAL, identifier=1))
        gateway.ask(request(*USUAL, identifier=2))
        assert len(gateway.asked) == 2


class TestHostileBytes:
    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        assert Gateway().ask(data) is None

    @given(st.binary(max_size=120))
    def test_anything_behind_a_good_header(self, body: bytes) -> None:
        header = bytes((REQUEST, 5)) + (20 + len(body)).to_bytes(2, "big")
        Gateway().ask(header + hashlib.md5(header + bytes(16) + body + SECRET).digest() + body)

    @given(st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=30)), max_size=12).map(tuple))
    def test_any_attributes_of_one_who_has_the_secret(self, items: tuple[Attribute, ...]) -> None:
        gateway = Gateway()
        data = request(*items, STAMP)
        answer = gateway.ask(data)
        if answer is not None:
            assert_answers(data, answer)

    @pytest.mark.parametrize("length", [0, 1, 19, 20, 21, 65535])
    def test_a_length_that_lies(self, length: int) -> None:
        data = request(*USUAL)
        assert Gateway().ask(data[:2] + length.to_bytes(2, "big") + data[4:]) is None

    @pytest.mark.parametrize("size", [0, 1])
    def test_an_attribute_of_no_length_does_not_loop(self, size: int) -> None:
        body = bytes((DEVICE, size)) + b"x" * 20
        header = bytes((REQUEST, 5)) + (20 + len(body)).to_bytes(2, "big")
        assert Gateway().ask(header + hashlib.md5(header + bytes(16) + body + SECRET).digest() + body) is None

    def test_too_many_attributes(self) -> None:
        many = ((PROXY_STATE, b""),) * MAX_ATTRIBUTES
        assert Gateway().ask(request(*USUAL, *many)) is None

    def test_too_long(self) -> None:
        long = tuple((PROXY_STATE, bytes(253)) for _ in range(17))
        data = request(*USUAL, *long)
        assert len(data) > MAX_PACKET_BYTES
        assert Gateway().ask(data) is None

    def test_mutations(self) -> None:
        random, data, gateway = Random(3), request(*USUAL), Gateway()
        for _ in range(2000):
            at, size = random.randrange(len(data)), random.randint(0, 4)
            changed = data[:at] + random.randbytes(size) + data[at + random.randint(0, 4) :]
            if not changed.startswith(data):
                gateway.ask(changed)
        assert gateway.asked == []


class TestWholeGateway:
    """A CoA-Request that names no session, with a Filter-Id that is about the gateway."""

    @staticmethod
    def gateway(count: int | None = 3) -> tuple[DynamicAuthorizationServer, list[bool]]:
        """A server, and what it was told to do."""
        told: list[bool] = []

        def drain(draining: bool) -> int | None:
            told.append(draining)
            return count

        return DynamicAuthorizationServer(NAME, SECRET, _never, _never, drain), told

    @pytest.mark.parametrize(("what", "draining"), [(b"drain", True), (b"serve", False)])
    def test_is_carried_out(self, what: bytes, draining: bool) -> None:
        server, told = self.gateway()
        question = request(IS_ME, STAMP, (FILTER_ID, what), code=CHANGE)
        answer = server.receive_datagram(question, NOW)
        assert answer is not None
        assert_answers(question, answer)
        assert (answer[0], told) == (CHANGED, [draining])
        assert (REPLY_MESSAGE, b"3 sessions changed") in attributes(answer)
        # The same request again is answered, and not carried out.
        assert server.receive_datagram(question, NOW) == answer
        assert len(told) == 1

    def test_there_may_be_no_session_yet(self) -> None:
        server, told = self.gateway(0)
        answer = server.receive_datagram(request(IS_ME, STAMP, (FILTER_ID, b"drain"), code=CHANGE), NOW)
        assert answer is not None
        assert (answer[0], told) == (CHANGED, [True])

    def test_a_gateway_that_knows_no_other(self) -> None:
        server, _ = self.gateway(None)
        answer = server.receive_datagram(request(IS_ME, STAMP, (FILTER_ID, b"drain"), code=CHANGE), NOW)
        assert answer is not None
        assert answer[0] == NOT_CHANGED
        assert (ERROR_CAUSE, int(ErrorCause.RESOURCES_UNAVAILABLE).to_bytes(4, "big")) in attributes(answer)

    @pytest.mark.parametrize(
        ("items", "code", "cause"),
        [
            ((IS_ME, STAMP), CHANGE, ErrorCause.MISSING_ATTRIBUTE),
            ((IS_ME, STAMP, (FILTER_ID, b"staff")), CHANGE, ErrorCause.MISSING_ATTRIBUTE),
            ((IS_ME, STAMP, (FILTER_ID, b"drain"), (FILTER_ID, b"serve")), CHANGE, ErrorCause.MISSING_ATTRIBUTE),
            ((STAMP, (FILTER_ID, b"drain")), CHANGE, ErrorCause.MISSING_ATTRIBUTE),
            ((IS_ME, STAMP, (FILTER_ID, b"drain")), REQUEST, ErrorCause.UNSUPPORTED_ATTRIBUTE),
            ((IS_ME, STAMP, (FILTER_ID, b"drain"), rules(NOTHING)), CHANGE, ErrorCause.INVALID_REQUEST),
            (
                ((NAS_IDENTIFIER, b"gateway-2"), STAMP, (FILTER_ID, b"drain")),
                CHANGE,
                ErrorCause.NAS_IDENTIFICATION_MISMATCH,
            ),
        ],
    )
    def test_is_not(self, items: tuple[Attribute, ...], code: int, cause: ErrorCause) -> None:
        server, told = self.gateway()
        answer = server.receive_datagram(request(*items, code=code), NOW)
        assert answer is not None
        assert (ERROR_CAUSE, int(cause).to_bytes(4, "big")) in attributes(answer)
        assert told == []

    def test_a_rule_of_that_name_is_a_rule_where_a_session_is_named(self) -> None:
        gateway = Gateway()
        assert gateway.verdict(request(*USUAL, (FILTER_ID, b"drain"), code=CHANGE)) == (CHANGED, None)
        assert gateway.changes == [SessionChange(None, None, "drain", "")]


def _never(*_: object) -> int:
    raise AssertionError("not asked for")
