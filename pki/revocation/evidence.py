"""What is known of a certificate's revocation, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from pki.errors import PkiError

CLOCK_SKEW = timedelta(minutes=5)
"""By how much the clock of another CA may differ from ours."""

_REVERSIBLE = frozenset({x509.ReasonFlags.certificate_hold, x509.ReasonFlags.remove_from_crl})


class RevocationState(StrEnum):
    """The three answers of RFC 6960 section 2.2; whoever could not be asked, or said nonsense, said unknown."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


class NotUsable(PkiError):
    """An OCSP response, a CRL or a source of them says nothing that could be believed."""


class OtherIssuer(NotUsable):
    """A CRL that is another CA's, as it has to be where the operator lists one for each CA of a path."""


class NotKnown(NotUsable):
    """A responder that works, and does not know the certificate."""


class Busy(NotUsable):
    """Too much is under way already; says nothing about the source."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A signed statement about one certificate, checked, and within its dates."""

    revoked: bool
    source: str
    """`OCSP` or `CRL`."""
    this_update: datetime
    """When it was known to be true."""
    expires_at: datetime
    """It counts no longer than this; a little after its nextUpdate, for clocks that differ."""
    final: bool = False
    """Revoked for good: neither on hold, nor taken back again (RFC 5280 section 5.3.1)."""
    detail: str = ""
    """When and why it was revoked, in words."""

    @classmethod
    def of_revoked(
        cls,
        source: str,
        revoked_at: datetime | None,
        reason: x509.ReasonFlags | None,
        this_update: datetime,
        expires_at: datetime,
    ) -> Evidence:
        """A statement that the certificate was revoked."""
        when = f"at {revoked_at:%Y-%m-%d %H:%M} UTC" if revoked_at is not None else "at an unknown time"
        because = f" ({reason.value})" if reason is not None else ""
        return cls(True, source, this_update, expires_at, reason not in _REVERSIBLE, f"{when}{because}")


@dataclass(frozen=True, slots=True)
class PathStatus:
    """What came out for a whole path: revoked where one certificate is, good where all are."""

    state: RevocationState
    reason: str
    """In words, for the audit log; URLs and errors stand in it, so it is never told to a peer."""


@dataclass(frozen=True, slots=True)
class Stapled:
    """What a peer sent along about its own certificates (RFC 4806, RFC 7296 section 3.6 encoding 7)."""

    ocsp_responses: Sequence[bytes] = ()
    crls: Sequence[bytes] = ()


NOTHING_STAPLED = Stapled()


def check_dates(this_update: datetime, next_update: datetime, now: datetime) -> None:
    """Refuse a statement from the future, one that is over, and one that ends before it begins.

    Raises:
        NotUsable: says which.
    """
    if next_update < this_update:
        raise NotUsable("it ends before it begins")
    if this_update > now + CLOCK_SKEW:
        raise NotUsable(f"it is from the future ({this_update:%Y-%m-%d %H:%M} UTC)")
    if next_update < now - CLOCK_SKEW:
        raise NotUsable(f"it ended at {next_update:%Y-%m-%d %H:%M} UTC")
