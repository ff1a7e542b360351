"""The portal under gunicorn: one process that accepts, one that answers with threads.

The listening socket is made here and handed over, so that a port that can't be used is told in a sentence.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import _DEFER as DEFER
from gunicorn.workers.gthread import ThreadWorker

from core.errors import OstiaryError
from core.ready import READY_VARIABLE, announce
from core.runtime import Runtime
from core.settings import Settings, WebSettings
from web import invitations
from web.app import create_app
from web.context import portal_url
from web.deadlines import Deadlines
from web.throttle import network
from web.tls import PortalTls, portal_certificate

HEAD_S = 10.0
"""TLS handshake and the head of the request take no longer, or the connection is cut off."""
REQUEST_S = 30.0
"""The same for the rest of the request and its answer."""
LINGER_S = 0.5
"""How long a thread waits for the other end to close, so that the last of an answer is not cut off."""
GRACEFUL_STOP_S = 4
BACKLOG = 256
MOST_CONNECTIONS = 512
"""With what the threads and the database open, below the 1024 descriptors that a process usually may have."""
LEAST_WAITING = 6
"""As many connections as a browser opens to one host."""
CHAIN_FILE = "portal-chain.pem"

_CLOSED = object()
"""What a thread returns for a connection that it has closed."""


class PortalError(OstiaryError):
    """The portal can't start."""

    in_use = False
    """Whether that is because somebody listens on its port already."""


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Run the portal until SIGTERM or SIGINT.

    Args:
        settings: all of them.
        say: tells the person at the terminal a line.

    Raises:
        PortalError: the address or port can't be used.
        OstiaryError: database, key file or CA can't be used.
    """
    listener = listen(settings.web)
    with Runtime.open(settings) as runtime:
        # The public part; gunicorn wants to see a file before it speaks TLS. The key stays in memory.
        chain = settings.state_dir / CHAIN_FILE
        chain.write_text(portal_certificate(runtime).chain_pem(), encoding="ascii")
        lines = [f"Portal: {portal_url(runtime)}"]
        link = invitations.first_run_link(runtime)
        if link is not None:
            lines.append(f"First administrator: {link}")

    supervised = READY_VARIABLE in os.environ

    def ready() -> None:
        announce(lines)
        for line in [] if supervised else lines:
            say(line)

    # The runtime is closed here and opened anew by the worker: a database connection must not cross a fork.
    Portal(settings, listener.detach(), chain, ready).run()


def listen(web: WebSettings) -> socket.socket:
    """The listening socket.

    Raises:
        PortalError: with what to do about it.
    """
    family = socket.AF_INET6 if web.host.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(web.host), web.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        failure = PortalError(
            f"the portal can't listen on {web.host} port {web.port}: {error.strerror}", fix=_fix(error)
        )
        failure.in_use = error.errno == errno.EADDRINUSE
        raise failure from None
    return listener


def _fix(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "stop what uses the port (`ss -ltnp` shows it), or set web.port to a free one"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE; or set web.port to a higher one"
    return "set web.host to an address of this machine"


class Portal(BaseApplication):  # type: ignore[misc]
    """The embedded server.

    Args:
        settings: all of them.
        descriptor: the listening socket's; this object owns it from now on.
        chain: the certificate chain's file.
        ready: called in the first worker's process once it can answer.
    """

    def __init__(self, settings: Settings, descriptor: int, chain: Path, ready: Callable[[], None]) -> None:
        self._settings = settings
        self._descriptor = descriptor
        self._chain = chain
        self._ready = ready
        self._tls: PortalTls | None = None
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings; called by it."""
        values: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "backlog": BACKLOG,
            "workers": 1,
            "worker_class": PortalWorker,
            "threads": self._settings.web.threads,
            "worker_connections": MOST_CONNECTIONS,
            "timeout": 60,
            "graceful_timeout": GRACEFUL_STOP_S,
            "keepalive": 15,
            "limit_request_line": 4094,
            "limit_request_fields": 64,
            "limit_request_field_size": 8190,
            "certfile": str(self._chain),
            "ssl_context": lambda _config, _default: self._context(),
            "logger_class": PortalLogger,
            "accesslog": None,
            "loglevel": "warning",
            "proc_name": "ostiary-web",
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
            "control_socket_disable": True,
            "forwarded_allow_ips": "",
            # Not gunicorn's `when_ready`: that comes before the worker has shown that it can load the application.
            "post_worker_init": self._worker_started,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def _worker_started(self, worker: Any) -> None:
        if worker.age == 1:
            self._ready()

    def load(self) -> Flask:
        """The WSGI application; called by gunicorn in the worker, after the fork."""
        runtime = Runtime.open(self._settings)
        self._tls = PortalTls(runtime)
        self._tls.watch()
        return create_app(runtime)

    def _context(self) -> Any:
        if self._tls is None:
            raise PortalError("a connection came before the certificate was there")
        return self._tls.context


class PortalWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker of threads, with a time limit for each connection that holds one.

    By itself it waits for ever for the rest of a handshake or of a request, and a handful of clients that send
    one byte and fall silent would hold all threads. And who comes again each time that he is cut off may hold no
    more than half of them, from one address.
    """

    def init_process(self) -> None:
        """Start the watching in this process, after the fork."""
        self._deadlines = Deadlines(max(LEAST_WAITING, self.cfg.threads // 2))
        self._deadlines.start()
        super().init_process()

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is complete."""
        self._deadlines.request_came(REQUEST_S)
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """What a peer did wrong in TLS, such as not trusting our CA yet, is no event of ours."""
        if isinstance(exc, ssl.SSLError):
            self.log.debug("TLS with %s failed: %s", addr, exc)
            return
        super().handle_error(req, client, addr, exc)

    def handle(self, conn: Any) -> Any:
        """Serve one request, in a thread; one that has not begun yet waits without holding a thread."""
        if not conn.initialized and not conn.wait_for_data(0):
            return DEFER
        try:
            with self._deadlines.limit(conn.sock, network(conn.client[0]), HEAD_S):
                goes_on = super().handle(conn)
                if not goes_on:
                    util.close_graceful(conn.sock, LINGER_S)
        except OSError:
            goes_on = False
            util.close(conn.sock)
        return goes_on or _CLOSED

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Back on the thread that accepts: by itself gunicorn closes here, and waits two seconds for a client that
        keeps its end open, with everybody else.
        """
        if not fs.cancelled() and fs.exception() is None and fs.result() is _CLOSED:
            self.nr_conns -= 1
            return
        super().finish_request(conn, fs)


class PortalLogger(Logger):  # type: ignore[misc]
    """Sends gunicorn's messages to the log of the process, and logs no requests: paths may carry one-time tokens."""

    def setup(self, cfg: Any) -> None:
        """Leave the handlers to `core.log`."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
        self.error_log.propagate = True

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Nothing."""
