"""Who says whether a password is right: an interface, and the access codes of local users behind it.

The question may take long (a directory, a slow hash) and may lead to another one (a second factor), so an answer
comes by a callback, and what is asked of one user in one conversation is one attempt, which remembers.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aaa.backend.credentials import NtHashes
from aaa.backend.refusals import Submit
from aaa.backend.requests import FindCodes, FoundUser, Proof, StoredCode
from aaa.eap.mschapv2 import nt_password_hash
from aaa.interface import Refusal


@dataclass(frozen=True, slots=True)
class Prompt:
    """Neither right nor wrong yet: ask the user this, and bring what it answers to the same attempt."""

    text: str


PasswordReply = Callable[["Proof | Prompt | Refusal"], None]
"""A proof says yes, and for whom; by which method it came, the conversation adds. A refusal says no, or that nobody
could be asked: the codes of `WRONG_PASSWORD_CODES` are for passwords that let nobody in, of which the peer learns by
the method itself, and learns no more; any other ends the conversation at once."""

WRONG_PASSWORD_CODES = frozenset(
    {
        "unknown-user",
        "no-access-code",
        "wrong-credential",
        # A directory's: whether an account is locked or has ended is nothing that a stranger is told.
        "ambiguous-user",
        "disabled-user",
        "expired-user",
        "locked-user",
        "other-person",
        "password-expired",
        "password-must-change",
        "sign-in-restricted",
        "unusable-name",
    }
)


class PasswordAttempt(Protocol):
    """What one user is asked in one conversation."""

    def answer(self, text: str, *, can_ask: bool, reply: PasswordReply) -> None:
        """Check what the user typed.

        Args:
            text: the password, or the answer to the last `Prompt`.
            can_ask: whether a `Prompt` can be shown; where not, there has to be a verdict.
            reply: called once, at once or later, on the caller's thread.
        """


class PasswordBackend(Protocol):
    """Where passwords are known."""

    def open(self, identity: str, is_wanted: Callable[[], bool]) -> PasswordAttempt:
        """A new attempt.

        Args:
            identity: as the peer gave it.
            is_wanted: false once nobody waits for an answer any more.
        """


class AccessCodes:
    """Implements `PasswordBackend`: the password is the access code of one of the user's devices.

    Args:
        submit: brings a request to the database thread.
        hashes: decrypts what is stored.
    """

    def __init__(self, submit: Submit, hashes: NtHashes) -> None:
        self._submit = submit
        self._hashes = hashes

    def open(self, identity: str, is_wanted: Callable[[], bool]) -> PasswordAttempt:
        """See `PasswordBackend`."""
        return _CodeAttempt(self._submit, self._hashes, identity, is_wanted)


class _CodeAttempt:
    __slots__ = ("_hashes", "_identity", "_is_wanted", "_submit")

    def __init__(self, submit: Submit, hashes: NtHashes, identity: str, is_wanted: Callable[[], bool]) -> None:
        self._submit = submit
        self._hashes = hashes
        self._identity = identity
        self._is_wanted = is_wanted

    def answer(self, text: str, *, can_ask: bool, reply: PasswordReply) -> None:
        """See `PasswordAttempt`; nothing more is ever asked."""
        typed = nt_password_hash(text)

        def found(user: FoundUser | Refusal) -> None:
            if isinstance(user, Refusal):
                reply(user)
                return
            code = self._matching(typed, user.codes)
            reply(why_wrong(user) if code is None else Proof("", self._identity, code.device_id, code))

        self._submit(FindCodes(self._identity, found, self._is_wanted))

    def _matching(self, typed: bytes, codes: tuple[StoredCode, ...]) -> StoredCode | None:
        """Those that count no more are tried as well, so that the audit log can say which one it was."""
        by_device = {code.device_id: code for code in codes}
        chosen: StoredCode | None = None
        # Every code is tried, whichever fits, so that time says no more than how many there are.
        for credential in self._hashes.credentials(codes):
            if hmac.compare_digest(credential.nt_hash, typed):
                chosen = by_device[credential.key]
        if not codes:
            hmac.compare_digest(os.urandom(len(typed)), typed)
        return chosen


def why_wrong(user: FoundUser) -> Refusal:
    """What the directory knows of a user whose credential fitted nothing."""
    if user.user_name is None:
        return Refusal("unknown-user", "there is no such user")
    if not user.codes:
        return Refusal("no-access-code", f"user {user.user_name} has no device with an access code")
    return Refusal("wrong-credential", f"the code is none of user {user.user_name}")
