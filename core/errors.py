"""The root of every error that Ostiary raises on purpose."""

from __future__ import annotations


class OstiaryError(Exception):
    """An error that a person can act on.

    Args:
        message: what went wrong, one sentence, no secret in it.
        fix: what to do about it, where that is known.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class NotFoundError(OstiaryError):
    """A named thing (device, user, session) does not exist."""


class ConflictError(OstiaryError):
    """The change contradicts what is stored already (a name taken, a thing revoked before)."""
