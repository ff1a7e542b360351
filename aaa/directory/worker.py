"""Checks passwords against the directories, on threads beside the caller's loop.

A directory may take seconds to answer, or not answer at all; that must keep neither the loop waiting, nor those whose
directory works: hence several threads, and a bound on who waits for them.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from aaa.backend.identity import user_candidates
from aaa.backend.requests import BROKEN, UNAVAILABLE
from aaa.backend.worker import is_outage
from aaa.directory import sync
from aaa.directory.accounts import UNKNOWN_USER
from aaa.directory.directory import Directory
from aaa.directory.model import DirectoryUser
from aaa.interface import Refusal
from aaa.models import LOCAL, User
from core.runtime import Runtime

THREADS = 4
LONGEST_QUEUE = 256
"""Sign-ins that may wait; beyond it they are refused at once."""
STOP_TIMEOUT_S = 5.0

LOCAL_USER = Refusal("no-directory-user", "this user was added here by hand, and has no password in a directory")
_BUSY = Refusal("directory-busy", "too many sign-ins wait for the directories")

_log = structlog.get_logger(__name__)

Answer = DirectoryUser | Refusal


@dataclass(frozen=True, slots=True)
class _Question:
    identity: str
    password: str = field(repr=False)
    reply: Callable[[Answer], None]
    is_wanted: Callable[[], bool]


class DirectoryPasswords:
    """Answers one question: is this the password of this person?

    Args:
        runtime: of this process; its settings name the directories.
        post: brings a callable to the thread that the answers belong to.

    Raises:
        DirectoryError: a CA file or a file with a password can't be used.
    """

    def __init__(self, runtime: Runtime, post: Callable[[Callable[[], None]], object]) -> None:
        self._runtime = runtime
        self._post = post
        self._directories = tuple(Directory(settings) for settings in runtime.settings.aaa.directories)
        self._queue: queue.Queue[_Question | None] = queue.Queue(LONGEST_QUEUE)
        self._threads = [
            threading.Thread(target=self._run, name=f"aaa-directory-{number}", daemon=True)
            for number in range(THREADS if self._directories else 0)
        ]

    def __bool__(self) -> bool:
        """Whether there is a directory at all."""
        return bool(self._directories)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after what they do; whoever still waits gets no answer."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_TIMEOUT_S)

    def check(
        self,
        identity: str,
        password: str,
        reply: Callable[[Answer], None],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Ask. Never blocks, never raises.

        Args:
            identity: what the person typed as a name.
            password: what the person typed as a password.
            reply: called once, on the caller's thread: with the person, whose name is then that of a user here; or
                with the refusal, which is for the audit log and not for the peer.
            is_wanted: False once nobody waits for the answer; then nobody is asked.
        """
        if not self._directories:
            self._post(lambda: reply(UNKNOWN_USER))
            return
        try:
            self._queue.put_nowait(_Question(identity, password, reply, is_wanted))
        except queue.Full:
            self._post(lambda: reply(_BUSY))

    def _run(self) -> None:
        while (question := self._queue.get()) is not None:
            if question.is_wanted():
                self._deliver(question.reply, self._answer(question))

    def _deliver(self, reply: Callable[[Answer], None], answer: Answer) -> None:
        # The loop may be closed by now; then nobody waits for the answer.
        with contextlib.suppress(RuntimeError):
            self._post(lambda: reply(answer))

    def _answer(self, question: _Question) -> Answer:
        try:
            person = self._ask(question)
            if isinstance(person, Refusal):
                return person
            return sync.remember(self._runtime, person, sync.job_actor(person.directory)) or person
        except Exception as error:
            if is_outage(error):
                return UNAVAILABLE
            # A thread that died here would leave every later sign-in without an answer.
            _log.exception("a password could not be checked")
            return BROKEN

    def _ask(self, question: _Question) -> Answer:
        """The directory of whoever is known; for others each of them, until one has somebody of this name."""
        source = self._source_of(question.identity)
        if source == LOCAL:
            return LOCAL_USER
        for directory in self._asked(source):
            answer = directory.sign_in(question.identity, question.password)
            if isinstance(answer, DirectoryUser) or answer.code != UNKNOWN_USER.code:
                # One that is down may be the one that has the person: nobody gets further by that.
                return answer
        return UNKNOWN_USER

    def _asked(self, source: str | None) -> Sequence[Directory]:
        if source is None:
            return self._directories
        return [directory for directory in self._directories if directory.settings.name == source]

    def _source_of(self, identity: str) -> str | None:
        """Where the user of this name comes from, None where there is no such user yet."""
        with self._runtime.database.reading() as session:
            for name in user_candidates(identity):
                user = session.get(User, name)
                if user is not None:
                    return user.source
        return None
