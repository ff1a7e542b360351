"""The OCSP response for a certificate of ours, signed beforehand by our issuing CA (RFC 6960 section 2.5).

A client that asks for it in IKE (RFC 4806) gets it with the certificate, and need not reach anything else to know
that the gateway was not revoked. It lives for hours, and is made anew when half of them are over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from core.clock import utc_now
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.certificates import revocation_of
from pki.names import serial_text
from pki.profiles import BACKDATE

LIFETIME = timedelta(hours=4)
"""Long enough for a client whose clock is an hour off, and for a database that is away for a while."""


@dataclass(frozen=True, slots=True)
class OwnOcspResponse:
    """A response, and how long it may be shown."""

    der: bytes
    certificate_der: bytes
    """About which certificate."""
    this_update: datetime
    next_update: datetime

    def is_fresh(self, certificate_der: bytes, now: datetime) -> bool:
        """Whether it is about this certificate, and more than half of its life is left."""
        half = self.this_update + (self.next_update - self.this_update) / 2
        return self.certificate_der == certificate_der and self.this_update <= now < half


def own_ocsp_response(
    runtime: Runtime,
    authority: CertificateAuthority,
    certificate_der: bytes,
    known: OwnOcspResponse | None = None,
    *,
    now: datetime | None = None,
) -> OwnOcspResponse:
    """The response to show with a certificate of ours. May block.

    Args:
        runtime: of this process; the register in its database says whether the certificate was revoked.
        authority: which signed the certificate, and signs the response.
        certificate_der: end entity.
        known: the response of the last call, given back as long as half of its life is left.
        now: the time, for tests.

    Raises:
        SecretError: the issuing key can't be decrypted.
        SQLAlchemyError: the register can't be read.
    """
    now = now or utc_now()
    if known is not None and known.is_fresh(certificate_der, now):
        return known
    certificate = x509.load_der_x509_certificate(certificate_der)
    with runtime.database.reading() as session:
        revocation = revocation_of(session, serial_text(certificate))
    this_update = now.replace(microsecond=0) - BACKDATE
    next_update = this_update + LIFETIME
    revoked_at = None if revocation is None else revocation.revoked_at or this_update
    der = authority.sign_ocsp_response(certificate, revoked_at, this_update, next_update)
    return OwnOcspResponse(der, certificate_der, this_update, next_update)
