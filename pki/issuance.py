"""Builds a certificate from its profile, lints it under a throwaway key, and only then signs it with the real one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.errors import LintError, PkiError
from pki.keys import KeyType, PrivateKey, generate_private_key, kind_of
from pki.lint import LintContext, lint
from pki.profiles import BACKDATE, Profile

_HASH = hashes.SHA256()


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be certified."""

    profile: Profile
    subject: x509.Name
    public_key: CertificatePublicKeyTypes
    lifetime: timedelta
    """From not_before, which lies a little in the past; cut where the issuer's own life ends."""
    alternative_names: tuple[x509.GeneralName, ...] = ()


@dataclass(frozen=True, slots=True)
class Issuer:
    """The CA that signs."""

    name: x509.Name
    key_identifier: bytes
    not_after: datetime
    private_key: PrivateKey

    @classmethod
    def of(cls, certificate: x509.Certificate, private_key: PrivateKey) -> Issuer:
        """The CA with this certificate and key."""
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return cls(certificate.subject, identifier.digest, certificate.not_valid_after_utc, private_key)

    @classmethod
    def itself(cls, request: Request, private_key: PrivateKey, now: datetime) -> Issuer:
        """A root, which signs its own certificate."""
        identifier = x509.SubjectKeyIdentifier.from_public_key(private_key.public_key())
        return cls(request.subject, identifier.digest, now + request.lifetime, private_key)


def issue(request: Request, issuer: Issuer, now: datetime) -> x509.Certificate:
    """Sign one certificate.

    Raises:
        WeakKeyError: the public key is not strong enough.
        LintError: the certificate would break its own profile.
        PkiError: the issuer's own certificate has ended.
    """
    kind_of(request.public_key)
    if issuer.not_after <= now:
        raise PkiError(
            f"the CA's certificate ended on {issuer.not_after:%Y-%m-%d}, nothing can be issued",
            fix="check this machine's clock; `ostiary ca show` prints the dates",
        )
    builder = _builder(request, issuer, now)
    rehearsal = builder.sign(_throwaway_key("rsa-3072" if _is_rsa(issuer) else "ecdsa-p256"), _HASH)
    context = LintContext(issuer.name, issuer.key_identifier, issuer.not_after, now)
    findings = lint(rehearsal, request.profile, context)
    if findings:
        raise LintError(f"a {request.profile.name} certificate was not issued: {'; '.join(findings)}")
    certificate = builder.sign(issuer.private_key, _HASH)
    if certificate.tbs_certificate_bytes != rehearsal.tbs_certificate_bytes:
        raise LintError(
            f"a {request.profile.name} certificate was not issued: what was signed is not what was checked"
        )
    return certificate


def _builder(request: Request, issuer: Issuer, now: datetime) -> x509.CertificateBuilder:
    profile = request.profile
    not_before = now.replace(microsecond=0) - BACKDATE
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .issuer_name(issuer.name)
        .subject_name(request.subject)
        .public_key(request.public_key)
        .not_valid_before(not_before)
        .not_valid_after(min(not_before + request.lifetime, issuer.not_after))
        .add_extension(x509.BasicConstraints(ca=profile.is_ca, path_length=profile.path_length), critical=True)
        .add_extension(profile.key_usage(kind_of(request.public_key)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None),
            critical=False,
        )
    )
    if profile.extended_key_usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.extended_key_usages), critical=False)
    if profile.san_forms:
        builder = builder.add_extension(x509.SubjectAlternativeName(request.alternative_names), critical=False)
    return builder


def _is_rsa(issuer: Issuer) -> bool:
    return isinstance(issuer.private_key, rsa.RSAPrivateKey)


@lru_cache(maxsize=2)
def _throwaway_key(key_type: KeyType) -> PrivateKey:
    """A key of the issuer's kind, so that the signature algorithm in the rehearsal is the real one."""
    return generate_private_key(key_type)
