"""EAP-TTLS and PEAP, both ends in memory."""

from __future__ import annotations

import pytest

from aaa.eap.mschapv2 import nt_password_hash
from aaa.eap.peap_tlvs import CompoundKeys, Result
from aaa.eap.server import NeedPassword, NtCredential, PasswordPrompt, PasswordRight, PasswordVerdict, PasswordWrong
from aaa.eap.tls import TlsVersion
from aaa.eap.ttls_avps import Avp, AvpCode, avps_to_bytes
from tests.peers.eap import EapPeer, GtcPeer, MsChapV2Peer, PeapPeer, TtlsPeer, TunnelPeer
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import Conversation, converse, inside_tunnels, make_server

ALICE = NtCredential("laptop", nt_password_hash("secret"))
VERSIONS = pytest.mark.parametrize("version", list(TlsVersion))
TUNNELS = pytest.mark.parametrize("tunnel", [TtlsPeer, PeapPeer])


def check(question: NeedPassword) -> PasswordVerdict:
    right = question.password == "secret" and question.identity == "alice"
    return PasswordRight("laptop") if right else PasswordWrong()


def peer_of(tunnel: type[TunnelPeer], inner: EapPeer, version: TlsVersion | None = None) -> TunnelPeer:
    return tunnel("anonymous@example.org", inner, [house().root.der], version)


def sign_in(peer: TunnelPeer, *, binding_required: bool = True) -> Conversation:
    server = make_server(["ttls", "peap"], inside=inside_tunnels(binding_required=binding_required))
    return converse(server, peer, [ALICE], check)


@VERSIONS
@TUNNELS
@pytest.mark.parametrize("inner", ["mschapv2", "gtc"])
def test_sign_in(tunnel: type[TunnelPeer], inner: str, version: TlsVersion) -> None:
    inside = MsChapV2Peer("alice", "secret") if inner == "mschapv2" else GtcPeer("alice", "secret")
    peer = peer_of(tunnel, inside, version)
    verdict = sign_in(peer).authenticated
    assert (verdict.identity, verdict.credential_key) == ("alice", "laptop")
    assert verdict.method == ("eap-ttls" if tunnel is TtlsPeer else "eap-peap")
    assert peer.succeeded
    assert peer.msk == verdict.msk
    assert len(verdict.msk) == 64


@TUNNELS
@pytest.mark.parametrize("inner", ["mschapv2", "gtc"])
def test_wrong_password(tunnel: type[TunnelPeer], inner: str) -> None:
    inside = MsChapV2Peer("alice", "guess") if inner == "mschapv2" else GtcPeer("alice", "guess")
    peer = peer_of(tunnel, inside)
    failed = sign_in(peer).failed
    assert (failed.code, failed.identity) == ("wrong-credential", "alice")
    if isinstance(peer, PeapPeer):
        assert peer.result is Result.FAILURE


@pytest.mark.parametrize(
    ("password", "code"), [("secret", None), ("guess", "wrong-credential"), ("", "wrong-credential")]
)
def test_pap(password: str, code: str | None) -> None:
    avps = [Avp(AvpCode.USER_NAME, b"alice"), Avp(AvpCode.USER_PASSWORD, password.encode().ljust(16, b"\0"))]
    peer = TtlsPeer("anonymous", GtcPeer(""), [house().root.der], avps=avps_to_bytes(avps))
    done = sign_in(peer)
    if code is None:
        assert done.authenticated.msk == peer.msk
        assert done.passwords == [NeedPassword("alice", "secret", can_ask=False)]
    else:
        assert done.failed.code == code
    # An empty password is never asked about: a directory would take it for no question at all.
    assert all(question.password for question in done.passwords)


@TUNNELS
def test_gtc_can_ask_again(tunnel: type[TunnelPeer]) -> None:
    answers = {"secret": PasswordPrompt("Code: "), "123456": PasswordRight("laptop")}
    inner = GtcPeer("alice", "secret", "123456")
    server = make_server(["ttls", "peap"], inside=inside_tunnels("gtc"))
    done = converse(server, peer_of(tunnel, inner), check=lambda question: answers[question.password])
    assert done.authenticated.credential_key == "laptop"
    assert inner.prompts == [b"Password: ", b"Code: "]
    assert "secret" not in repr(done.passwords)


def test_prompts_have_an_end() -> None:
    asked: list[bool] = []

    def once_more(question: NeedPassword) -> PasswordVerdict:
        asked.append(question.can_ask)
        return PasswordPrompt("Again: ") if question.can_ask else PasswordWrong()

    server = make_server(["peap"], inside=inside_tunnels("gtc"))
    done = converse(server, peer_of(PeapPeer, GtcPeer("alice", *"abcdefgh")), check=once_more)
    assert done.failed.code == "wrong-credential"
    assert asked == [True, True, True, False]


def test_one_nak_inside() -> None:
    done = sign_in(peer_of(PeapPeer, GtcPeer("alice", "secret")))
    assert done.authenticated.identity == "alice"
    server = make_server(["peap"], inside=inside_tunnels("mschapv2"))
    assert converse(server, peer_of(PeapPeer, GtcPeer("alice", "secret"))).failed.code == "no-common-method"


class _ForgedBinding(PeapPeer):
    def binding(self, keys: CompoundKeys) -> bytes:
        return super().binding(CompoundKeys(bytes(20), keys.msk))


class _NoBinding(PeapPeer):
    binds = False


@pytest.mark.parametrize("required", [True, False])
def test_a_cryptobinding_of_another_tunnel(required: bool) -> None:
    done = sign_in(peer_of(_ForgedBinding, MsChapV2Peer("alice", "secret")), binding_required=required)
    assert done.failed.code == "protocol-error"
    assert "cryptobinding" in done.failed.reason


def test_no_cryptobinding() -> None:
    done = sign_in(peer_of(_NoBinding, MsChapV2Peer("alice", "secret")))
    assert done.failed.code == "protocol-error"
    peer = peer_of(_NoBinding, MsChapV2Peer("alice", "secret"))
    assert sign_in(peer, binding_required=False).authenticated.msk == peer.msk
