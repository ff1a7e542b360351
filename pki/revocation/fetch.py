"""Fetches OCSP responses and CRLs by HTTP/1.1: small, bounded, and from the address that was checked.

No redirects, no proxies, no cookies, no compression, one request for each connection. Everything ends at one
deadline, the look-up of the name too: a host that says one byte a minute holds nothing up. HTTP itself is h11's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

import h11

from pki.revocation.destinations import Address, Destinations, Target, parse_url
from pki.revocation.evidence import Busy, NotUsable

FETCH_TIMEOUT_S = 10.0
"""Of one fetch, from the look-up of the name to the last byte. A sign-in does not wait that long; the next one finds
what came meanwhile."""
CONNECT_TIMEOUT_S = 2.0
"""For each address, so that one that does not answer leaves time for the next."""
MOST_ADDRESSES = 3
MOST_LOOKUPS = 8
"""Names that are looked up at the same time: a look-up can't be broken off, only left behind."""

_LARGEST_HEAD_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024
_OK = 200

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
Connect = Callable[[Address, Target], Awaitable[Streams]]


class Fetcher:
    """Fetches. Used on one event loop.

    Args:
        resolve: the addresses of a host.
        connect: a connection to an address, with TLS where the target has it.
        timeout_s: of one fetch.
    """

    def __init__(
        self, resolve: Resolve | None = None, connect: Connect | None = None, timeout_s: float = FETCH_TIMEOUT_S
    ) -> None:
        self._resolve = resolve or Resolver().resolve
        self._connect = connect or open_connection
        self._timeout_s = timeout_s

    async def get(self, url: str, destinations: Destinations, *, limit_bytes: int) -> bytes:
        """What stands under a URL.

        Raises:
            NotUsable: it may not be asked, does not answer, or not with a document of at most `limit_bytes`.
        """
        return await self._fetch(url, destinations, b"", "", limit_bytes)

    async def post(
        self, url: str, destinations: Destinations, body: bytes, media_type: str, *, limit_bytes: int
    ) -> bytes:
        """What is answered to a document; raises like `get`."""
        return await self._fetch(url, destinations, body, media_type, limit_bytes)

    async def _fetch(
        self, url: str, destinations: Destinations, body: bytes, media_type: str, limit_bytes: int
    ) -> bytes:
        target = parse_url(url)
        destinations.check_port(target)
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await self._open(target, destinations)
                try:
                    return await _exchange(reader, writer, target, body, media_type, limit_bytes)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise NotUsable(f"no whole answer within {self._timeout_s:g} s") from None
        except h11.RemoteProtocolError as error:
            raise NotUsable(f"the answer is not HTTP: {str(error)[:100]}") from None
        except h11.LocalProtocolError:
            raise NotUsable("the URL has characters that no URL has") from None
        except (OSError, EOFError) as error:
            raise NotUsable(_explained(error)) from None

    async def _open(self, target: Target, destinations: Destinations) -> Streams:
        literal = target.address
        addresses = [literal] if literal is not None else await self._resolve(target.host, target.port)
        problem: NotUsable | OSError = NotUsable("the host has no address")
        for address in addresses[:MOST_ADDRESSES]:
            try:
                destinations.check_address(target, address)
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await self._connect(address, target)
            except TimeoutError:
                problem = NotUsable("it does not answer")
            except (NotUsable, OSError) as error:
                problem = error
        raise problem


class Resolver:
    """Looks names up as the system does, in threads of its own.

    A look-up that hangs can't be ended from outside. It is left to its thread, which does not keep the process from
    ending, and there are never more than `MOST_LOOKUPS` of them.
    """

    def __init__(self) -> None:
        self._under_way = 0

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """The addresses of a host.

        Raises:
            NotUsable: it has none.
            Busy: too many look-ups hang.
        """
        if self._under_way >= MOST_LOOKUPS:
            raise Busy("too many names are being looked up")
        self._under_way += 1
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Address] | str] = loop.create_future()

        def done(result: list[Address] | str) -> None:
            self._under_way -= 1
            if not found.done():
                found.set_result(result)

        def look_up() -> None:
            result: list[Address] | str
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                result = [ip_address(info[4][0]) for info in infos if "%" not in str(info[4][0])]
            except OSError as error:
                result = f"the name {host} can't be looked up: {error.strerror or 'no answer'}"
            except ValueError:
                result = f"the name {host} can't be looked up"
            # The loop may be closed by now; then nobody waits for the answer.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done, result)

        threading.Thread(target=look_up, name="revocation-dns", daemon=True).start()
        result = await found
        if isinstance(result, str):
            raise NotUsable(result)
        return result


async def open_connection(address: Address, target: Target) -> Streams:
    """A TCP connection to this very address; with TLS, the certificate has to be that of the target's host."""
    return await asyncio.open_connection(
        str(address),
        target.port,
        ssl=_tls_context() if target.tls else None,
        server_hostname=target.host if target.tls else None,
        limit=_READ_BYTES,
    )


@lru_cache(maxsize=1)
def _tls_context() -> ssl.SSLContext:
    """By the system's roots, which take a while to load. What is fetched is signed all the same."""
    return ssl.create_default_context()


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: Target,
    body: bytes,
    media_type: str,
    limit_bytes: int,
) -> bytes:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD_BYTES)
    headers = [("Host", target.host_header), ("User-Agent", "ostiary"), ("Accept", "*/*"), ("Connection", "close")]
    if body:
        headers += [("Content-Type", media_type), ("Content-Length", str(len(body)))]
    request = h11.Request(method="POST" if body else "GET", target=target.path, headers=headers)
    for part in (request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()):
        writer.write(http.send(part) or b"")
    await writer.drain()
    document = bytearray()
    received, most = 0, 2 * limit_bytes + _LARGEST_HEAD_BYTES
    while True:
        event = http.next_event()
        match event:
            case h11.NEED_DATA:
                data = await reader.read(_READ_BYTES)
                if not data and http.their_state is h11.SEND_RESPONSE:
                    raise NotUsable("the connection was closed before the answer")
                received += len(data)
                if received > most:
                    # Heads and chunks without end are no document that grows too large.
                    raise NotUsable("the answer has far more around it than in it")
                http.receive_data(data)
            case h11.Response():
                _check_head(event, limit_bytes)
            case h11.Data():
                document += event.data
                if len(document) > limit_bytes:
                    raise NotUsable(f"the answer is larger than {limit_bytes} bytes")
            case h11.EndOfMessage():
                return bytes(document)
            case h11.InformationalResponse():
                continue
            case _:
                raise NotUsable("the answer goes on after its end")


def _check_head(response: h11.Response, limit_bytes: int) -> None:
    if 300 <= response.status_code < 400:
        raise NotUsable(f"it answers HTTP {response.status_code}, and redirects are not followed")
    if response.status_code != _OK:
        raise NotUsable(f"it answers HTTP {response.status_code}")
    headers = dict(response.headers)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise NotUsable("the answer is compressed, which was not asked for")
    length = headers.get(b"content-length", b"0")
    if int(length) > limit_bytes:
        raise NotUsable(f"the answer is larger than {limit_bytes} bytes")


def _explained(error: OSError | EOFError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    number = error.errno if isinstance(error, OSError) else None
    return f"it can't be reached: {os.strerror(number) if number else type(error).__name__}"
