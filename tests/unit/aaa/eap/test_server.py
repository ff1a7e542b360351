import itertools
from collections.abc import Callable

import pytest

from aaa.eap.errors import SetupError, WrongState
from aaa.eap.mschapv2 import nt_password_hash
from aaa.eap.packet import EapCode, EapPacket, EapType, failure, request, response, success
from aaa.eap.server import (
    _TRANSITIONS,
    MAX_ROUNDS,
    Authenticated,
    EapServer,
    Failed,
    Input,
    NeedCredentials,
    NtCredential,
    PasswordWrong,
    Send,
    State,
    Step,
)
from tests.peers.eap import MsChapV2Peer, TlsPeer
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import Counter, converse, make_server

ALICE = NtCredential("laptop", nt_password_hash("secret"))


def tls_peer(identity: str = "laptop-1") -> TlsPeer:
    here = house()
    return TlsPeer(identity, here.laptop.chain, here.laptop.key, [here.root.der])


def answer(server: EapServer, last: bytes, eap_type: int, data: bytes = b"") -> Step:
    """A response to `last`, of any type."""
    return server.receive(response(EapPacket.parse(last).identifier, eap_type, data))


def at_offer(server: EapServer) -> bytes:
    """Bring a server to the first request of its preferred method, MSCHAPv2; that request."""
    first = server.start()
    step = answer(server, first, EapType.IDENTITY, b"alice")
    assert step == NeedCredentials("alice")
    step = server.provide_credentials([ALICE])
    assert isinstance(step, Send)
    return step.packet


# --- the choice of a method ---


def test_the_first_configured_method_is_offered() -> None:
    assert at_offer(make_server(["mschapv2", "tls"]))[4] == EapType.MSCHAPV2
    server = make_server(["tls", "mschapv2"])
    step = answer(server, server.start(), EapType.IDENTITY, b"alice")
    assert isinstance(step, Send)
    assert step.packet[4:] == bytes((EapType.TLS, 0x20))


def test_nak_from_mschapv2_to_tls() -> None:
    done = converse(make_server(["mschapv2", "tls"]), tls_peer(), [ALICE])
    assert done.authenticated.method == "eap-tls"
    assert done.asked_for == ["laptop-1"]


def test_nak_from_tls_to_mschapv2() -> None:
    done = converse(make_server(["tls", "mschapv2"]), MsChapV2Peer("alice", "secret"), [ALICE])
    assert done.authenticated.method == "eap-mschapv2"
    assert done.asked_for == ["alice"]


def test_no_credentials_are_asked_for_where_tls_suffices() -> None:
    done = converse(make_server(["tls", "mschapv2"]), tls_peer())
    assert done.authenticated.method == "eap-tls"
    assert done.asked_for == []


def test_of_the_types_in_a_nak_ours_decides_the_order() -> None:
    server = make_server(["mschapv2", "tls"])
    step = answer(server, at_offer(server), EapType.NAK, bytes((25, 21, 26, 13)))
    assert isinstance(step, Send)
    assert step.packet[4] == EapType.TLS


@pytest.mark.parametrize(
    ("eap_type", "data", "said"),
    [
        (EapType.NAK, bytes((25, 21)), "EAP-PEAP (25), EAP-TTLS (21); here it is EAP-MSCHAPV2 (26), EAP-TLS (13)"),
        (EapType.NAK, b"\0", "none of the methods that were offered; here it is EAP-MSCHAPV2 (26)"),
        (EapType.NAK, b"", "none of the methods that were offered"),
        (EapType.NAK, bytes((26,)), "EAP-MSCHAPV2 (26)"),
        (EapType.NAK, bytes(range(100, 255)), "EAP type 107, ...; here"),
        (EapType.EXPANDED, bytes.fromhex("000000 00000003 00000000 00000019"), "expanded types only"),
    ],
)
def test_no_common_method(eap_type: int, data: bytes, said: str) -> None:
    server = make_server(["mschapv2", "tls"])
    step = answer(server, at_offer(server), eap_type, data)
    assert isinstance(step, Failed)
    assert step.code == "no-common-method"
    assert step.identity == "alice"
    assert said in step.reason


def test_one_nak_only() -> None:
    server = make_server(["mschapv2", "tls"])
    step = answer(server, at_offer(server), EapType.NAK, bytes((EapType.TLS,)))
    assert isinstance(step, Send)
    step = answer(server, step.packet, EapType.NAK, bytes((EapType.MSCHAPV2,)))
    assert isinstance(step, Failed)
    assert step.code == "no-common-method"


def test_no_nak_once_the_method_is_under_way() -> None:
    server = make_server(["mschapv2", "tls"])
    peer = MsChapV2Peer("alice", "secret")
    reply = peer.receive(at_offer(server))
    assert reply is not None
    step = server.receive(reply)
    assert isinstance(step, Send)
    step = answer(server, step.packet, EapType.NAK, bytes((EapType.TLS,)))
    assert isinstance(step, Failed)
    assert step.code == "no-common-method"


# --- identifiers, lengths, limits ---


def test_identifiers_count_on_and_the_last_stands_in_the_verdict() -> None:
    done = converse(make_server(["mschapv2"]), MsChapV2Peer("alice", "secret"), [ALICE])
    first = done.requests[0][1]
    assert [packet[1] for packet in done.requests] == [(first + i) & 0xFF for i in range(3)]
    assert done.requests[1][1] == done.requests[1][6]  # MS-CHAPv2-ID


def test_identifiers_wrap_around() -> None:
    server = make_server(["mschapv2"], random=lambda size: b"\xfe" * size)
    done = converse(server, MsChapV2Peer("alice", "secret"), [ALICE])
    assert [packet[1] for packet in done.requests] == [255, 0, 1]
    assert isinstance(done.step, Authenticated)


@pytest.mark.parametrize(
    "packet",
    [
        lambda identifier: response(identifier ^ 1, EapType.IDENTITY, b"alice"),
        lambda identifier: request(identifier, EapType.IDENTITY, b"alice"),
        success,
        failure,
        lambda identifier: b"",
        lambda identifier: response(identifier, EapType.IDENTITY, b"alice")[:-1],
        lambda identifier: response(identifier, EapType.MSCHAPV2, b"alice"),
        lambda identifier: response(identifier, EapType.NAK, bytes((13,))),
    ],
)
def test_what_does_not_answer_the_identity_request_fails(packet: Callable[[int], bytes]) -> None:
    server = make_server()
    identifier = server.start()[1]
    step = server.receive(packet(identifier))
    assert isinstance(step, Failed)
    assert (step.code, step.identity) == ("protocol-error", "")
    assert step.packet == failure(identifier)


def test_identity_limit() -> None:
    server = make_server()
    step = answer(server, server.start(), EapType.IDENTITY, b"a" * 254)
    assert isinstance(step, Failed)
    assert step.code == "limit-exceeded"


def test_round_limit() -> None:
    server = make_server()
    packet = server.start()
    for _ in range(MAX_ROUNDS):
        step = answer(server, packet, EapType.NOTIFICATION)
        assert step == Send(packet)
    step = answer(server, packet, EapType.IDENTITY, b"alice")
    assert isinstance(step, Failed)
    assert step.code == "limit-exceeded"


def test_a_notification_changes_nothing() -> None:
    server = make_server(["mschapv2"])
    first = server.start()
    assert answer(server, first, EapType.NOTIFICATION, b"hello") == Send(first)
    answer(server, first, EapType.IDENTITY, b"alice")
    step = server.provide_credentials([ALICE])
    assert isinstance(step, Send)
    assert answer(server, step.packet, EapType.NOTIFICATION) == step
    peer = MsChapV2Peer("alice", "secret")
    reply = peer.receive(step.packet)
    assert reply is not None
    step = server.receive(reply)
    assert isinstance(step, Send)
    assert answer(server, step.packet, EapType.NOTIFICATION) == step
    reply = peer.receive(step.packet)
    assert reply is not None
    assert isinstance(server.receive(reply), Authenticated)


# --- every state and every input ---


def in_state(state: State) -> tuple[EapServer, bytes]:
    """A server brought to a state by an honest peer, and the last request."""
    server = make_server(["mschapv2", "tls"], random=Counter())
    if state is State.IDLE:
        return server, request(0, 1, b"")
    packet = server.start()
    if state is State.IDENTITY:
        return server, packet
    if state is State.FAILED:
        server.receive(b"")
        return server, packet
    answer(server, packet, EapType.IDENTITY, b"alice")
    if state is State.QUESTION:
        return server, packet
    peer = MsChapV2Peer("alice", "secret")
    step = server.provide_credentials([ALICE])
    assert isinstance(step, Send)
    if state is State.OFFERED:
        return server, step.packet
    reply = peer.receive(step.packet)
    assert reply is not None
    step = server.receive(reply)
    assert isinstance(step, Send)
    last = step.packet
    if state is State.METHOD:
        return server, last
    reply = peer.receive(last)
    assert reply is not None
    assert isinstance(server.receive(reply), Authenticated)
    if state is State.SUCCEEDED:
        server.success()
    return server, last


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_reached(state: State) -> None:
    assert in_state(state)[0].state is state


_PACKET_TYPE = {
    Input.IDENTITY: EapType.IDENTITY,
    Input.NOTIFICATION: EapType.NOTIFICATION,
    Input.NAK: EapType.NAK,
    Input.EXPANDED: EapType.EXPANDED,
    Input.METHOD: EapType.MSCHAPV2,
    Input.OTHER: 200,
}
# What an input leads to where it is legal, with data that fits nothing: the state after it.
_AFTER = {
    (State.IDENTITY, Input.IDENTITY): State.QUESTION,
    (State.IDENTITY, Input.NOTIFICATION): State.IDENTITY,
    (State.OFFERED, Input.METHOD): State.FAILED,
    (State.OFFERED, Input.NOTIFICATION): State.OFFERED,
    (State.OFFERED, Input.NAK): State.METHOD,
    (State.OFFERED, Input.EXPANDED): State.FAILED,
    (State.METHOD, Input.METHOD): State.FAILED,
    (State.METHOD, Input.NOTIFICATION): State.METHOD,
    (State.METHOD, Input.NAK): State.FAILED,
    (State.METHOD, Input.EXPANDED): State.FAILED,
}


def test_the_table_of_legal_inputs_is_the_one_tested_here() -> None:
    assert set(_TRANSITIONS) == set(_AFTER)


@pytest.mark.parametrize(("state", "given"), list(itertools.product(State, Input)))
def test_every_state_and_input(state: State, given: Input) -> None:
    server, last = in_state(state)
    if state is State.IDLE:
        with pytest.raises(WrongState):
            answer(server, last, _PACKET_TYPE[given])
        return
    step = answer(server, last, _PACKET_TYPE[given], bytes((EapType.TLS,)))
    assert not isinstance(step, Authenticated)
    assert server.state is _AFTER.get((state, given), State.FAILED)
    assert isinstance(step, Failed) == (server.state is State.FAILED)
    if isinstance(step, Failed) and (state, given) not in _AFTER:
        assert step.code == "protocol-error"


@pytest.mark.parametrize("state", State)
def test_every_state_and_call(state: State) -> None:
    legal: dict[str, set[State]] = {
        "start": {State.IDLE},
        "begin": {State.IDLE},
        "provide_credentials": {State.QUESTION},
        "provide_password": set(),
        "answer": {State.QUESTION},
        "success": {State.AUTHENTICATED},
        "failure": set(State) - {State.IDLE, State.SUCCEEDED},
    }
    calls: dict[str, Callable[[EapServer], object]] = {
        "start": lambda server: server.start(),
        "begin": lambda server: server.begin(b""),
        "provide_credentials": lambda server: server.provide_credentials([]),
        "provide_password": lambda server: server.provide_password(PasswordWrong()),
        "answer": lambda server: server.answer([]),
        "success": lambda server: server.success(),
        "failure": lambda server: server.failure(),
    }
    for name, call in calls.items():
        server, _ = in_state(state)
        if state in legal[name]:
            call(server)
        else:
            with pytest.raises(WrongState):
                call(server)
            assert server.state is state


def test_the_verdict_of_the_caller() -> None:
    server, last = in_state(State.AUTHENTICATED)
    assert server.success() == bytes((EapCode.SUCCESS, last[1], 0, 4))
    server, last = in_state(State.AUTHENTICATED)
    assert server.failure() == bytes((EapCode.FAILURE, last[1], 0, 4))
    with pytest.raises(WrongState):
        server.success()


def test_setup_is_checked() -> None:
    with pytest.raises(SetupError):
        EapServer([], "gw", None, Counter())
    with pytest.raises(SetupError):
        EapServer(["mschapv2", "tls"], "gw", None, Counter())
    assert EapServer(["mschapv2"], "gw", None, Counter()).start()[4] == EapType.IDENTITY
