"""CRLs (RFC 5280 section 5): which are believed, and what they say. Pure; hostile bytes are expected.

Only whole lists of the CA itself are taken: no delta CRLs, no indirect ones, none for some reasons only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtensionOID

from pki.peer_certificate import find_extension
from pki.revocation.evidence import CLOCK_SKEW, Evidence, NotUsable, OtherIssuer, check_dates

_SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_HANDLED_CRITICAL = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.CRL_NUMBER})


@dataclass(frozen=True, slots=True)
class CheckedCrl:
    """A whole list that its CA signed; `look_up` says what stands in it."""

    crl: x509.CertificateRevocationList
    size_bytes: int
    this_update: datetime
    expires_at: datetime
    """A little after its nextUpdate, for clocks that differ."""
    scope: x509.IssuingDistributionPoint | None
    """Which certificates it is about; None is all that its CA issued."""


def check_crl(der: bytes, issuer: x509.Certificate, now: datetime) -> CheckedCrl:
    """Decide whether a list is one of this CA, whole and in date.

    Args:
        der: the list.
        issuer: the CA; its own path was checked.
        now: the time to judge dates by, aware.

    Raises:
        NotUsable: and nothing else, whatever the bytes are.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        if crl.issuer != issuer.subject:
            raise OtherIssuer("the CRL is that of another CA")
        _check_signature(crl, issuer)
        for extension in crl.extensions:
            if extension.oid == ExtensionOID.DELTA_CRL_INDICATOR:
                raise NotUsable("the CRL is a delta CRL")
            if extension.critical and extension.oid not in _HANDLED_CRITICAL:
                raise NotUsable(f"the CRL has a critical extension {extension.oid.dotted_string}")
        scope = find_extension(crl.extensions, x509.IssuingDistributionPoint)
        if scope is not None:
            _check_scope(scope)
        if crl.next_update_utc is None:
            raise NotUsable("the CRL does not say when the next one comes")
        check_dates(crl.last_update_utc, crl.next_update_utc, now)
        return CheckedCrl(crl, len(der), crl.last_update_utc, crl.next_update_utc + CLOCK_SKEW, scope)
    except NotUsable:
        raise
    except Exception as error:
        # The parsers have many ways to refuse hostile DER, some of them undocumented; all mean the same.
        raise NotUsable(f"the CRL can't be read: {str(error)[:200]}") from error


def look_up(checked: CheckedCrl, certificate: x509.Certificate, now: datetime) -> Evidence:
    """What a list says of a certificate of the same CA.

    Raises:
        NotUsable: the list is not about this certificate, or has ended.
    """
    if checked.expires_at < now:
        raise NotUsable("the CRL has ended")
    try:
        if checked.scope is not None:
            _check_covers(checked.scope, certificate)
        entry = checked.crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is None:
            return Evidence(False, "CRL", checked.this_update, checked.expires_at)
        reason = find_extension(entry.extensions, x509.CRLReason)
    except NotUsable:
        raise
    except Exception as error:
        raise NotUsable(f"the CRL's entry can't be read: {str(error)[:200]}") from error
    return Evidence.of_revoked(
        "CRL",
        entry.revocation_date_utc,
        reason.reason if reason is not None else None,
        checked.this_update,
        checked.expires_at,
    )


def _check_signature(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> None:
    usage = find_extension(issuer.extensions, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise NotUsable("the CA may not sign CRLs (cRLSign)")
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise NotUsable("the CA's key is of a kind that is not known here")
    if not isinstance(key, ed25519.Ed25519PublicKey) and not isinstance(
        crl.signature_hash_algorithm, _SIGNATURE_HASHES
    ):
        raise NotUsable("the CRL is signed with a weak hash")
    if not crl.is_signature_valid(key):
        raise NotUsable("the signature of the CRL is wrong")


def _check_scope(scope: x509.IssuingDistributionPoint) -> None:
    if scope.indirect_crl:
        raise NotUsable("the CRL is an indirect one")
    if scope.only_some_reasons:
        raise NotUsable("the CRL is for some reasons only")
    if scope.only_contains_attribute_certs:
        raise NotUsable("the CRL is about attribute certificates")
    if scope.relative_name:
        raise NotUsable("the CRL names its distribution point in a form that is not known here")


def _check_covers(scope: x509.IssuingDistributionPoint, certificate: x509.Certificate) -> None:
    """Whether the certificate is one of those that the list is about (RFC 5280 section 6.3.3 step b 2).

    A CA may spread its certificates over several lists. Without this check, a list in which a certificate does not
    stand, because it belongs into another one, would pass for one that calls it good.
    """
    constraints = find_extension(certificate.extensions, x509.BasicConstraints)
    is_ca = constraints is not None and constraints.ca
    if scope.only_contains_user_certs and is_ca:
        raise NotUsable("the CRL is not about CAs")
    if scope.only_contains_ca_certs and not is_ca:
        raise NotUsable("the CRL is about CAs only")
    if scope.full_name:
        points = find_extension(certificate.extensions, x509.CRLDistributionPoints) or ()
        named = {name for point in points for name in point.full_name or ()}
        if named.isdisjoint(scope.full_name):
            raise NotUsable("the CRL is about other certificates of this CA")
