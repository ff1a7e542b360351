"""The servers of one directory: tried in order, left alone for a while after they failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aaa.directory.client import Client, tls_context
from aaa.directory.errors import DirectoryError, DirectoryUnavailable
from core.settings import DirectorySettings


@dataclass(frozen=True, slots=True)
class ServerState:
    """How one server stands."""

    url: str
    failure: str
    """Why it is left alone; empty where it is not."""


class Servers:
    """Hands out connections; used by several threads.

    Args:
        settings: of the directory.
        now: monotonic seconds.

    Raises:
        DirectoryError: the CA file can't be used.
    """

    def __init__(self, settings: DirectorySettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._context = tls_context(settings.ca_file)
        self._now = now
        self._lock = threading.Lock()
        self._dead: dict[str, tuple[float, str]] = {}
        """Until when, and why."""

    @contextmanager
    def connection(self) -> Iterator[Client]:
        """A connection under TLS to the first server that gives one. It is closed at the end.

        A server that fails while it is used is left alone as well, and the caller gets the error.

        Raises:
            DirectoryUnavailable: there is none; the message says of each server why.
        """
        client = self._open()
        try:
            yield client
        except DirectoryUnavailable as error:
            self._mark(client.url, error.message)
            raise
        finally:
            client.close()

    def states(self) -> list[ServerState]:
        """All servers in their order."""
        now = self._now()
        with self._lock:
            dead = dict(self._dead)
        return [
            ServerState(url, why if until > now else "")
            for url in self._settings.servers
            for until, why in (dead.get(url, (0.0, "")),)
        ]

    def open_each(self) -> list[tuple[str, Client | DirectoryError]]:
        """A connection to each server, or why there is none, for a check; the caller closes them."""
        found: list[tuple[str, Client | DirectoryError]] = []
        for url in self._settings.servers:
            try:
                found.append((url, Client(url, self._settings, self._context)))
            except DirectoryError as error:
                found.append((url, error))
        return found

    def _open(self) -> Client:
        reasons = []
        for state in self.states():
            if state.failure:
                reasons.append(state.failure)
                continue
            try:
                client = Client(state.url, self._settings, self._context)
            except DirectoryUnavailable as error:
                self._mark(state.url, error.message)
                reasons.append(error.message)
                continue
            with self._lock:
                self._dead.pop(state.url, None)
            return client
        raise DirectoryUnavailable(
            f"no server of directory {self._settings.name} answers: {'; '.join(reasons)}",
            fix="`ostiary directory check` asks each of them now",
        )

    def _mark(self, url: str, why: str) -> None:
        with self._lock:
            self._dead[url] = (self._now() + self._settings.dead_time_s, why)
