"""Decides whether a peer's certificate is one of ours for a device: pure, bounded, for hostile input.

Only the peer's own certificate is read. What it sends beside it is counted and thrown away, for the issuing
CAs are ours and at hand; so nobody can lead the path through certificates of his own. Paths are built and
checked by `cryptography.x509.verification` (signatures, dates, CA flags, path length, critical extensions);
what is special to devices is checked here. No URL in a certificate is ever followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from pki.errors import CertificateRefused
from pki.names import DEVICE_URI_PREFIX, is_device_uri
from pki.peer_certificate import (
    MAXIMUM_CERTIFICATES,
    Names,
    check_critical_extensions,
    check_end_entity,
    check_strength,
    find_extension,
    names_of,
    parse_chain,
)


@dataclass(frozen=True, slots=True)
class VerifiedClient:
    """A device's certificate that chains to our CA, is in date and is meant for this use. Not yet: revocation."""

    serial: str
    """As `pki.certificates.revocation_of` wants it."""
    device_id: str
    identities: tuple[str, ...]
    """Common name, then dNSName, rfc822Name, URI and user principal names."""
    subject_der: bytes
    not_after: datetime


def verify_client_chain(
    chain_der: Sequence[bytes],
    anchors: Sequence[x509.Certificate],
    intermediates: Sequence[x509.Certificate],
    now: datetime,
) -> VerifiedClient:
    """Check the certificate that a client showed.

    Args:
        chain_der: what the client sent, its own certificate first.
        anchors: roots of ours.
        intermediates: issuing CAs of ours.
        now: the time to judge dates by, aware.

    Raises:
        CertificateRefused: and nothing else, whatever the bytes are.
    """
    try:
        peer = parse_chain(chain_der)
        certificate, extensions = peer.certificate, peer.extensions
        check_critical_extensions(extensions)
        _check_path(certificate, tuple(anchors), tuple(intermediates), now)
        check_strength(certificate.public_key())
        _check_usage(extensions)
        names = names_of(certificate, extensions)
        device_id = _device_id(names)
        return VerifiedClient(
            peer.serial, device_id, names.in_order, peer.subject_der, certificate.not_valid_after_utc
        )
    except CertificateRefused:
        raise
    except Exception as error:
        # The parsers have many ways to refuse hostile DER, some of them undocumented; all mean the same.
        raise CertificateRefused("malformed-certificate", f"the certificate can't be read: {error}") from error


@lru_cache(maxsize=8)
def _policy(anchors: tuple[x509.Certificate, ...]) -> PolicyBuilder:
    """The part of the path check that does not change from sign-in to sign-in."""
    return (
        PolicyBuilder()
        .store(Store(list(anchors)))
        .max_chain_depth(MAXIMUM_CERTIFICATES)
        .extension_policies(
            ca_policy=ExtensionPolicy.webpki_defaults_ca(),
            # The end entity's extensions are checked below, where each mistake gets its own code.
            ee_policy=ExtensionPolicy.permit_all(),
        )
    )


def _check_path(
    certificate: x509.Certificate,
    anchors: tuple[x509.Certificate, ...],
    intermediates: tuple[x509.Certificate, ...],
    now: datetime,
) -> None:
    if not anchors:
        raise CertificateRefused("untrusted-certificate", "no root of ours is at hand")
    verifier = _policy(anchors).time(now).build_client_verifier()
    try:
        verifier.verify(certificate, list(intermediates))
    except VerificationError as error:
        raise _path_refusal(certificate, anchors, intermediates, now, str(error)) from None


def _path_refusal(
    certificate: x509.Certificate,
    anchors: tuple[x509.Certificate, ...],
    intermediates: tuple[x509.Certificate, ...],
    now: datetime,
    detail: str,
) -> CertificateRefused:
    """Which code a failed path gets. Dates are only told of what one of our CAs signed."""
    issuer = next((ca for ca in (*intermediates, *anchors) if _is_signed_by(certificate, ca)), None)
    if issuer is None:
        return CertificateRefused("untrusted-certificate", "none of our CAs signed the certificate")
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        return CertificateRefused("expired-certificate", f"the certificate expired at {end:%Y-%m-%d %H:%M:%S} UTC")
    if now < begin:
        return CertificateRefused(
            "not-yet-valid-certificate", f"the certificate is valid from {begin:%Y-%m-%d %H:%M:%S} UTC"
        )
    if now > min(issuer.not_valid_after_utc, max(anchor.not_valid_after_utc for anchor in anchors)):
        return CertificateRefused("expired-certificate", "the certificate of the CA that signed it has expired")
    return CertificateRefused("untrusted-certificate", f"no path to our root: {detail}")


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_usage(extensions: x509.Extensions) -> None:
    """A certificate for signing in, and not for signing certificates (RFC 5280 sections 4.2.1.3 and .12)."""
    check_end_entity(extensions)
    usage = find_extension(extensions, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        raise CertificateRefused("wrong-usage", "the key usage is not that of a client (digitalSignature)")
    purposes = find_extension(extensions, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise CertificateRefused("wrong-usage", "the extended key usage is not that of a client (clientAuth)")


def _device_id(names: Names) -> str:
    device_uris = [uri for uri in names.uris if uri.lower().startswith(DEVICE_URI_PREFIX)]
    if len(device_uris) != 1 or not is_device_uri(device_uris[0]):
        raise CertificateRefused("wrong-usage", "the certificate does not name exactly one device")
    return device_uris[0].removeprefix(DEVICE_URI_PREFIX)
