"""Passwords of people who are in a directory, beside the access codes of everybody's devices.

A code is looked for first: it costs the directory nothing, and must not count there as a wrong password.
"""

from __future__ import annotations

from collections.abc import Callable

from aaa.backend.passwords import WRONG_PASSWORD_CODES, PasswordAttempt, PasswordBackend, PasswordReply, Prompt
from aaa.backend.requests import Proof
from aaa.directory.model import DirectoryUser
from aaa.directory.proof import proof_of
from aaa.directory.worker import LOCAL_USER, Answer, DirectoryPasswords
from aaa.interface import Refusal


class CodesThenDirectories:
    """Implements `PasswordBackend`.

    Args:
        codes: asked first.
        directories: asked where that was no code of the user's.
    """

    def __init__(self, codes: PasswordBackend, directories: DirectoryPasswords) -> None:
        self._codes = codes
        self._directories = directories

    def open(self, identity: str, is_wanted: Callable[[], bool]) -> PasswordAttempt:
        """See `PasswordBackend`."""
        attempt = self._codes.open(identity, is_wanted)
        return _Attempt(attempt, self._directories, identity, is_wanted) if self._directories else attempt


class _Attempt:
    __slots__ = ("_codes", "_directories", "_identity", "_is_wanted")

    def __init__(
        self,
        codes: PasswordAttempt,
        directories: DirectoryPasswords,
        identity: str,
        is_wanted: Callable[[], bool],
    ) -> None:
        self._codes = codes
        self._directories = directories
        self._identity = identity
        self._is_wanted = is_wanted

    def answer(self, text: str, *, can_ask: bool, reply: PasswordReply) -> None:
        """See `PasswordAttempt`."""

        def by_code(answer: Proof | Prompt | Refusal) -> None:
            if not isinstance(answer, Refusal) or answer.code not in WRONG_PASSWORD_CODES:
                reply(answer)
                return
            no_code = answer

            def by_directory(found: Answer) -> None:
                if isinstance(found, DirectoryUser):
                    reply(proof_of(found, self._identity, ""))
                else:
                    reply(no_code if found.code == LOCAL_USER.code else found)

            self._directories.check(self._identity, text, by_directory, self._is_wanted)

        self._codes.answer(text, can_ask=can_ask, reply=by_code)
