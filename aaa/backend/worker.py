"""The database thread: takes everything that is asked, handles it in one transaction, answers after the commit.

Under load many requests share a transaction, which is what makes a sign-in cheap; alone, one is handled at
once. While the database can't be reached, what needs an answer is refused and what must be written (durable
requests) waits here, in order, and is tried again until it is written.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from aaa.backend.requests import (
    BROKEN,
    UNAVAILABLE,
    CloseSession,
    Reply,
    Request,
    UpdateSession,
    WriteEvent,
    WriteReport,
)
from core.audit import SYSTEM, Entry
from core.database import Database

LARGEST_BATCH = 256
LONGEST_QUEUE = 20_000
"""Requests that may wait. Beyond it sign-ins are refused; accounting is bounded by the sessions there are."""
LONGEST_BACKLOG = 20_000
BUSY_BATCH = 3
GATHER_S = 0.002
"""After a batch of that many requests the next one waits this long for more: a transaction costs as much as the
work of five sign-ins, and this is no time to a client."""
RETRY_WAITS_S = (0.25, 0.5, 1.0, 2.0, 5.0)

_log = structlog.get_logger(__name__)

Handle = Callable[[Session, Sequence[Request]], list[Reply]]
"""Does the work of a batch in the session's transaction and returns the answers to give after the commit."""


class DatabaseWorker:
    """One thread with one queue.

    Args:
        database: where the transactions are made.
        handle: does the work.
        post: brings a callable to the thread that the answers belong to.
        committed: called on the database thread after each transaction that wrote.
    """

    def __init__(
        self,
        database: Database,
        handle: Handle,
        post: Callable[[Reply], None],
        *,
        committed: Callable[[], None] = lambda: None,
        longest_queue: int = LONGEST_QUEUE,
        longest_backlog: int = LONGEST_BACKLOG,
        retry_waits_s: Sequence[float] = RETRY_WAITS_S,
    ) -> None:
        self._database = database
        self._handle = handle
        self._post = post
        self._committed = committed
        self._longest_queue = longest_queue
        self._longest_backlog = longest_backlog
        self._retry_waits_s = tuple(retry_waits_s)
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._backlog: list[Request] = []
        self._lost_events = 0
        self._busy = False
        self._failures_in_row = 0
        self._retry_at = 0.0
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="aaa-database", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Ask for something. Never blocks; the answer is posted, also where the queue is full."""
        if not request.durable and self._queue.qsize() >= self._longest_queue:
            reply = request.refused(UNAVAILABLE)
            if reply is not None:
                self._post(reply)
            return
        self._queue.put(request)

    def stop(self, timeout_s: float) -> int:
        """Finish what was asked, then end the thread.

        Args:
            timeout_s: how long a database that can't be reached is waited for.

        Returns:
            How many durable requests could not be written; they are logged.
        """
        if not self._thread.is_alive():
            return len(self._backlog)
        self._give_up_at = time.monotonic() + timeout_s
        self._queue.put(None)
        # A statement that hangs in the driver can't be interrupted: leave the thread, it is a daemon.
        self._thread.join(timeout_s + 15.0)
        if self._backlog:
            _log.error("accounting and audit events are lost: database unreachable", lost=len(self._backlog))
        return len(self._backlog)

    def _run(self) -> None:
        stopping = False
        while not (stopping and self._queue.empty() and not self._backlog):
            batch, stop_seen = self._take(stopping)
            stopping = stopping or stop_seen
            if batch or self._backlog:
                try:
                    self._work(batch)
                except Exception:
                    # A thread that died here would leave every later sign-in without an answer.
                    _log.exception("the database thread stumbled")
            if self._gave_up():
                return

    def _take(self, stopping: bool) -> tuple[list[Request], bool]:
        """The requests that wait, after waiting for the first one if there is nothing else to do."""
        batch: list[Request] = []
        try:
            if stopping and not self._backlog:
                first = self._queue.get_nowait()
            elif self._backlog:
                first = self._queue.get(timeout=max(self._retry_at - time.monotonic(), 0.001))
            else:
                first = self._queue.get()
            if self._busy:
                time.sleep(GATHER_S)
            while first is not None:
                batch.append(first)
                if len(batch) >= LARGEST_BATCH:
                    return batch, False
                first = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _work(self, batch: list[Request]) -> None:
        """Handle a batch, after what waits from before; without anyone who waits, only when it is time."""
        self._busy = len(batch) >= BUSY_BATCH
        answered_now = [request for request in batch if not request.durable]
        too_early = time.monotonic() < self._retry_at and not answered_now
        if self._backlog and (too_early or len(self._backlog) > LARGEST_BATCH):
            # What is durable keeps its place behind what waits.
            self._keep([request for request in batch if request.durable])
            batch = answered_now
            if too_early:
                return
        waiting = self._backlog[:LARGEST_BATCH]
        try:
            replies = self._in_transaction([*waiting, *batch])
        except Exception as error:
            if is_outage(error):
                self._outage(error, batch)
            else:
                self._one_by_one([*waiting, *batch], batch, error)
            return
        del self._backlog[: len(waiting)]
        self._answer(replies)
        self._recovered()

    def _in_transaction(self, requests: list[Request]) -> list[Reply]:
        wanted = [request for request in requests if request.wanted()]
        if not wanted:
            return []
        if any(request.writes for request in wanted):
            with self._database.transaction() as session:
                replies = self._handle(session, wanted)
            self._committed()
            return replies
        with self._database.reading() as session:
            return self._handle(session, wanted)

    def _one_by_one(self, requests: list[Request], batch: list[Request], error: Exception) -> None:
        """One request broke the transaction: find it, so that the others do not suffer from it."""
        if len(requests) > 1:
            _log.warning("a batch failed; its requests are tried one by one", requests=len(requests))
        del self._backlog[: len(requests) - len(batch)]
        for position, request in enumerate(requests):
            if len(requests) > 1:
                try:
                    self._answer(self._in_transaction([request]))
                    continue
                except Exception as own_error:
                    error = own_error
                if is_outage(error):
                    self._outage(error, requests[position:], first=True)
                    return
            _log.error("a request failed", request=type(request).__name__, exc_info=error)
            self._refuse(request, broken=True)

    def _outage(self, error: Exception, batch: Sequence[Request], *, first: bool = False) -> None:
        wait = self._retry_waits_s[min(self._failures_in_row, len(self._retry_waits_s) - 1)]
        if self._failures_in_row == 0:
            _log.error("database unavailable: sign-ins are refused until it is back", error=_first_line(error))
        self._failures_in_row += 1
        self._retry_at = time.monotonic() + wait
        for request in batch:
            self._refuse(request, broken=False)
        durable = [request for request in batch if request.durable]
        if first:
            self._backlog[:0] = durable
        else:
            self._keep(durable)

    def _refuse(self, request: Request, *, broken: bool) -> None:
        reply = request.refused(BROKEN if broken else UNAVAILABLE) if request.wanted() else None
        if reply is not None:
            self._answer([reply])

    def _keep(self, requests: Sequence[Request]) -> None:
        """Put durable requests behind those that wait already, within bounds."""
        self._backlog.extend(requests)
        if len(self._backlog) <= self._longest_backlog:
            return
        self._drop_dispensable()
        room = self._longest_backlog
        kept: list[Request] = []
        for request in self._backlog:
            # The end of a session is never dropped: there are no more of them than sessions.
            if len(kept) < room or isinstance(request, CloseSession):
                kept.append(request)
            elif isinstance(request, WriteEvent):
                if self._lost_events == 0:
                    _log.error("too many audit events wait for the database; further ones are only counted")
                self._lost_events += 1
        self._backlog = kept

    def _drop_dispensable(self) -> None:
        """Counters of a session that a later request brings anew need not be kept, nor need explanations; nor what a
        RADIUS client has told again of a session's end.
        """
        later: set[str] = set()
        ended: set[str] = set()
        kept: list[Request] = []
        for request in reversed(self._backlog):
            if isinstance(request, WriteReport):
                continue
            if isinstance(request, UpdateSession | CloseSession):
                session_id = request.usage.session_id
                if session_id in (later if isinstance(request, UpdateSession) else ended):
                    continue
                later.add(session_id)
                if isinstance(request, CloseSession):
                    ended.add(session_id)
            kept.append(request)
        self._backlog = kept[::-1]

    def _recovered(self) -> None:
        if self._failures_in_row:
            _log.warning("database is back", attempts=self._failures_in_row, waiting=len(self._backlog))
            self._failures_in_row = 0
        self._retry_at = 0.0
        if self._lost_events and not self._backlog:
            lost, self._lost_events = self._lost_events, 0
            self._backlog.append(
                WriteEvent(
                    Entry(
                        SYSTEM,
                        "audit.gap",
                        "audit:log",
                        outcome="failed",
                        reason=f"the database was unreachable for so long that {lost} events could not be kept",
                        detail={"lost": lost},
                    )
                )
            )

    def _answer(self, replies: list[Reply]) -> None:
        if not replies:
            return
        # The loop may be closed by now; then nobody waits for the answers.
        with contextlib.suppress(RuntimeError):
            self._post(lambda: _run_all(replies))

    def _gave_up(self) -> bool:
        return self._give_up_at is not None and bool(self._failures_in_row) and time.monotonic() >= self._give_up_at


def is_outage(error: Exception) -> bool:
    """Whether the database could not be used at all, as opposed to a statement that it refused."""
    if isinstance(error, IntegrityError | DataError):
        return False
    return isinstance(error, DBAPIError | PoolTimeoutError | OSError)


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).partition("\n")[0][:300]


def _run_all(replies: list[Reply]) -> None:
    for reply in replies:
        try:
            reply()
        except Exception:
            # One receiver's fault must not keep the others from their answers.
            _log.exception("the receiver of an answer failed")
