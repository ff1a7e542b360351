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
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from pki.errors import CertificateRefused, WeakKeyError
from pki.keys import kind_of
from pki.names import DEVICE_URI_PREFIX, canonical, is_device_uri, serial_text

MAXIMUM_CERTIFICATES = 8
MAXIMUM_CERTIFICATE_BYTES = 16_384
MAXIMUM_CHAIN_BYTES = 65_536
MAXIMUM_NAMES = 32
"""Alternative names that a device's certificate may carry; ours carry three."""
MAXIMUM_SERIAL = 1 << 159
"""Twenty octets with the sign bit clear (RFC 5280 section 4.1.2.2)."""
MAXIMUM_IDENTITY_CHARACTERS = 4096

DN_PREFIX = "dn:"
"""Before the hexadecimal DER of a distinguished name in an IKE identity (ID_DER_ASN1_DN)."""
_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING_TAG = 0x0C

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_HANDLED_CRITICAL = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
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
    _check_size(chain_der)
    try:
        certificate = x509.load_der_x509_certificate(chain_der[0])
        extensions = certificate.extensions
        public_key = certificate.public_key()
        subject_der = certificate.subject.public_bytes()
        if not 0 < certificate.serial_number < MAXIMUM_SERIAL:
            raise CertificateRefused("malformed-certificate", "the serial number is not allowed")
        _check_critical_extensions(extensions)
        _check_path(certificate, tuple(anchors), tuple(intermediates), now)
        _check_strength(public_key)
        _check_usage(extensions)
        device_id, identities = _names(certificate, extensions)
        return VerifiedClient(
            serial_text(certificate), device_id, identities, subject_der, certificate.not_valid_after_utc
        )
    except CertificateRefused:
        raise
    except Exception as error:
        # The parsers below have many ways to refuse hostile DER, some of them undocumented; all mean the same.
        raise CertificateRefused("malformed-certificate", f"the certificate can't be read: {error}") from error


def identity_matches(verified: VerifiedClient, identity: str) -> bool:
    """Whether the certificate belongs to the identity that its holder claimed by IKE or EAP.

    Args:
        verified: the checked certificate.
        identity: text, compared without regard to case with each name in the certificate; or `dn:` and the DER
            of a distinguished name in hexadecimal, compared with the subject (RFC 5280 section 7.1).
    """
    if not identity or len(identity) > MAXIMUM_IDENTITY_CHARACTERS:
        return False
    if identity.startswith(DN_PREFIX):
        try:
            claimed = x509.Name.from_bytes(bytes.fromhex(identity.removeprefix(DN_PREFIX)))
        except Exception:
            # The claim is the peer's bytes: whatever the parser says of them, they are not our subject.
            return False
        return canonical(claimed) == canonical(x509.Name.from_bytes(verified.subject_der))
    folded = identity.casefold()
    return any(folded == name.casefold() for name in verified.identities)


def _check_size(chain_der: Sequence[bytes]) -> None:
    if not chain_der:
        raise CertificateRefused("malformed-certificate", "the client sent no certificate")
    if len(chain_der) > MAXIMUM_CERTIFICATES:
        raise CertificateRefused(
            "malformed-certificate", f"the chain has more than {MAXIMUM_CERTIFICATES} certificates"
        )
    if len(chain_der[0]) > MAXIMUM_CERTIFICATE_BYTES or sum(map(len, chain_der)) > MAXIMUM_CHAIN_BYTES:
        raise CertificateRefused("malformed-certificate", "the chain is larger than any of ours")


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


def _check_critical_extensions(extensions: x509.Extensions) -> None:
    for extension in extensions:
        if extension.critical and extension.oid not in _HANDLED_CRITICAL:
            # It limits the certificate's use in a way that nothing here enforces (RFC 5280 section 4.2).
            oid = extension.oid.dotted_string
            raise CertificateRefused("wrong-usage", f"the critical extension {oid} is not known here")


def _check_strength(public_key: object) -> None:
    try:
        kind_of(public_key)
    except WeakKeyError as error:
        raise CertificateRefused("weak-key", error.message) from None


def _check_usage(extensions: x509.Extensions) -> None:
    """A certificate for signing in, and not for signing certificates (RFC 5280 sections 4.2.1.3, .9 and .12)."""
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise CertificateRefused("wrong-usage", "the certificate is that of a CA")
    usage = _find(extensions, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign:
        raise CertificateRefused("wrong-usage", "the key usage is not that of a client (digitalSignature)")
    purposes = _find(extensions, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise CertificateRefused("wrong-usage", "the extended key usage is not that of a client (clientAuth)")


def _names(certificate: x509.Certificate, extensions: x509.Extensions) -> tuple[str, tuple[str, ...]]:
    """The device's id and everything that its holder may call himself."""
    alternative = _find(extensions, x509.SubjectAlternativeName)
    if alternative is None:
        raise CertificateRefused("wrong-usage", "the certificate names no device")
    if len(alternative) > MAXIMUM_NAMES:
        raise CertificateRefused("malformed-certificate", f"the certificate has more than {MAXIMUM_NAMES} names")
    uris = [name.value for name in alternative if isinstance(name, x509.UniformResourceIdentifier)]
    device_uris = [uri for uri in uris if uri.lower().startswith(DEVICE_URI_PREFIX)]
    if len(device_uris) != 1 or not is_device_uri(device_uris[0]):
        raise CertificateRefused("wrong-usage", "the certificate does not name exactly one device")
    identities = [
        str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    for name in alternative:
        if isinstance(name, x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier):
            identities.append(name.value)
        elif isinstance(name, x509.OtherName) and name.type_id == _UPN:
            identities.append(_utf8_string(name.value))
    return device_uris[0].removeprefix(DEVICE_URI_PREFIX), tuple(identities)


def _utf8_string(der: bytes) -> str:
    """A DER UTF8String of at most 127 bytes, which no user principal name of ours exceeds."""
    if len(der) < 2 or der[0] != _UTF8_STRING_TAG or der[1] > 127 or len(der) != 2 + der[1]:
        raise CertificateRefused("malformed-certificate", "the user principal name is not a short UTF8String")
    return der[2:].decode("utf-8")


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
