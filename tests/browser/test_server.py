"""The server in front of the application: its chain, its patience, its stop and its second start."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from core.runtime import Runtime
from pki.authority import CertificateAuthority
from tests.browser.portal import Portal, running_portal
from web.server import CHAIN_FILE, HEAD_S, LEAST_WAITING


def _port(portal: Portal) -> int:
    return portal.settings.web.port


def _most_waiting(portal: Portal) -> int:
    return max(LEAST_WAITING, portal.settings.web.threads // 2)


def _trusting(runtime: Runtime) -> ssl.SSLContext:
    root = CertificateAuthority.open(runtime).root
    return ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())


def _get(portal: Portal, context: ssl.SSLContext, path: str = "/sign-in") -> int:
    connection = http.client.HTTPSConnection("localhost", _port(portal), context=context, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_chain_leads_to_our_root(portal: Portal, portal_runtime: Runtime) -> None:
    """Checked by a client that trusts nothing else; only the public part is a file."""
    assert _get(portal, _trusting(portal_runtime)) == 200
    chain = portal.settings.state_dir / CHAIN_FILE
    assert chain.read_text(encoding="ascii").count("BEGIN CERTIFICATE") == 2
    for file in portal.settings.state_dir.rglob("*"):
        if file.is_file():
            assert b"PRIVATE KEY" not in file.read_bytes()


def test_silent_clients_hold_nobody_up(portal: Portal, portal_runtime: Runtime) -> None:
    """Many more connections than threads, none of which says a word."""
    silent = [socket.create_connection(("127.0.0.1", _port(portal))) for _ in range(64)]
    try:
        started = time.monotonic()
        assert _get(portal, _trusting(portal_runtime)) == 200
        assert time.monotonic() - started < 2.5
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.slow
def test_clients_that_stop_halfway_are_cut_off(portal: Portal, portal_runtime: Runtime) -> None:
    """In the handshake as in the head of a request; afterwards everybody else is served again."""
    context = _trusting(portal_runtime)
    halfway = [socket.create_connection(("127.0.0.1", _port(portal))) for _ in range(_most_waiting(portal) - 1)]
    for connection in halfway:
        connection.sendall(b"\x16\x03\x01")
    head = context.wrap_socket(socket.create_connection(("127.0.0.1", _port(portal))), server_hostname="localhost")
    head.sendall(b"GET /sign-in HTTP/1.1\r\nHost: local")
    halfway.append(head)
    started = time.monotonic()
    try:
        for connection in halfway:
            connection.settimeout(HEAD_S + 5)
            while connection.recv(4096):
                pass  # a TLS alert may come before the end
        assert HEAD_S - 2 < time.monotonic() - started < HEAD_S + 5
    finally:
        for connection in halfway:
            connection.close()
    assert _get(portal, context) == 200


def test_one_address_does_not_hold_all_threads(portal: Portal, portal_runtime: Runtime) -> None:
    """However many connections it leaves halfway, and however often it comes again."""
    context = _trusting(portal_runtime)
    halfway = []
    try:
        for _ in range(2 * portal.settings.web.threads):
            connection = socket.create_connection(("127.0.0.1", _port(portal)), source_address=("127.0.0.2", 0))
            halfway.append(connection)
            connection.sendall(b"\x16\x03\x01")
        started = time.monotonic()
        assert _get(portal, context) == 200
        assert time.monotonic() - started < 2.5
    finally:
        for connection in halfway:
            connection.close()


def test_who_keeps_the_end_open_holds_nobody_up(portal: Portal, portal_runtime: Runtime) -> None:
    """After an answer that ends the connection, the client says nothing more and does not close."""
    context = _trusting(portal_runtime)
    answered = []
    try:
        for _ in range(5):
            raw = socket.create_connection(("127.0.0.1", _port(portal)), timeout=5)
            connection = context.wrap_socket(raw, server_hostname="localhost")
            answered.append(connection)
            connection.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        started = time.monotonic()
        assert _get(portal, context) == 200
        assert time.monotonic() - started < 1.5
    finally:
        for connection in answered:
            connection.close()


def test_what_is_not_tls_gets_no_answer(portal: Portal, portal_runtime: Runtime) -> None:
    """Nothing is served in the clear, and the server goes on."""
    with socket.create_connection(("127.0.0.1", _port(portal)), timeout=5) as plain:
        plain.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: plain.recv(4096), b""))
    assert b"Sign in" not in answer
    assert _get(portal, _trusting(portal_runtime)) == 200


def test_a_second_start_finds_everything_and_makes_a_new_link(tmp_path: Path) -> None:
    """The same CA and certificate; the old first-run link is dead."""
    state = tmp_path / "state"
    with running_portal(state) as first:
        with Runtime.open(first.settings) as runtime:
            context = _trusting(runtime)
        chain = (state / CHAIN_FILE).read_bytes()
        link = first.first_run_link
        assert _get(first, context, link.removeprefix(first.url)) == 200
        port = _port(first)
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(8) == 0
    with running_portal(state, port=port) as second:
        assert (state / CHAIN_FILE).read_bytes() == chain
        assert second.first_run_link != link
        assert _get(second, context, link.removeprefix(first.url)) == 404


def test_a_port_in_use_is_told_in_a_sentence(portal: Portal, tmp_path: Path) -> None:
    """With what to do about it, at once."""
    with (
        pytest.raises(
            AssertionError, match=r"the portal can't listen on 127\.0\.0\.1 port \d+: Address already in use"
        ),
        running_portal(tmp_path / "other", port=_port(portal)),
    ):
        raise RuntimeError("two portals listen on one port")
