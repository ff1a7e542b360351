import weakref
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from aaa.eap.errors import SetupError
from aaa.eap.packet import EapPacket, EapType, response
from aaa.eap.server import Failed, MethodName, Send, Step
from aaa.eap.tls import MAX_RECEIVED_BYTES, EapTlsMethod, EapTlsServer, TlsPrivateKey, TlsVersion
from aaa.eap.tls_fragments import LENGTH_INCLUDED, MORE_FRAGMENTS, START, split_fragment
from tests.peers.eap import TlsPeer
from tests.unit.aaa.eap.authority import CLIENT, NOW, SERVER, Issued, house, issue, rsa_key
from tests.unit.aaa.eap.conversation import Conversation, converse, make_server, tls_server

BOTH = pytest.mark.parametrize("version", TlsVersion)
TLS_ONLY: list[MethodName] = ["tls"]


def peer_of(client: Issued | None, version: TlsVersion | int | None = None, **options: int) -> TlsPeer:
    chain = client.chain if client else []
    key = client.key if client else None
    return TlsPeer("anonymous", chain, key, [house().root.der], version, **options)


def sign_in(peer: TlsPeer, server: EapTlsServer | None = None) -> Conversation:
    return converse(make_server(TLS_ONLY, server), peer)


# --- success ---


@BOTH
def test_both_ends_have_the_same_key(version: TlsVersion) -> None:
    here = house()
    peer = peer_of(here.laptop, version)
    verdict = sign_in(peer).authenticated
    assert peer.succeeded
    assert peer.msk == verdict.msk
    assert len(verdict.msk) == 64
    assert verdict.method == "eap-tls"
    assert verdict.identity == "anonymous"
    assert verdict.credential_key is None
    assert verdict.chain_der == (here.laptop.der, here.issuing.der)


@BOTH
def test_no_two_sessions_share_a_key(version: TlsVersion) -> None:
    assert len({sign_in(peer_of(house().laptop, version)).authenticated.msk for _ in range(3)}) == 3


def test_the_newest_version_is_chosen() -> None:
    done = sign_in(peer_of(house().laptop))
    assert ends_with_protected_success(done)


def ends_with_protected_success(done: Conversation) -> bool:
    """TLS 1.3 needs one more request than 1.2 would: encrypted application data, acknowledged by nothing."""
    _, _, last = split_fragment(EapPacket.parse(done.requests[-1]).data)
    _, _, acknowledgement = split_fragment(EapPacket.parse(done.responses[-1]).data)
    return bool(last) and last[0] == 23 and not acknowledgement


def test_the_shape_of_the_conversation() -> None:
    assert ends_with_protected_success(sign_in(peer_of(house().laptop, TlsVersion.TLS_1_3)))
    done = sign_in(peer_of(house().laptop, TlsVersion.TLS_1_2))
    assert not ends_with_protected_success(done)
    assert EapPacket.parse(done.requests[1]).data == bytes((START,))
    assert EapPacket.parse(done.responses[-1]).data == b"\0"


@BOTH
@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521"])
def test_client_keys(version: TlsVersion, kind: str) -> None:
    curves: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    key: TlsPrivateKey = rsa_key() if kind == "rsa" else ec.generate_private_key(curves[kind])
    client = issue("laptop-2", house().issuing, usage=CLIENT, key=key)
    assert sign_in(peer_of(client, version)).authenticated.chain_der[0] == client.der


@BOTH
def test_an_rsa_gateway(version: TlsVersion) -> None:
    here = house()
    gateway = issue("gateway.example", here.issuing, usage=SERVER, key=rsa_key())
    server = EapTlsServer(gateway.chain, gateway.key, [here.root.der])
    assert sign_in(peer_of(here.laptop, version), server).authenticated.method == "eap-tls"


@BOTH
def test_the_clients_issuer_may_be_known_to_the_server_alone(version: TlsVersion) -> None:
    here = house()
    server = EapTlsServer(here.gateway.chain, here.gateway.key, [here.root.der], intermediates_der=[here.issuing.der])
    peer = TlsPeer("x", [here.laptop.der], here.laptop.key, [here.root.der], version)
    assert sign_in(peer, server).authenticated.chain_der == (here.laptop.der, here.issuing.der)


@BOTH
def test_what_the_client_sends_beside_its_path_is_left_out(version: TlsVersion) -> None:
    here = house()
    stranger = issue("stranger", ca=True)
    peer = TlsPeer(
        "x",
        [here.laptop.der, stranger.der, here.issuing.der, here.root.der],
        here.laptop.key,
        [here.root.der],
        version,
    )
    assert sign_in(peer).authenticated.chain_der == (here.laptop.der, here.issuing.der)


def test_the_names_of_our_authorities_are_sent() -> None:
    here = house()
    other = issue("Second root", ca=True)
    server = EapTlsServer(
        here.gateway.chain,
        here.gateway.key,
        [here.root.der, other.der],
        intermediates_der=[here.issuing.der],
    )
    peer = peer_of(here.laptop, TlsVersion.TLS_1_2)
    sign_in(peer, server)
    names = [name.CN for name in peer._connection.get_client_ca_list()]
    assert names == ["Test root", "Second root", "Test issuing CA"]


# --- fragments ---


@BOTH
@pytest.mark.parametrize("fragment_bytes", [200, 1000, 1400, 60000])
def test_long_chains_in_fragments(version: TlsVersion, fragment_bytes: int) -> None:
    here = house()
    issuing = issue("Long issuing CA", here.root, ca=True, padding_bytes=3000)
    gateway = issue("gateway.example", issuing, usage=SERVER, padding_bytes=2000)
    client = issue("laptop-3", issuing, usage=CLIENT, padding_bytes=3000)
    server = EapTlsServer(gateway.chain, gateway.key, [here.root.der], fragment_bytes=fragment_bytes)
    peer = peer_of(client, version, fragment_bytes=fragment_bytes)
    done = sign_in(peer, server)
    assert done.authenticated.chain_der == (client.der, issuing.der)
    assert peer.msk == done.authenticated.msk
    for packets in (done.requests, done.responses):
        sizes = [len(packet) for packet in packets]
        assert max(sizes) <= fragment_bytes + 10
        assert sum(sizes) > 6000
        if fragment_bytes < 6000:
            flags = [packet[5] for packet in packets if packet[4] == EapType.TLS]
            assert any(flag == LENGTH_INCLUDED | MORE_FRAGMENTS for flag in flags)
            assert any(flag == MORE_FRAGMENTS for flag in flags) == (fragment_bytes < 3000)


def test_the_default_fits_the_smallest_ipv6_path() -> None:
    # IPv6 40, UDP 8, non-ESP marker 4, IKE header 28, SK header 4, AES-CBC IV 16, padding to 16 with its
    # length byte 17 at worst, EAP payload header 4, HMAC-SHA2-512 32.
    done = sign_in(peer_of(house().laptop))
    assert max(len(packet) for packet in done.requests) + 40 + 8 + 4 + 28 + 4 + 16 + 17 + 4 + 32 <= 1280


def test_one_byte_fragments_run_into_the_round_limit() -> None:
    done = sign_in(peer_of(house().laptop, fragment_bytes=1))
    assert done.failed.code == "limit-exceeded"


def test_an_announced_giant_is_refused_at_once() -> None:
    server = make_server(TLS_ONLY)
    begin = server.receive(response(server.start()[1], EapType.IDENTITY, b"x"))
    assert isinstance(begin, Send)
    giant = bytes((LENGTH_INCLUDED | MORE_FRAGMENTS,)) + (MAX_RECEIVED_BYTES + 1).to_bytes(4, "big") + b"\x16"
    step = server.receive(response(begin.packet[1], EapType.TLS, giant))
    assert isinstance(step, Failed)
    assert step.code == "limit-exceeded"


# --- refusals ---


def refused(client: Issued | None, version: TlsVersion | int | None, **options: int) -> tuple[Conversation, TlsPeer]:
    peer = peer_of(client, version, **options)
    return sign_in(peer), peer


def bad_clients() -> dict[str, tuple[Issued | None, str, str]]:
    here = house()
    old_ca = issue("Old CA", here.root, ca=True, not_after=NOW - timedelta(hours=1))
    return {
        "none": (None, "no-client-certificate", "the client sent no certificate"),
        "expired": (
            issue("laptop-old", here.issuing, usage=CLIENT, not_after=NOW - timedelta(hours=1)),
            "expired-certificate",
            "the client's certificate (CN=laptop-old) has expired",
        ),
        "future": (
            issue("laptop-new", here.issuing, usage=CLIENT, not_before=NOW + timedelta(days=1)),
            "not-yet-valid-certificate",
            "the client's certificate (CN=laptop-new) is not valid yet",
        ),
        "expired issuer": (
            issue("laptop-5", old_ca, usage=CLIENT),
            "expired-certificate",
            "a certificate in the client's chain (CN=Old CA) has expired",
        ),
        "stranger": (
            issue("laptop-x", issue("Their root", ca=True), usage=CLIENT),
            "untrusted-certificate",
            "the client's certificate (CN=laptop-x) is of an issuer that is not trusted here",
        ),
        "self-signed": (
            issue("laptop-s", usage=CLIENT),
            "untrusted-certificate",
            "the client's certificate (CN=laptop-s) is self-signed",
        ),
        "forged": (
            issue("laptop-f", issue("Test issuing CA", issue("Test root", ca=True), ca=True), usage=CLIENT),
            "untrusted-certificate",
            "trusted here",
        ),
        "a device as CA": (issue("laptop-d", here.laptop, usage=CLIENT), "untrusted-certificate", "laptop-1"),
        "server certificate": (
            issue("other-gateway", here.issuing, usage=SERVER),
            "wrong-usage",
            "the client's certificate (CN=other-gateway) is not meant to authenticate clients",
        ),
        "weak key": (
            issue("laptop-w", here.issuing, usage=CLIENT, key=rsa_key(1024)),
            "weak-key",
            "the client's certificate (CN=laptop-w) has a key that is too weak",
        ),
    }


@BOTH
@pytest.mark.parametrize("which", list(bad_clients()))
def test_bad_clients_are_refused_with_a_reason(version: TlsVersion, which: str) -> None:
    client, code, words = bad_clients()[which]
    done, peer = refused(client, version, security_level=0)
    assert done.failed.code == code
    assert words in done.failed.reason
    assert done.failed.identity == "anonymous"
    assert peer.succeeded is False
    assert peer.msk is None or version is TlsVersion.TLS_1_2
    assert "alert" in peer.error  # RFC 5216 section 2.1.3: the alert comes before the EAP-Failure


@BOTH
def test_the_verdict_is_known_before_the_peer_has_answered_the_alert(version: TlsVersion) -> None:
    here = house()
    expired = issue("laptop-old", here.issuing, usage=CLIENT, not_after=NOW - timedelta(hours=1))
    peer = peer_of(expired, version)
    server = make_server(TLS_ONLY)
    packet: bytes = server.start()
    while server.decided is None:
        reply = peer.receive(packet)
        assert reply is not None
        step = server.receive(reply)
        assert isinstance(step, Send)
        packet = step.packet
    assert server.decided.code == "expired-certificate"
    # Whatever comes now, that is what it failed for.
    step = server.receive(b"garbage")
    assert isinstance(step, Failed)
    assert step.code == "expired-certificate"
    assert server.decided is None


def test_what_the_client_calls_itself_is_made_printable_and_short() -> None:
    name = "x\x1b[31m\u202e" + "y" * 50
    client = issue(name, issue("Their root", ca=True), usage=CLIENT)
    done, _ = refused(client, TlsVersion.TLS_1_3)
    assert done.failed.reason.isprintable()
    assert len(done.failed.reason) < 256


def test_a_client_that_speaks_old_tls_only() -> None:
    done, _ = refused(house().laptop, SSL.TLS1_1_VERSION, security_level=0)
    assert done.failed.code == "tls-version"


def test_a_server_that_wants_tls_1_3_only() -> None:
    here = house()
    server = EapTlsServer(here.gateway.chain, here.gateway.key, [here.root.der], min_version=TlsVersion.TLS_1_3)
    assert sign_in(peer_of(here.laptop, TlsVersion.TLS_1_2), server).failed.code == "tls-version"
    assert sign_in(peer_of(here.laptop), server).authenticated.method == "eap-tls"


def test_weak_cipher_suites_are_refused() -> None:
    here = house()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0")
    peer = TlsPeer("x", here.laptop.chain, here.laptop.key, [here.root.der])
    peer._connection = SSL.Connection(context, None)
    peer._connection.set_connect_state()
    assert sign_in(peer).failed.code == "no-common-cipher"


@BOTH
def test_a_client_that_does_not_trust_us(version: TlsVersion) -> None:
    here = house()
    stranger = issue("Their root", ca=True)
    peer = TlsPeer("x", here.laptop.chain, here.laptop.key, [stranger.der], version)
    done = sign_in(peer)
    assert done.failed.code == "client-refused-server"
    assert "unknown ca" in done.failed.reason
    assert peer.succeeded is False


def test_no_resumption() -> None:
    here = house()
    first = peer_of(here.laptop, TlsVersion.TLS_1_3)
    sign_in(first)
    session = first._connection.get_session()
    assert session is not None

    second = peer_of(here.laptop, TlsVersion.TLS_1_3)
    second._connection = SSL.Connection(first._connection.get_context(), None)
    second._connection.set_connect_state()
    second._connection.set_session(session)
    done = sign_in(second)
    # The ticket is not honoured: the certificate was shown and checked again.
    assert done.authenticated.chain_der[0] == here.laptop.der
    assert sum(len(packet) for packet in done.responses) > 1000


# --- peers out of line ---


class Meddler(TlsPeer):
    """Changes one answer."""

    change_at = -1
    change_to = b"\0"

    def answer(self, data: bytes) -> bytes:
        answer = super().answer(data)
        self.change_at -= 1
        return self.change_to if self.change_at == -1 else answer


@BOTH
@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x20",
        b"\x80",
        b"\x00" + bytes(200),
        b"\x00\x17\x03\x03\x00\x01\x00",
        b"\x00\x15\x03\x03\x00\x02\x01\x00",
        b"\x00GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_no_answer_can_be_replaced(version: TlsVersion, place: int, data: bytes) -> None:
    here = house()
    plain = sign_in(peer_of(here.laptop, version))
    peer = Meddler("x", here.laptop.chain, here.laptop.key, [here.root.der], version)
    peer.change_at, peer.change_to = place, data
    done = sign_in(peer)
    if place >= len(plain.responses) - 1:
        assert done.authenticated
    else:
        assert done.failed.code == "protocol-error"


@BOTH
def test_a_missing_flight_is_never_a_success(version: TlsVersion) -> None:
    here = house()
    for place in range(8):
        peer = Meddler("x", here.laptop.chain, here.laptop.key, [here.root.der], version)
        peer.change_at, peer.change_to = place, b"\0"
        done = sign_in(peer)
        if isinstance(done.step, Failed):
            assert done.failed.code == "protocol-error"
        else:
            assert peer.msk == done.authenticated.msk


@BOTH
def test_data_behind_the_handshake_is_refused(version: TlsVersion) -> None:
    class Talker(TlsPeer):
        def advance(self, message: bytes) -> bytes:
            before = self._progress
            flight = super().advance(message)
            if before is not self._progress:
                self._connection.send(b"hello")
                flight += self._drain()
            return flight

    here = house()
    peer = Talker("x", here.laptop.chain, here.laptop.key, [here.root.der], version)
    assert sign_in(peer).failed.code == "protocol-error"


def test_a_flight_in_two_messages_is_taken() -> None:
    class Hesitant(TlsPeer):
        held = b""

        def advance(self, message: bytes) -> bytes:
            if self.held:
                flight, self.held = self.held, b""
                return flight
            flight = super().advance(message)
            half = len(flight) // 2
            self.held = flight[half:]
            return flight[:half]

    here = house()
    peer = Hesitant("x", here.laptop.chain, here.laptop.key, [here.root.der], TlsVersion.TLS_1_3)
    assert sign_in(peer).authenticated.chain_der[0] == here.laptop.der


def test_one_failure_leaves_nothing_behind_for_the_next() -> None:
    # OpenSSL's error queue belongs to the thread, and all conversations share one context.
    for client, code, _ in bad_clients().values():
        done, _ = refused(client, None, security_level=0)
        assert done.failed.code == code
        assert sign_in(peer_of(house().laptop)).authenticated


def test_conversations_side_by_side() -> None:
    servers = [make_server(TLS_ONLY) for _ in range(4)]
    peers = [peer_of(house().laptop, version) for version in (*TlsVersion, *TlsVersion)]
    packets: list[bytes] = [server.start() for server in servers]
    finished = 0
    while finished < 4:
        for i, server in enumerate(servers):
            if not packets[i]:
                continue
            reply = peers[i].receive(packets[i])
            assert reply is not None
            step = server.receive(reply)
            if isinstance(step, Send):
                packets[i] = step.packet
            else:
                assert not isinstance(step, Failed)
                packets[i] = b""
                finished += 1
    assert len({peer.msk for peer in peers}) == 4


def test_nothing_is_kept_after_the_end() -> None:
    for client in (house().laptop, None):
        server = make_server(TLS_ONLY)
        peer = peer_of(client)
        begin = server.receive(response(server.start()[1], EapType.IDENTITY, b"x"))
        assert isinstance(begin, Send)
        assert isinstance(server._method, EapTlsMethod)
        connection = weakref.ref(server._method._connection)
        step: Step = begin
        while isinstance(step, Send):
            reply = peer.receive(step.packet)
            assert reply is not None
            step = server.receive(reply)
        assert connection() is None


# --- setup ---


def test_setup_is_checked() -> None:
    here = house()
    with pytest.raises(SetupError):
        EapTlsServer([], here.gateway.key, [here.root.der])
    with pytest.raises(SetupError):
        EapTlsServer(here.gateway.chain, here.gateway.key, [])
    with pytest.raises(SetupError, match="can't use"):
        EapTlsServer(here.gateway.chain, here.laptop.key, [here.root.der])
    with pytest.raises(SetupError, match="can't use"):
        EapTlsServer([b"no certificate"], here.gateway.key, [here.root.der])
    with pytest.raises(SetupError):
        EapTlsServer(here.gateway.chain, here.gateway.key, [here.root.der], fragment_bytes=0)
    assert tls_server().open().eap_type == EapType.TLS
