"""Cuts off connections that keep a thread too long, and takes only so many of one peer that have yet to say what
they want: slow or silent clients must not hold all threads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

CHECK_INTERVAL_S = 1.0


@dataclass(slots=True)
class _Served:
    """What one thread does."""

    deadline: float
    descriptor: int
    peer: str
    waits: bool = True
    """Its request has not come yet."""


class TooManyWaitError(ConnectionError):
    """One peer has as many connections that wait for its request as it may have."""


class Deadlines:
    """The sockets that are being served, and until when.

    Args:
        most_waiting: connections of one peer that may wait for their request at a time.
    """

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._lock = threading.Lock()
        self._running: dict[int, _Served] = {}

    def start(self) -> None:
        """Watch, in a thread of its own."""
        threading.Thread(target=self._watch, name="deadlines", daemon=True).start()

    @contextlib.contextmanager
    def limit(self, connection: socket.socket, peer: str, allowed_s: float) -> Iterator[None]:
        """Serve the connection within so many seconds; after them it is shut down under the server.

        Raises:
            TooManyWaitError: too many of this peer wait already.
            OSError: the connection is gone already.
        """
        # A descriptor of our own: TLS replaces the socket object on the way, and a number alone may be reused.
        descriptor = os.dup(connection.fileno())
        thread = threading.get_ident()
        try:
            with self._lock:
                waiting = sum(served.waits and served.peer == peer for served in self._running.values())
                if waiting >= self._most_waiting:
                    raise TooManyWaitError(f"{waiting} connections of {peer} wait")
                self._running[thread] = _Served(time.monotonic() + allowed_s, descriptor, peer)
            yield
        finally:
            with self._lock:
                self._running.pop(thread, None)
            os.close(descriptor)

    def request_came(self, allowed_s: float) -> None:
        """The request of the connection that this thread serves is there: it has so many seconds from now."""
        with self._lock:
            served = self._running.get(threading.get_ident())
            if served is not None:
                served.deadline = time.monotonic() + allowed_s
                served.waits = False

    def cut_off(self, now: float) -> int:
        """Shut down what is late; returns how many that were."""
        count = 0
        with self._lock:
            for served in self._running.values():
                if served.deadline <= now:
                    count += 1
                    _shut_down(served.descriptor)
        return count

    def _watch(self) -> None:
        while True:
            time.sleep(CHECK_INTERVAL_S)
            self.cut_off(time.monotonic())


def _shut_down(descriptor: int) -> None:
    # Without a descriptor more: where a flood of connections has taken them all, this is what frees them.
    connection = socket.socket(fileno=descriptor)
    try:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    finally:
        connection.detach()
