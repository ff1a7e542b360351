"""What an OCSP responder and a CRL publisher sign, right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.unit.pki.forge import DAY, NOW, Extension, Signer, key_usage, name

HOUR = timedelta(hours=1)
OCSP_SIGNING: Extension = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
NO_CHECK: Extension = (x509.OCSPNoCheck(), False)
STATUS = {
    "good": ocsp.OCSPCertStatus.GOOD,
    "revoked": ocsp.OCSPCertStatus.REVOKED,
    "unknown": ocsp.OCSPCertStatus.UNKNOWN,
}


def delegate(issuer: Signer, *extensions: Extension, **dates: Any) -> Signer:
    """A responder's certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = extensions or (OCSP_SIGNING, NO_CHECK, (key_usage(digital_signature=True), True))
    return Signer(issuer.certify(name("OCSP Responder"), key.public_key(), wanted, **dates), key)


def ocsp_response(
    certificate: x509.Certificate,
    issuer: Signer,
    status: str = "good",
    *,
    signer: Signer | None = None,
    key: Any = None,
    named: x509.Certificate | None = None,
    by_name: bool = False,
    this_update: datetime = NOW - HOUR,
    next_update: datetime | None = NOW + HOUR,
    reason: x509.ReasonFlags | None = None,
    revoked_at: datetime = NOW - DAY,
    nonce: bytes | None = None,
    critical_nonce: bool = False,
    with_certificates: Sequence[x509.Certificate] | None = None,
    algorithm: Any = None,
    certid_hash: hashes.HashAlgorithm | None = None,
    certid_issuer: x509.Certificate | None = None,
) -> bytes:
    """A response about a certificate; the issuer signs unless a delegate does."""
    responder = signer or issuer
    revoked = status == "revoked"
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate,
        certid_issuer or issuer.certificate,
        certid_hash or hashes.SHA1(),
        STATUS[status],
        this_update,
        next_update,
        revoked_at if revoked else None,
        reason if revoked else None,
    )
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = builder.responder_id(encoding, named or responder.certificate)
    if with_certificates is None:
        with_certificates = [signer.certificate] if signer is not None else []
    if with_certificates:
        builder = builder.certificates(with_certificates)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical_nonce)
    return builder.sign(key or responder.key, algorithm or hashes.SHA256()).public_bytes(Encoding.DER)


def crl(
    issuer: Signer,
    revoked: Sequence[int] = (),
    *extensions: Extension,
    this_update: datetime = NOW - HOUR,
    next_update: datetime = NOW + HOUR,
    key: Any = None,
    issuer_name: x509.Name | None = None,
    reason: x509.ReasonFlags | None = None,
    entry_extensions: Sequence[Extension] = (),
) -> bytes:
    """A list of revoked serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer_name or issuer.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
    )
    for extension, critical in ((x509.CRLNumber(7), False), *extensions):
        builder = builder.add_extension(extension, critical)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        for extension, critical in entry_extensions:
            entry = entry.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key or issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def scope(**changes: Any) -> Extension:
    """An issuingDistributionPoint."""
    fields: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**fields, **changes}), True
