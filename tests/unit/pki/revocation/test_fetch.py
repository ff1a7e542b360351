"""The fetcher against servers that behave, and others. They listen on a unix socket; the names are made up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest

from pki.revocation import fetch as fetch_module
from pki.revocation.destinations import Address, Destinations, Target
from pki.revocation.evidence import Busy, NotUsable
from pki.revocation.fetch import MOST_LOOKUPS, Fetcher, Resolver, Streams

T = TypeVar("T")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PUBLIC, OTHER, LOOPBACK = ip_address("8.8.8.8"), ip_address("9.9.9.9"), ip_address("127.0.0.1")
URL = "http://pki.corp.example/ca.crl?part=1"
LIMIT = 10_000


class World:
    """Names, and a server behind every address that may be asked."""

    def __init__(self, serve: Serve, *answers: Sequence[Address], timeout_s: float = 5.0) -> None:
        self.serve = serve
        self.answers = list(answers or [[PUBLIC]])
        self.looked_up: list[str] = []
        self.connected: list[Address] = []
        self.unreachable: set[Address] = set()
        self.silent: set[Address] = set()
        self.destinations = Destinations((), (80, 443), (), lambda address: False)
        self.fetcher = Fetcher(self._resolve, self._connect, timeout_s)
        self._path = Path()

    async def _resolve(self, host: str, port: int) -> Sequence[Address]:
        self.looked_up.append(f"{host}:{port}")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _connect(self, address: Address, target: Target) -> Streams:
        self.connected.append(address)
        if address in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        if address in self.silent:
            await asyncio.sleep(60)
        return await asyncio.open_unix_connection(str(self._path))

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            self._path = Path(folder, "web")
            server = await asyncio.start_unix_server(self._serve, str(self._path))
            async with server:
                yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self.serve(reader, writer)
        writer.transport.abort()

    def get(self, url: str = URL, limit_bytes: int = LIMIT) -> bytes:
        async def run() -> bytes:
            async with self.up():
                return await self.fetcher.get(url, self.destinations, limit_bytes=limit_bytes)

        return bounded(run())

    def refusal(self, url: str = URL) -> str:
        with pytest.raises(NotUsable) as caught:
            self.get(url)
        return caught.value.message


def bounded(work: Coroutine[None, None, T]) -> T:
    """Run it; nothing here may take long."""
    begin = time.monotonic()
    try:
        return asyncio.run(work)
    finally:
        assert time.monotonic() - begin < 4


async def request_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(response: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(response)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return serve


def ok(body: bytes, *headers: bytes) -> bytes:
    head = b"".join(header + b"\r\n" for header in (b"Content-Length: %d" % len(body), *headers))
    return b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body


class TestAnswers:
    def test_a_document(self) -> None:
        world = World(answering(ok(b"a list")))
        assert world.get() == b"a list"
        assert world.looked_up == ["pki.corp.example:80"]

    def test_what_is_asked(self) -> None:
        seen: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await request_of(reader))
            seen.append(await reader.readexactly(8))
            writer.write(ok(b"an answer"))
            await writer.drain()

        world = World(serve)

        async def run() -> bytes:
            async with world.up():
                return await world.fetcher.post(
                    "http://OCSP.corp.example",
                    world.destinations,
                    b"question",
                    "application/ocsp-request",
                    limit_bytes=99,
                )

        assert bounded(run()) == b"an answer"
        head, body = seen
        assert head.startswith(b"POST / HTTP/1.1\r\n")
        assert b"Host: ocsp.corp.example\r\n" in head
        assert b"Content-Type: application/ocsp-request\r\n" in head
        assert b"Content-Length: 8\r\n" in head
        assert b"cookie" not in head.lower()
        assert b"accept-encoding" not in head.lower()
        assert body == b"question"

    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na l\r\n3\r\nist\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"a list"),
            b"HTTP/1.0 200 OK\r\n\r\na list",
            ok(b"a list", b"Content-Encoding: identity"),
        ],
        ids=["chunked", "continue", "until-close", "identity"],
    )
    def test_each_framing(self, response: bytes) -> None:
        assert World(answering(response)).get() == b"a list"

    def test_one_as_large_as_allowed(self) -> None:
        assert len(World(answering(ok(bytes(LIMIT)))).get()) == LIMIT


class TestWhereItGoes:
    def test_the_address_that_was_checked_is_the_one_that_is_asked(self) -> None:
        """DNS rebinding: the name means something else the second time, but there is no second time."""
        world = World(answering(ok(b"a list")), [PUBLIC], [LOOPBACK])
        assert world.get() == b"a list"
        assert world.looked_up == ["pki.corp.example:80"]
        assert world.connected == [PUBLIC]

    def test_an_inside_address_is_not_asked(self) -> None:
        world = World(answering(ok(b"secret")), [LOOPBACK])
        assert "not a public address" in world.refusal()
        assert world.connected == []

    def test_of_several_addresses_only_those_that_are_allowed(self) -> None:
        world = World(answering(ok(b"a list")), [LOOPBACK, ip_address("10.0.0.1"), PUBLIC])
        assert world.get() == b"a list"
        assert world.connected == [PUBLIC]

    @pytest.mark.parametrize(
        "url",
        ["http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest/meta-data", "http://[::ffff:7f00:1]/"],
    )
    def test_a_literal_address_is_checked_too(self, url: str) -> None:
        world = World(answering(ok(b"secret")))
        assert "not a public address" in world.refusal(url)
        assert (world.looked_up, world.connected) == ([], [])

    @pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost"])
    def test_a_number_that_means_an_address_is_looked_up_and_checked(self, host: str) -> None:
        """The system's resolver takes these for 127.0.0.1."""
        world = World(answering(ok(b"secret")), [LOOPBACK])
        assert "not a public address" in world.refusal(f"http://{host}/")
        assert world.connected == []

    def test_a_port_that_is_not_listed(self) -> None:
        world = World(answering(ok(b"x")))
        assert "port 6379" in world.refusal("http://pki.corp.example:6379/")
        assert (world.looked_up, world.connected) == ([], [])

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_are_not_followed(self, status: int) -> None:
        location = b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:6379/\r\nContent-Length: 0\r\n\r\n" % status
        world = World(answering(location))
        assert "redirects are not followed" in world.refusal()
        assert world.connected == [PUBLIC]

    def test_the_next_address_where_one_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetch_module, "CONNECT_TIMEOUT_S", 0.05)
        world = World(answering(ok(b"a list")), [PUBLIC, OTHER, ip_address("1.1.1.1")])
        world.unreachable, world.silent = {PUBLIC}, {OTHER}
        assert world.get() == b"a list"
        assert world.connected == [PUBLIC, OTHER, ip_address("1.1.1.1")]

    def test_few_addresses_of_many(self) -> None:
        world = World(answering(b""), [PUBLIC] * 50)
        world.unreachable = {PUBLIC}
        assert "Connection refused" in world.refusal()
        assert len(world.connected) == 3

    def test_no_address_at_all(self) -> None:
        assert "no address" in World(answering(b""), []).refusal()


class TestHostileServers:
    @pytest.mark.parametrize(
        ("response", "message"),
        [
            (ok(bytes(LIMIT + 1)), "larger than"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", "larger than"),
            (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(LIMIT + 1), "larger than"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"1000\r\n"
                + bytes(4096)
                + b"\r\n1000\r\n"
                + bytes(4096)
                + b"\r\n1000\r\n"
                + bytes(4096)
                + b"\r\n",
                "larger than",
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9000, "around it"),
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, "around it"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
            (b"HTTP/1.1 500 X\r\n\r\n", "HTTP 500"),
            (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx", "HTTP 206"),
            (ok(b"x", b"Content-Encoding: gzip"), "compressed"),
            (ok(b"x")[:-1], "not HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000, "not HTTP"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "closed"),
            (b"\x00\xff" * 50, "not HTTP"),
            (b"", "closed"),
        ],
        ids=[
            "large",
            "claims-large",
            "large-until-close",
            "large-chunked",
            "chunk-heads",
            "continues",
            "404",
            "500",
            "partial",
            "gzip",
            "short",
            "negative",
            "two-lengths",
            "long-head",
            "ssh",
            "binary",
            "nothing",
        ],
    )
    def test_bytes(self, response: bytes, message: str) -> None:
        assert message in World(answering(response)).refusal()

    def test_one_that_says_nothing(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        assert "no whole answer within 0.2 s" in World(serve, timeout_s=0.2).refusal()

    @pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"])
    def test_one_that_says_a_byte_now_and_then(self, start: bytes) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(start)
            while True:
                await asyncio.sleep(0.02)
                writer.write(b"x")
                await writer.drain()

        assert "no whole answer" in World(serve, timeout_s=0.3).refusal()

    def test_one_that_does_not_read(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(10)

        world = World(serve, timeout_s=0.3)

        async def run() -> bytes:
            async with world.up():
                return await world.fetcher.post(URL, world.destinations, bytes(2_000_000), "x", limit_bytes=9)

        with pytest.raises(NotUsable, match="no whole answer"):
            bounded(run())

    def test_one_that_can_not_be_reached(self) -> None:
        world = World(answering(b""), [PUBLIC])
        world.unreachable = {PUBLIC}
        assert world.refusal() == "it can't be reached: Connection refused"

    def test_a_name_that_takes_for_ever(self) -> None:
        world = World(answering(b""))

        async def resolve(host: str, port: int) -> Sequence[Address]:
            await asyncio.sleep(60)
            return []

        world.fetcher = Fetcher(resolve, timeout_s=0.2)
        assert "no whole answer" in world.refusal()


class TestResolver:
    def test_looks_names_up_outside_the_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def getaddrinfo(host: str, port: int, type: int) -> list[object]:
            time.sleep(0.05)
            return [(2, 1, 6, "", ("8.8.8.8", port)), (10, 1, 6, "", ("fe80::1%eth0", port, 0, 2))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        assert list(bounded(_resolve(Resolver(), "a.example"))) == [PUBLIC]

    @pytest.mark.parametrize("error", [OSError(-2, "Name or service not known"), UnicodeError("label too long")])
    def test_a_name_that_is_none(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def getaddrinfo(host: str, port: int, type: int) -> list[object]:
            raise error

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with pytest.raises(NotUsable, match=r"a\.example"):
            bounded(_resolve(Resolver(), "a.example"))

    def test_look_ups_that_hang_are_left_behind_and_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def getaddrinfo(host: str, port: int, type: int) -> list[object]:
            time.sleep(0.5)
            return [(2, 1, 6, "", ("8.8.8.8", port))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

        async def run() -> None:
            resolver = Resolver()
            waiting = [asyncio.create_task(resolver.resolve("slow.example", 80)) for _ in range(MOST_LOOKUPS)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            # Nobody waits for them any more, but their threads are still there.
            with pytest.raises(Busy):
                await resolver.resolve("slow.example", 80)
            await asyncio.sleep(0.7)
            assert list(await resolver.resolve("slow.example", 80)) == [PUBLIC]

        bounded(run())


async def _resolve(resolver: Resolver, host: str) -> Sequence[Address]:
    return await resolver.resolve(host, 80)
