"""The portal's TLS, without a socket: handshakes through memory."""

from __future__ import annotations

import ssl
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509

from core.audit import SYSTEM
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.certificates import revoke_certificate
from web.deadlines import Deadlines, TooManyWaitError
from web.tls import PortalTls, make_context, portal_certificate


def _client(runtime: Runtime) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=CertificateAuthority.open(runtime).trust_pem())


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """The client's end of a finished handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    ]
    pending = list(ends)
    for _ in range(10):
        for end in pending[:]:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(end)
        if not pending:
            return ends[1]
    raise AssertionError("the handshake does not end")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_browsers_that_trust_the_ca_connect(runtime: Runtime, version: ssl.TLSVersion) -> None:
    """With a chain that leads to the root, and good ciphers only."""
    client = _client(runtime)
    client.maximum_version = client.minimum_version = version
    for name in ("localhost", "127.0.0.1"):
        connection = _handshake(make_context(portal_certificate(runtime)), client, name)
        cipher = connection.cipher()
        assert cipher is not None
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def test_old_tls_is_refused(runtime: Runtime) -> None:
    """TLS 1.1, and TLS 1.2 without forward secrecy."""
    server = make_context(portal_certificate(runtime))
    old = _client(runtime)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        _handshake(server, old)
    weak = _client(runtime)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES256-SHA384:AES128-SHA")
    with pytest.raises(ssl.SSLError):
        _handshake(server, weak)


def test_other_names_do_not_fit(runtime: Runtime) -> None:
    """The certificate names the portal and this machine."""
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(make_context(portal_certificate(runtime)), _client(runtime), "evil.example")


def test_a_new_certificate_is_taken_up_while_running(runtime: Runtime) -> None:
    """As after a renewal; here because the old one was revoked."""
    tls = PortalTls(runtime)
    before = tls.context
    assert not tls.refresh()
    assert tls.context is before
    with runtime.database.transaction() as session:
        revoke_certificate(session, portal_certificate(runtime).serial, "test", SYSTEM)
    assert tls.refresh()
    der = _handshake(tls.context, _client(runtime)).getpeercert(binary_form=True)
    assert der is not None
    assert f"{x509.load_der_x509_certificate(der).serial_number:x}" == portal_certificate(runtime).serial


def test_the_key_is_not_on_the_disk(runtime: Runtime) -> None:
    """Neither before nor after."""
    certificate = portal_certificate(runtime)
    make_context(certificate)
    numbers = certificate.private_key_pem().reveal().splitlines()[1]
    for file in runtime.settings.state_dir.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert numbers not in content
            assert b"PRIVATE KEY" not in content


def test_who_takes_too_long_is_cut_off() -> None:
    """And nobody else; a reader that waits wakes up with the end of the connection."""
    import socket

    slow, slow_peer = socket.socketpair()
    quick, quick_peer = socket.socketpair()
    with slow, slow_peer, quick, quick_peer:
        deadlines = Deadlines(6)
        now = time.monotonic()
        with deadlines.limit(slow, "192.0.2.1", 30):
            assert deadlines.cut_off(now + 29) == 0
            deadlines.request_came(60)
            assert deadlines.cut_off(now + 59) == 0
            assert deadlines.cut_off(now + 61) == 1
            assert slow.recv(1) == b""
        deadlines.request_came(60)
        with deadlines.limit(quick, "192.0.2.1", 30):
            pass
        assert deadlines.cut_off(now + 1000) == 0
        quick_peer.sendall(b"x")
        assert quick.recv(1) == b"x"


def test_and_that_also_where_no_descriptor_is_left() -> None:
    """A flood of connections takes all there are; the watching must not die of it."""
    import resource
    import socket

    slow, slow_peer = socket.socketpair()
    with slow, slow_peer:
        deadlines = Deadlines(6)
        with deadlines.limit(slow, "192.0.2.1", 30):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                assert deadlines.cut_off(time.monotonic() + 31) == 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert slow_peer.recv(1) == b""


def test_of_one_peer_only_so_many_wait_at_a_time() -> None:
    """What has brought its request does not count, nor what others have open."""
    import socket

    deadlines = Deadlines(2)
    waiting, asked, asking, done = threading.Barrier(3), threading.Barrier(2), threading.Event(), threading.Event()

    def serve(*, asks: bool) -> None:
        connection, other = socket.socketpair()
        with connection, other, deadlines.limit(connection, "192.0.2.1", 30):
            waiting.wait(10)
            if asks:
                asking.wait(10)
                deadlines.request_came(30)
                asked.wait(10)
            done.wait(10)

    one, two = socket.socketpair()
    with one, two, ThreadPoolExecutor(2) as threads:
        running = [threads.submit(serve, asks=asks) for asks in (True, False)]
        try:
            waiting.wait(10)
            with pytest.raises(TooManyWaitError), deadlines.limit(one, "192.0.2.1", 30):
                pass
            with deadlines.limit(one, "192.0.2.2", 30):
                pass
            asking.set()
            asked.wait(10)
            with deadlines.limit(one, "192.0.2.1", 30):
                pass
        finally:
            done.set()
        for future in running:
            future.result(10)
