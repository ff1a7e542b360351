import weakref

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from aaa.eap.errors import SetupError
from aaa.eap.packet import EapPacket, EapType, response
from aaa.eap.server import Failed, Send, Step
from aaa.eap.tls import MAX_RECEIVED_BYTES, EapTlsMethod, EapTlsServer, TlsPrivateKey, TlsVersion
from aaa.eap.tls_fragments import LENGTH_INCLUDED, MORE_FRAGMENTS, START, split_fragment
from tests.peers.eap import TlsPeer
from tests.unit.aaa.eap.authority import CLIENT, SERVER, house, issue, rsa_key
from tests.unit.aaa.eap.conversation import Conversation, make_server, peer_of, tls_server, tls_sign_in

BOTH = pytest.mark.parametrize("version", TlsVersion)


# --- success ---


@BOTH
def test_both_ends_have_the_same_key(version: TlsVersion) -> None:
    here = house()
    peer = peer_of(here.laptop, version)
    verdict = tls_sign_in(peer).authenticated
    assert peer.succeeded
    assert peer.msk == verdict.msk
    assert len(verdict.msk) == 64
    assert verdict.method == "eap-tls"
    assert verdict.identity == "anonymous"
    assert verdict.credential_key is None
    assert verdict.chain_der == (here.laptop.der, here.issuing.der)


@BOTH
def test_no_two_sessions_share_a_key(version: TlsVersion) -> None:
    assert len({tls_sign_in(peer_of(house().laptop, version)).authenticated.msk for _ in range(3)}) == 3


def test_the_newest_version_is_chosen() -> None:
    done = tls_sign_in(peer_of(house().laptop))
    assert ends_with_protected_success(done)


def ends_with_protected_success(done: Conversation) -> bool:
    """TLS 1.3 needs one more request than 1.2 would: encrypted application data, acknowledged by nothing."""
    _, _, last = split_fragment(EapPacket.parse(done.requests[-1]).data)
    _, _, acknowledgement = split_fragment(EapPacket.parse(done.responses[-1]).data)
    return bool(last) and last[0] == 23 and not acknowledgement


def test_the_shape_of_the_conversation() -> None:
    assert ends_with_protected_success(tls_sign_in(peer_of(house().laptop, TlsVersion.TLS_1_3)))
    done = tls_sign_in(peer_of(house().laptop, TlsVersion.TLS_1_2))
    assert not ends_with_protected_success(done)
    assert EapPacket.parse(done.requests[1]).data == bytes((START,))
    assert EapPacket.parse(done.responses[-1]).data == b"\0"


@BOTH
@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521"])
def test_client_keys(version: TlsVersion, kind: str) -> None:
    curves: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    key: TlsPrivateKey = rsa_key() if kind == "rsa" else ec.generate_private_key(curves[kind])
    client = issue("laptop-2", house().issuing, usage=CLIENT, key=key)
    assert tls_sign_in(peer_of(client, version)).authenticated.chain_der[0] == client.der


@BOTH
def test_an_rsa_gateway(version: TlsVersion) -> None:
    here = house()
    gateway = issue("gateway.example", here.issuing, usage=SERVER, key=rsa_key())
    server = EapTlsServer(gateway.chain, gateway.key, [here.root.der])
    assert tls_sign_in(peer_of(here.laptop, version), server).authenticated.method == "eap-tls"


@BOTH
def test_the_clients_issuer_may_be_known_to_the_server_alone(version: TlsVersion) -> None:
    here = house()
    server = EapTlsServer(here.gateway.chain, here.gateway.key, [here.root.der], intermediates_der=[here.issuing.der])
    peer = TlsPeer("x", [here.laptop.der], here.laptop.key, [here.root.der], version)
    assert tls_sign_in(peer, server).authenticated.chain_der == (here.laptop.der, here.issuing.der)


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
    assert tls_sign_in(peer).authenticated.chain_der == (here.laptop.der, here.issuing.der)


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
    tls_sign_in(peer, server)
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
    done = tls_sign_in(peer, server)
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
    done = tls_sign_in(peer_of(house().laptop))
    assert max(len(packet) for packet in done.requests) + 40 + 8 + 4 + 28 + 4 + 16 + 17 + 4 + 32 <= 1280


def test_one_byte_fragments_run_into_the_round_limit() -> None:
    done = tls_sign_in(peer_of(house().laptop, fragment_bytes=1))
    assert done.failed.code == "limit-exceeded"


def test_an_announced_giant_is_refused_at_once() -> None:
    server = make_server(["tls"])
    begin = server.receive(response(server.start()[1], EapType.IDENTITY, b"x"))
    assert isinstance(begin, Send)
    giant = bytes((LENGTH_INCLUDED | MORE_FRAGMENTS,)) + (MAX_RECEIVED_BYTES + 1).to_bytes(4, "big") + b"\x16"
    step = server.receive(response(begin.packet[1], EapType.TLS, giant))
    assert isinstance(step, Failed)
    assert step.code == "limit-exceeded"


def test_no_resumption() -> None:
    here = house()
    first = peer_of(here.laptop, TlsVersion.TLS_1_3)
    tls_sign_in(first)
    session = first._connection.get_session()
    assert session is not None

    second = peer_of(here.laptop, TlsVersion.TLS_1_3)
    second._connection = SSL.Connection(first._connection.get_context(), None)
    second._connection.set_connect_state()
    second._connection.set_session(session)
    done = tls_sign_in(second)
    # The ticket is not honoured: the certificate was shown and checked again.
    assert done.authenticated.chain_der[0] == here.laptop.der
    assert sum(len(packet) for packet in done.responses) > 1000


def test_conversations_side_by_side() -> None:
    servers = [make_server(["tls"]) for _ in range(4)]
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
        server = make_server(["tls"])
        peer = peer_of(client)
        begin = server.receive(response(server.start()[1], EapType.IDENTITY, b"x"))
        assert isinstance(begin, Send)
        assert isinstance(server._method, EapTlsMethod)
        connection = weakref.ref(server._method._link._connection)
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
