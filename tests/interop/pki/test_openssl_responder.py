"""OCSP and CRLs of Debian's openssl, over real sockets on the loopback address, which the operator has listed."""

from __future__ import annotations

import asyncio
import http.server
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from core.settings import RevocationSettings, TrustedAuthoritySettings
from pki.foreign import ForeignAuthorities, ForeignClient, TrustedAuthority
from pki.revocation.evidence import NOTHING_STAPLED, PathStatus, RevocationState
from pki.revocation.fetch import Resolver
from pki.revocation.service import RevocationService, is_own_address
from tests.lab.certificates import Identity, LabAuthority, certificate_pem, key_pem, now
from tests.lab.namespaces import Lab, link
from tests.lab.processes import Process
from tests.lab.publisher import Publisher, free_port, http_command, wait_until_ready

pytestmark = pytest.mark.interop

GOOD, REVOKED, UNKNOWN = RevocationState.GOOD, RevocationState.REVOKED, RevocationState.UNKNOWN
LOOPBACK = (ip_network("127.0.0.1"),)


def access(*urls: str) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
            for url in urls
        ]
    )


def points(*urls: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None) for url in urls]
    )


class Scene:
    """An authority with what it publishes, and the product's side of the question."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.authority = LabAuthority.root("Corporate Root")
        self.publisher = Publisher(directory / "public", self.authority)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"

    def client(
        self, *extensions: x509.ExtensionType, revoked: str = "", authority: LabAuthority | None = None
    ) -> Identity:
        """A certificate, and its line in the index."""
        names = [x509.RFC822Name("alice@corp.example")]
        identity = (authority or self.authority).issue("alice", names, *extensions, usage="client")
        if authority is None:
            self.publisher.knows(identity.certificate, revoked=revoked)
        return identity

    def serve(self, command: list[str]) -> Process:
        """A server on the scene's port."""
        process = Process(command, log_file=self._directory / "server.log")
        self._stack.callback(process.kill)
        return wait_until_ready(process)

    def serve_lists(self) -> None:
        """The CRL, signed now, by HTTP."""
        self.publisher.write_crl("ca.crl")
        self.serve(http_command(self.publisher.directory, self.port))

    def check(self, identity: Identity, **changes: Any) -> PathStatus:
        """What a gateway finds out."""
        values = {"user_from": "mail", "allowed_hosts": LOOPBACK, "allowed_ports": (80, self.port), **changes}
        settings = TrustedAuthoritySettings(name="corporate", file=Path("corporate.pem"), **values)
        foreign = ForeignAuthorities([TrustedAuthority(settings, (self.authority.certificate,), ())])
        client = foreign.verify([_der(one) for one in (identity.certificate, *identity.intermediates)], now())
        return ask(foreign, client)


def ask(foreign: ForeignAuthorities, client: ForeignClient) -> PathStatus:
    """Through the service, as the gateway does."""
    posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    answers: list[PathStatus] = []
    service = RevocationService(foreign, RevocationSettings(), (), posted.put)
    service.start()
    try:
        service.check(client.authority, client.path, NOTHING_STAPLED, answers.append)
        posted.get(timeout=6)()
    finally:
        service.stop()
    return answers[0]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


class TestOcsp:
    @pytest.mark.parametrize("delegated", [False, True], ids=["by-the-ca", "by-a-delegate"])
    def test_good_and_revoked(self, scene: Scene, delegated: bool) -> None:
        good, revoked = scene.client(access(scene.url)), scene.client(access(scene.url), revoked="keyCompromise")
        delegate = scene.authority.issue("OCSP", [x509.DNSName("ocsp")], x509.OCSPNoCheck(), usage="ocsp")
        scene.serve(scene.publisher.ocsp_command(scene.port, delegate if delegated else None))
        assert scene.check(good).state is GOOD
        status = scene.check(revoked)
        assert status.state is REVOKED
        assert "(keyCompromise)" in status.reason

    def test_without_an_end(self, scene: Scene) -> None:
        """openssl writes no nextUpdate unless it is told to."""
        identity = scene.client(access(scene.url))
        scene.serve([*scene.publisher.ocsp_command(scene.port)[:-2]])
        assert scene.check(identity).state is GOOD

    def test_by_name_and_without_certificates(self, scene: Scene) -> None:
        identity = scene.client(access(scene.url))
        scene.serve(scene.publisher.ocsp_command(scene.port, None, "-nmin", "5", "-resp_no_certs"))
        assert scene.check(identity).state is GOOD

    def test_by_key_and_with_another_hash(self, scene: Scene) -> None:
        identity = scene.client(access(scene.url))
        options = ("-nmin", "5", "-resp_key_id", "-rmd", "sha512")
        scene.serve(scene.publisher.ocsp_command(scene.port, None, *options))
        assert scene.check(identity).state is GOOD

    def test_signed_with_sha1(self, scene: Scene) -> None:
        identity = scene.client(access(scene.url))
        scene.serve(scene.publisher.ocsp_command(scene.port, None, "-nmin", "5", "-rmd", "sha1"))
        status = scene.check(identity)
        assert (status.state, "weak hash" in status.reason) == (UNKNOWN, True)

    def test_a_certificate_that_it_does_not_know(self, scene: Scene) -> None:
        names = [x509.RFC822Name("alice@corp.example")]
        identity = scene.authority.issue("alice", names, access(scene.url), usage="client")
        scene.serve(scene.publisher.ocsp_command(scene.port))
        status = scene.check(identity)
        assert (status.state, "does not know" in status.reason) == (UNKNOWN, True)

    def test_a_responder_of_another_ca(self, scene: Scene, tmp_path: Path) -> None:
        identity = scene.client(access(scene.url))
        stranger = LabAuthority.root("Corporate Root")
        publisher = Publisher(tmp_path / "stranger", stranger)
        publisher.knows(identity.certificate)
        scene.serve(publisher.ocsp_command(scene.port))
        assert scene.check(identity).state is UNKNOWN

    def test_nobody_there(self, scene: Scene) -> None:
        status = scene.check(scene.client(access(scene.url)))
        assert (status.state, "Connection refused" in status.reason) == (UNKNOWN, True)

    def test_the_operators_responder(self, scene: Scene) -> None:
        """Its address counts as listed, since the operator wrote it."""
        identity = scene.client(access("http://192.0.2.99/"))
        scene.serve(scene.publisher.ocsp_command(scene.port))
        status = scene.check(identity, ocsp_urls=(scene.url,), allowed_hosts=(), allowed_ports=(80,))
        assert status.state is GOOD


class TestCrl:
    def test_good_and_revoked(self, scene: Scene) -> None:
        good, revoked = (
            scene.client(points(f"{scene.url}ca.crl")),
            scene.client(points(f"{scene.url}ca.crl"), revoked="superseded"),
        )
        scene.serve_lists()
        assert scene.check(good).state is GOOD
        status = scene.check(revoked)
        assert (status.state, "(superseded)" in status.reason) == (REVOKED, True)

    def test_after_ocsp_that_is_down(self, scene: Scene) -> None:
        dead = f"http://127.0.0.1:{free_port()}/"
        identity = scene.client(access(dead), points(f"{scene.url}ca.crl"))
        scene.serve_lists()
        assert scene.check(identity).state is GOOD

    def test_a_revoked_ca_in_the_middle(self, scene: Scene) -> None:
        middle = scene.authority.below("Corporate Issuing", points(f"{scene.url}ca.crl"))
        scene.publisher.knows(middle.certificate, revoked="CACompromise")
        identity = scene.client(authority=middle)
        scene.serve_lists()
        assert scene.check(identity).state is REVOKED

    def test_pem_is_none(self, scene: Scene) -> None:
        identity = scene.client(points(f"{scene.url}crl.pem"))
        scene.serve_lists()
        assert scene.check(identity).state is UNKNOWN

    def test_a_file_that_is_not_there(self, scene: Scene) -> None:
        identity = scene.client(points(f"{scene.url}other.crl"))
        scene.serve_lists()
        status = scene.check(identity)
        assert (status.state, "HTTP 404" in status.reason) == (UNKNOWN, True)


class TestWhereItGoes:
    def test_loopback_is_not_asked_unless_it_is_listed(self, scene: Scene) -> None:
        identity = scene.client(access(scene.url))
        server = scene.serve(scene.publisher.ocsp_command(scene.port))
        status = scene.check(identity, allowed_hosts=())
        assert (status.state, "this gateway's" in status.reason) == (UNKNOWN, True)
        assert scene.check(identity, allowed_hosts=("127.0.0.1",)).state is GOOD
        assert server.returncode is None

    def test_a_listed_name_does_not_lead_to_this_machine(self, scene: Scene) -> None:
        """`localhost` stands for every name whose DNS somebody else writes."""
        identity = scene.client(access(f"http://localhost:{scene.port}/"))
        scene.serve(scene.publisher.ocsp_command(scene.port))
        for allowed in ((), ("localhost",)):
            status = scene.check(identity, allowed_hosts=allowed)
            assert (status.state, "this gateway's" in status.reason) == (UNKNOWN, True)
        assert scene.check(identity, allowed_hosts=("127.0.0.1", "::1")).state is GOOD

    @pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"])
    def test_other_spellings_of_it_neither(self, scene: Scene, host: str) -> None:
        identity = scene.client(access(f"http://{host}:{scene.port}/"))
        scene.serve(scene.publisher.ocsp_command(scene.port))
        assert scene.check(identity, allowed_hosts=()).state is UNKNOWN

    def test_a_port_that_is_not_listed(self, scene: Scene) -> None:
        identity = scene.client(access(scene.url))
        scene.serve(scene.publisher.ocsp_command(scene.port))
        status = scene.check(identity, allowed_ports=(80,))
        assert (status.state, "is not in allowed_ports" in status.reason) == (UNKNOWN, True)

    def test_a_redirect_inside_is_not_followed(self, scene: Scene) -> None:
        asked: list[str] = []

        class Redirect(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(self.path)
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/inside")  # type: ignore[attr-defined]
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", scene.port), Redirect)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            status = scene.check(scene.client(access(scene.url)))
        finally:
            server.shutdown()
            server.server_close()
        assert (status.state, "redirects are not followed" in status.reason) == (UNKNOWN, True)
        assert asked == ["/"]

    def test_which_addresses_are_ours(self) -> None:
        with Lab() as lab:
            here, there = lab.namespace("here"), lab.namespace("there")
            link(
                here,
                there,
                names=("eth0", "eth0"),
                first_addresses=("192.0.2.1/24", "2001:db8::1/64"),
                second_addresses=("192.0.2.2/24", "2001:db8::2/64"),
            )
            own = {
                text: here.call(lambda text=text: is_own_address((), ip_address(text)))  # type: ignore[misc]
                for text in ("192.0.2.1", "2001:db8::1", "127.0.0.1", "::1", "192.0.2.2", "2001:db8::2", "8.8.8.8")
            }
        assert [text for text, is_own in own.items() if is_own] == ["192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"]


class TestTime:
    @pytest.mark.parametrize("speaks", [False, True], ids=["silent", "a-byte-now-and-then"])
    def test_a_hostile_server_holds_nothing_up(self, scene: Scene, speaks: bool) -> None:
        stop = threading.Event()

        def serve(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection:
                if speaks:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(0.1):
                    if speaks:
                        connection.sendall(b"X")

        with socket.create_server(("127.0.0.1", scene.port)) as listener:
            thread = threading.Thread(target=serve, args=(listener,), daemon=True)
            thread.start()
            begin = time.monotonic()
            status = scene.check(scene.client(access(scene.url)))
            elapsed = time.monotonic() - begin
            stop.set()
            thread.join(5)
        assert (status.state, "no answer in time" in status.reason) == (UNKNOWN, True)
        assert 2.5 < elapsed < 4.5

    def test_an_address_that_swallows_packets(self, scene: Scene) -> None:
        """Nobody answers there at all, not even with a refusal."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", scene.port))
            # A full backlog: the kernel drops what comes.
            listener.listen(0)
            fillers = []
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", scene.port))
                fillers.append(filler)
            begin = time.monotonic()
            status = scene.check(scene.client(access(scene.url)))
            elapsed = time.monotonic() - begin
            for filler in fillers:
                filler.close()
        assert (status.state, "it does not answer" in status.reason) == (UNKNOWN, True)
        assert elapsed < 4.5


def test_tls_is_checked(scene: Scene, tmp_path: Path) -> None:
    """By the system's roots, which don't know the lab's."""
    server = LabAuthority.root().issue("localhost", [x509.DNSName("localhost")], usage="server")
    (tmp_path / "tls.pem").write_text(certificate_pem(server.certificate) + key_pem(server.key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True)
        except ssl.SSLError:
            connection.close()

    with socket.create_server(("127.0.0.1", scene.port)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        url = f"https://localhost:{scene.port}/"
        status = scene.check(scene.client(access(url)), allowed_hosts=("127.0.0.1", "::1"))
        thread.join(5)
    assert (status.state, "TLS certificate is not accepted" in status.reason) == (UNKNOWN, True)


def test_names_are_looked_up_as_the_system_does() -> None:

    async def look_up() -> list[Any]:
        return list(await Resolver().resolve("localhost", 80))

    assert ip_address("127.0.0.1") in asyncio.run(look_up())


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
