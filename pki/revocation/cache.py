"""What was learnt about other CAs' certificates, kept in memory and bounded: OCSP answers, CRLs, and failures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.revocation.crl import CheckedCrl
from pki.revocation.evidence import Evidence

MOST_ANSWERS = 20_000
MOST_CRLS = 256
MOST_FAILURES = 4096

AnswerKey = tuple[bytes, int]
"""Fingerprint of the issuer's certificate, serial number."""
CrlKey = tuple[bytes, str]
"""Fingerprint of the issuer's certificate, URL; an empty URL for a list that a peer sent."""


class _Dated(Protocol):
    @property
    def this_update(self) -> datetime: ...

    @property
    def expires_at(self) -> datetime: ...


_T = TypeVar("_T", bound=_Dated)


@dataclass(frozen=True, slots=True)
class Kept(Generic[_T]):
    """Something learnt, and from when on something newer should be asked for."""

    statement: _T
    refresh_at: datetime


class RevocationCache:
    """Used on one thread.

    Args:
        lifetime: after which something newer is asked for.
        most_crl_bytes: of all CRLs together.
    """

    def __init__(self, lifetime: timedelta, most_crl_bytes: int) -> None:
        self._lifetime = lifetime
        self._most_crl_bytes = most_crl_bytes
        self._answers: OrderedDict[AnswerKey, Kept[Evidence]] = OrderedDict()
        self._crls: OrderedDict[CrlKey, Kept[CheckedCrl]] = OrderedDict()
        self._failures: OrderedDict[Hashable, tuple[datetime, str]] = OrderedDict()

    def answer(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Kept[Evidence] | None:
        """The newest OCSP answer about a certificate that still counts."""
        return _find(self._answers, (fingerprint(issuer), certificate.serial_number), now)

    def keep_answer(
        self, certificate: x509.Certificate, issuer: x509.Certificate, answer: Evidence, asked_at: datetime
    ) -> None:
        """Keep an OCSP answer, unless a newer one is there.

        Args:
            certificate: whose.
            issuer: its CA.
            answer: what was said.
            asked_at: when it was fetched; of one that a peer sent, when the responder said it.
        """
        _keep(self._answers, (fingerprint(issuer), certificate.serial_number), answer, asked_at + self._lifetime)
        while len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    def crl(self, issuer: x509.Certificate, url: str, now: datetime) -> Kept[CheckedCrl] | None:
        """The newest CRL of a CA from a URL that still counts."""
        return _find(self._crls, (fingerprint(issuer), url), now)

    def keep_crl(self, issuer: x509.Certificate, url: str, crl: CheckedCrl, asked_at: datetime) -> None:
        """Keep a CRL, unless a newer one is there; arguments as those of `keep_answer`."""
        _keep(self._crls, (fingerprint(issuer), url), crl, asked_at + self._lifetime)
        while len(self._crls) > MOST_CRLS or (len(self._crls) > 1 and self._crl_bytes() > self._most_crl_bytes):
            self._crls.popitem(last=False)

    def failure(self, key: Hashable, now: datetime) -> str | None:
        """Why something just failed, as long as it should not be tried again."""
        found = self._failures.get(key)
        return found[1] if found is not None and now < found[0] else None

    def keep_failure(self, key: Hashable, reason: str, until: datetime) -> None:
        """Remember a failure until a time."""
        self._failures[key] = (until, reason)
        self._failures.move_to_end(key)
        while len(self._failures) > MOST_FAILURES:
            self._failures.popitem(last=False)

    def _crl_bytes(self) -> int:
        return sum(kept.statement.size_bytes for kept in self._crls.values())


def fingerprint(certificate: x509.Certificate) -> bytes:
    """By which a CA's certificate is known here."""
    return certificate.fingerprint(hashes.SHA256())


_K = TypeVar("_K", bound=Hashable)


def _find(store: OrderedDict[_K, Kept[_T]], key: _K, now: datetime) -> Kept[_T] | None:
    found = store.get(key)
    if found is None:
        return None
    if found.statement.expires_at < now:
        del store[key]
        return None
    store.move_to_end(key)
    return found


def _keep(store: OrderedDict[_K, Kept[_T]], key: _K, statement: _T, refresh_at: datetime) -> None:
    known = store.get(key)
    if known is not None and known.statement.this_update > statement.this_update:
        return
    if known is not None and known.statement.this_update == statement.this_update:
        # The same once more, perhaps from a peer, whose copy may be older than ours.
        refresh_at = max(refresh_at, known.refresh_at)
    store[key] = Kept(statement, refresh_at)
    store.move_to_end(key)
