"""The errors of the certificate authority."""

from __future__ import annotations

from typing import Literal

from core.errors import OstiaryError

RefusalCode = Literal[
    "untrusted-certificate",
    "expired-certificate",
    "not-yet-valid-certificate",
    "wrong-usage",
    "malformed-certificate",
    "weak-key",
]


class PkiError(OstiaryError):
    """The root of the package's errors."""


class WeakKeyError(PkiError):
    """A public key is too weak, malformed, or of a kind that no profile takes."""


class LintError(PkiError):
    """A certificate that was about to be signed breaks its own profile; nothing was signed."""


class CertificateRefused(PkiError):
    """A peer's certificate is not good enough.

    Args:
        code: stable, for tests, metrics and the audit log.
        reason: in words, for the operator; the peer is told no more than its protocol asks.
    """

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(reason)
        self.code: RefusalCode = code
        self.reason = reason
