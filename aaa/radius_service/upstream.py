"""The thread that talks to the company's RADIUS servers: one connected socket for each, and the requester's timer."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from aaa.radius.client import Done, Items, RadiusRequester, Upstream, Verdict
from aaa.radius.wire import MAX_PACKET_BYTES
from aaa.radius_service.clients import read_secret
from core.secrets import Secret
from core.settings import UpstreamSettings

LONGEST_SLEEP_S = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Question:
    items: Items
    eap: bytes
    server: int | None
    done: Done


class UpstreamThread:
    """Implements `aaa.backend.pass_through.Upstreams`.

    Args:
        settings: the servers, and how long they are waited for.
        post: brings a callable to the caller's thread.

    Raises:
        SharedKeyError: a secret can't be used.
    """

    def __init__(self, settings: UpstreamSettings, post: Callable[[Callable[[], None]], None]) -> None:
        self._servers = settings.servers
        self.domains = frozenset(settings.domains)
        self.user_name_is_proved = settings.user_name_is_proved
        self._post = post
        upstreams = [Upstream(one.name, Secret(read_secret(one.secret_file))) for one in settings.servers]
        self._requester = RadiusRequester(
            upstreams, settings.timeouts_s, settings.dead_time_s, os.urandom, self._send
        )
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._sockets = [self._open(index) for index in range(len(upstreams))]
        self._thread = threading.Thread(target=self._run, name="radius-upstream", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what waits is answered no more."""
        self._questions.put(None)
        self._wake()
        if self._thread.is_alive():
            self._thread.join(5.0)
        for opened in (*self._sockets, self._wake_receive, self._wake_send):
            opened.close()

    def ask(self, items: Items, eap: bytes, server: int | None, done: Done) -> None:
        """See `Upstreams`."""
        self._questions.put(_Question(items, eap, server, done))
        self._wake()

    def name_of(self, server: int) -> str:
        """See `Upstreams`."""
        return self._servers[server].name

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_send.send(b"\0")

    def _open(self, index: int) -> socket.socket:
        server = self._servers[index]
        opened = socket.socket(socket.AF_INET if server.address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        opened.setblocking(False)
        return opened

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_receive, selectors.EVENT_READ, None)
            for index, opened in enumerate(self._sockets):
                selector.register(opened, selectors.EVENT_READ, index)
            while True:
                try:
                    if not self._turn(selector):
                        return
                except Exception:
                    # A thread that died here would leave every later sign-in without an answer.
                    _log.exception("the RADIUS client stumbled")

    def _turn(self, selector: selectors.BaseSelector) -> bool:
        due = self._requester.get_timer()
        wait_s = LONGEST_SLEEP_S if due is None else max(0.0, due - time.monotonic())
        for key, _ in selector.select(min(wait_s, LONGEST_SLEEP_S)):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wake_receive.recv(4096)
            else:
                self._receive(key.data)
        while True:
            try:
                question = self._questions.get_nowait()
            except queue.Empty:
                break
            if question is None:
                return False
            done = partial(self._answer, question.done)
            self._requester.ask(question.items, question.eap, question.server, time.monotonic(), done)
        self._requester.handle_timer(time.monotonic())
        return True

    def _receive(self, index: int) -> None:
        try:
            data = self._sockets[index].recv(MAX_PACKET_BYTES + 1)
        except OSError:
            # Nobody listens there, says an ICMP message; the requests' time runs.
            return
        if not self._requester.receive_datagram(index, data, time.monotonic()):
            _log.debug("no answer of a RADIUS server", server=self.name_of(index), bytes=len(data))

    def _send(self, index: int, data: bytes) -> None:
        server, opened = self._servers[index], self._sockets[index]
        # What can't be sent is lost, as it may be on the way: the server counts as silent.
        with contextlib.suppress(OSError):
            try:
                opened.send(data)
            except OSError:
                # Not connected yet, the network has changed, or nobody listened there the last time. On a connected
                # socket nothing arrives from any other address or port.
                opened.connect((str(server.address), server.port))
                opened.send(data)

    def _answer(self, done: Done, verdict: Verdict | None) -> None:
        if verdict is None:
            _log.warning("no RADIUS server answers", servers=", ".join(server.name for server in self._servers))
        # The loop may be closed by now; then nobody waits for the answer.
        with contextlib.suppress(RuntimeError):
            self._post(partial(done, verdict))
