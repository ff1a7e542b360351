"""Cuts off connections that keep a thread too long: a slow or silent client must not hold all threads."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

CHECK_INTERVAL_S = 1.0


class Deadlines:
    """The sockets that are being served, and until when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, tuple[float, int]] = {}

    def start(self) -> None:
        """Watch, in a thread of its own."""
        threading.Thread(target=self._watch, name="deadlines", daemon=True).start()

    @contextlib.contextmanager
    def limit(self, connection: socket.socket, allowed_s: float) -> Iterator[None]:
        """Serve the connection within so many seconds; after them it is shut down under the server.

        Raises:
            OSError: the connection is gone already.
        """
        # A descriptor of our own: TLS replaces the socket object on the way, and a number alone may be reused.
        descriptor = os.dup(connection.fileno())
        thread = threading.get_ident()
        with self._lock:
            self._running[thread] = (time.monotonic() + allowed_s, descriptor)
        try:
            yield
        finally:
            with self._lock:
                del self._running[thread]
            os.close(descriptor)

    def extend(self, allowed_s: float) -> None:
        """Give the connection that this thread serves so many seconds from now."""
        thread = threading.get_ident()
        with self._lock:
            if thread in self._running:
                self._running[thread] = (time.monotonic() + allowed_s, self._running[thread][1])

    def cut_off(self, now: float) -> int:
        """Shut down what is late; returns how many that were."""
        count = 0
        with self._lock:
            for deadline, descriptor in self._running.values():
                if deadline <= now:
                    count += 1
                    _shut_down(descriptor)
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
