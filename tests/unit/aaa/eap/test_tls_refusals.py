from datetime import timedelta

import pytest
from OpenSSL import SSL

from aaa.eap.server import Failed, Send
from aaa.eap.tls import EapTlsServer, TlsVersion
from tests.peers.eap import TlsPeer
from tests.unit.aaa.eap.authority import CLIENT, NOW, SERVER, Issued, house, issue, rsa_key
from tests.unit.aaa.eap.conversation import Conversation, make_server, peer_of, tls_sign_in

BOTH = pytest.mark.parametrize("version", TlsVersion)


def refused(client: Issued | None, version: TlsVersion | int | None, **options: int) -> tuple[Conversation, TlsPeer]:
    peer = peer_of(client, version, **options)
    return tls_sign_in(peer), peer


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
    server = make_server(["tls"])
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
    assert tls_sign_in(peer_of(here.laptop, TlsVersion.TLS_1_2), server).failed.code == "tls-version"
    assert tls_sign_in(peer_of(here.laptop), server).authenticated.method == "eap-tls"


def test_weak_cipher_suites_are_refused() -> None:
    here = house()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0")
    peer = TlsPeer("x", here.laptop.chain, here.laptop.key, [here.root.der])
    peer._connection = SSL.Connection(context, None)
    peer._connection.set_connect_state()
    assert tls_sign_in(peer).failed.code == "no-common-cipher"


@BOTH
def test_a_client_that_does_not_trust_us(version: TlsVersion) -> None:
    here = house()
    stranger = issue("Their root", ca=True)
    peer = TlsPeer("x", here.laptop.chain, here.laptop.key, [stranger.der], version)
    done = tls_sign_in(peer)
    assert done.failed.code == "client-refused-server"
    assert "unknown ca" in done.failed.reason
    assert peer.succeeded is False


def test_one_failure_leaves_nothing_behind_for_the_next() -> None:
    # OpenSSL's error queue belongs to the thread, and all conversations share one context.
    for client, code, _ in bad_clients().values():
        done, _ = refused(client, None, security_level=0)
        assert done.failed.code == code
        assert tls_sign_in(peer_of(house().laptop)).authenticated
