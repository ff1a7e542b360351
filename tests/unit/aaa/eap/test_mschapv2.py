import struct

import pytest

from aaa.eap.errors import EapError, FailureCode, LimitExceeded, MalformedPacket
from aaa.eap.method import MethodAsk, MethodContinue, MethodFailure, MethodSuccess
from aaa.eap.mschapv2 import MsChapV2Method, NtCredential, Response, nt_password_hash
from aaa.eap.server import Authenticated, EapServer, NeedCredentials, Send
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.eap.conversation import Conversation, Counter, converse, make_server
from tests.unit.aaa.eap.vectors import named

RFC_2759 = named("rfc2759.txt")
ALICE = NtCredential("laptop", nt_password_hash("clientPass"))


def rfc_method(*candidates: NtCredential) -> MsChapV2Method:
    """A run whose challenge is that of RFC 2759 section 9.2."""
    values = [RFC_2759["authenticator_challenge"], bytes(16)]
    method = MsChapV2Method("User", "gw", 9, lambda size: values.pop(0)[:size])
    assert method.start() == MethodAsk(NeedCredentials("User"))
    challenge = method.answer(candidates).data
    assert challenge == bytes.fromhex("01 09 0017 10") + RFC_2759["authenticator_challenge"] + b"gw"
    return method


def rfc_response(name: bytes = b"User", **changes: bytes) -> bytes:
    value = (
        changes.get("peer_challenge", RFC_2759["peer_challenge"])
        + bytes(8)
        + changes.get("nt_response", RFC_2759["nt_response"])
        + b"\0"
    )
    return struct.pack("!BBHB", 2, 9, 5 + len(value) + len(name), len(value)) + value + name


def test_the_exchange_of_rfc_2759_byte_for_byte() -> None:
    method = rfc_method(ALICE)
    step = method.process(rfc_response())
    assert isinstance(step, MethodContinue)
    text = RFC_2759["authenticator_response"] + b" M=Welcome"
    assert step.data == bytes.fromhex("03 09") + struct.pack("!H", 4 + len(text)) + text
    done = method.process(b"\x03")
    assert isinstance(done, MethodSuccess)
    assert done.credential_key == "laptop"
    assert done.msk[16:32] == named("rfc3079.txt")["send_start_key"]


def test_a_domain_in_the_name_is_not_hashed() -> None:
    assert isinstance(rfc_method(ALICE).process(rfc_response(b"BIGCO\\User")), MethodContinue)


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_one_of_several_devices(position: int) -> None:
    others = [NtCredential(f"device-{i}", nt_password_hash(f"other {i}")) for i in range(3)]
    method = rfc_method(*others[:position], ALICE, *others[position:])
    method.process(rfc_response())
    done = method.process(b"\x03")
    assert isinstance(done, MethodSuccess)
    assert done.credential_key == "laptop"


@pytest.mark.parametrize(
    ("candidates", "code"),
    [
        ([], FailureCode.UNKNOWN_USER),
        ([NtCredential("a", nt_password_hash("clientpass"))], FailureCode.WRONG_CREDENTIAL),
        (
            [NtCredential("a", nt_password_hash("")), NtCredential("b", nt_password_hash("x"))],
            FailureCode.WRONG_CREDENTIAL,
        ),
    ],
)
def test_nothing_fits(candidates: list[NtCredential], code: FailureCode) -> None:
    method = rfc_method(*candidates)
    step = method.process(rfc_response())
    assert isinstance(step, MethodFailure)
    assert step.code is code
    with pytest.raises(MalformedPacket):
        method.process(rfc_response())


def test_each_bit_of_the_response_counts() -> None:
    for bit in range(192):
        wrong = bytearray(RFC_2759["nt_response"])
        wrong[bit // 8] ^= 1 << bit % 8
        assert isinstance(rfc_method(ALICE).process(rfc_response(nt_response=bytes(wrong))), MethodFailure)


def test_one_try_only() -> None:
    method = rfc_method(ALICE)
    with pytest.raises(MalformedPacket):
        method.process(b"\x02")
    with pytest.raises(MalformedPacket):
        method.process(rfc_response())


def test_the_success_response_is_awaited_exactly() -> None:
    for wrong in (b"", b"\x03\x00", b"\x02", b"\x07", rfc_response()):
        method = rfc_method(ALICE)
        method.process(rfc_response())
        with pytest.raises(MalformedPacket):
            method.process(wrong)
        with pytest.raises(MalformedPacket):
            method.process(b"\x03")


def test_a_client_that_does_not_believe_our_proof() -> None:
    method = rfc_method(ALICE)
    method.process(rfc_response())
    step = method.process(b"\x04")
    assert isinstance(step, MethodFailure)
    assert step.code is FailureCode.CLIENT_REFUSED_SERVER


def test_every_truncation_of_the_response_is_refused() -> None:
    whole = rfc_response(b"BIGCO\\User")
    assert Response.parse(whole).name == b"BIGCO\\User"
    for size in range(len(whole)):
        with pytest.raises(MalformedPacket):
            Response.parse(whole[:size])
    with pytest.raises(MalformedPacket):
        Response.parse(whole + b"\0")


@pytest.mark.parametrize("offset", [0, 2, 3, 4])
def test_header_fields_have_to_fit(offset: int) -> None:
    wrong = bytearray(rfc_response())
    wrong[offset] ^= 1
    with pytest.raises(EapError):
        Response.parse(bytes(wrong))


def test_name_limit() -> None:
    assert len(Response.parse(rfc_response(b"a" * 253)).name) == 253
    with pytest.raises(LimitExceeded):
        Response.parse(rfc_response(b"a" * 254))


def sign_in(identity: str, password: str, *candidates: NtCredential) -> tuple[Conversation, MsChapV2Peer]:
    peer = MsChapV2Peer(identity, password, Counter())
    return converse(make_server(["mschapv2"]), peer, candidates), peer


@pytest.mark.parametrize("identity", ["alice", "BIGCO\\alice", "alice@bigco.example", "müller", ""])
def test_sign_in(identity: str) -> None:
    done, peer = sign_in(identity, "clientPass", NtCredential("phone", nt_password_hash("x")), ALICE)
    verdict = done.authenticated
    assert (verdict.identity, verdict.method, verdict.credential_key) == (identity, "eap-mschapv2", "laptop")
    assert verdict.chain_der == ()
    assert peer.succeeded
    assert peer.msk == verdict.msk
    assert len(verdict.msk) == 64
    assert peer.server_name == "gateway.example"
    assert done.asked_for == [identity]


def test_secrets_do_not_show_in_a_repr() -> None:
    done, _ = sign_in("alice", "clientPass", ALICE)
    shown = repr(done.step) + repr(ALICE)
    assert done.authenticated.msk.hex() not in shown
    assert repr(done.authenticated.msk) not in shown
    assert repr(ALICE.nt_hash) not in shown


def test_a_recorded_sign_in_of_wpa_supplicant() -> None:
    seen = named("eapol_test-mschapv2.txt")
    random = [seen["random_identifier"], seen["random_challenge"], bytes(16)]
    server = EapServer(["mschapv2"], "gw", None, lambda size: random.pop(0)[:size])
    server.start()
    assert server.receive(seen["response_identity"]) == NeedCredentials("BIGCO\\alice")
    step = server.provide_credentials([ALICE, NtCredential("phone", nt_password_hash("secret"))])
    assert step == Send(seen["request_challenge"])
    assert server.receive(seen["response_challenge"]) == Send(seen["request_success"])
    assert server.receive(seen["response_success"]) == Authenticated(
        "BIGCO\\alice", "eap-mschapv2", seen["msk"], "phone", ()
    )


def test_unknown_user_and_wrong_password_look_alike() -> None:
    unknown, unknown_peer = sign_in("alice", "guess")
    wrong, wrong_peer = sign_in("alice", "guess", ALICE)
    assert unknown.failed.code == "unknown-user"
    assert wrong.failed.code == "wrong-credential"
    assert unknown.failed.identity == wrong.failed.identity == "alice"
    # The peers' randomness and the server's are the same in both: not a byte tells them apart.
    assert unknown.requests == wrong.requests
    assert unknown.responses == wrong.responses
    assert unknown.failed.packet == wrong.failed.packet == bytes((4, unknown.responses[-1][1], 0, 4))
    assert unknown_peer.succeeded is wrong_peer.succeeded is False
    assert unknown_peer.msk is None


def test_challenges_are_fresh() -> None:
    random = Counter()
    first = converse(make_server(["mschapv2"], random=random), MsChapV2Peer("alice", "x"))
    second = converse(make_server(["mschapv2"], random=random), MsChapV2Peer("alice", "x"))
    assert first.requests[1][10:26] != second.requests[1][10:26]
