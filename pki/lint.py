"""Checks a certificate against its profile before the real key signs it.

Issuance signs the same content with a throwaway key first and hands the result here. So a mistake in a
builder, a setting or a library shows before a certificate exists that a client would believe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID, NameOID

from pki.errors import WeakKeyError
from pki.keys import KeyKind, kind_of
from pki.names import is_address, is_device_uri, is_host_name, is_mailbox
from pki.profiles import BACKDATE, Profile

MINIMUM_SERIAL_BITS = 64
MAXIMUM_SERIAL_BITS = 159
"""Twenty octets with the sign bit clear (RFC 5280 section 4.1.2.2)."""
SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class LintContext:
    """What the certificate has to agree with."""

    issuer: x509.Name
    issuer_key_identifier: bytes
    issuer_not_after: datetime
    now: datetime


def lint(certificate: x509.Certificate, profile: Profile, context: LintContext) -> list[str]:
    """Everything that is wrong with a to-be-issued certificate, in words; empty when it may be issued."""
    try:
        kind = kind_of(certificate.public_key())
        return [
            *_check_basics(certificate, context),
            *_check_validity(certificate, profile, context),
            *(
                []
                if kind in profile.key_kinds
                else [f"the profile {profile.name} does not allow a key of kind {kind}"]
            ),
            *_check_extensions(certificate, profile, context, kind),
        ]
    except WeakKeyError as error:
        return [error.message]
    except ValueError as error:
        return [f"it can't be read back: {error}"]


def _check_basics(certificate: x509.Certificate, context: LintContext) -> Iterator[str]:
    if certificate.version is not x509.Version.v3:
        yield "the version is not 3"
    bits = certificate.serial_number.bit_length()
    if certificate.serial_number <= 0 or not MINIMUM_SERIAL_BITS <= bits <= MAXIMUM_SERIAL_BITS:
        yield f"the serial number has {bits} bits"
    if certificate.issuer != context.issuer:
        yield "the issuer is not the name of the CA"
    if len(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)) != 1:
        yield "the subject has not exactly one common name"
    if not isinstance(certificate.signature_hash_algorithm, SIGNATURE_HASHES):
        yield "the signature hash is not SHA-256 or better"


def _check_validity(certificate: x509.Certificate, profile: Profile, context: LintContext) -> Iterator[str]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin < end:
        yield "it ends before it begins"
    if end - begin > profile.max_lifetime:
        yield f"it lives longer than {profile.max_lifetime.days} days"
    if end > context.issuer_not_after:
        yield "it outlives its issuer"
    if not context.now - 2 * BACKDATE <= begin <= context.now:
        yield "it does not begin now"


def _check_extensions(
    certificate: x509.Certificate, profile: Profile, context: LintContext, kind: KeyKind
) -> Iterator[str]:
    extensions = certificate.extensions
    expected_critical = {ExtensionOID.BASIC_CONSTRAINTS: True, ExtensionOID.KEY_USAGE: True}
    for oid in (ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER):
        expected_critical[oid] = False
    if profile.extended_key_usages:
        expected_critical[ExtensionOID.EXTENDED_KEY_USAGE] = False
    if profile.san_forms:
        expected_critical[ExtensionOID.SUBJECT_ALTERNATIVE_NAME] = False
    if {extension.oid: extension.critical for extension in extensions} != expected_critical:
        yield "its extensions, or which of them are critical, are not those of the profile"
        return

    constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints != x509.BasicConstraints(ca=profile.is_ca, path_length=profile.path_length):
        yield "the basic constraints are not those of the profile"
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    if usage != profile.key_usage(kind):
        yield "the key usage is not that of the profile"
    own_key = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    if own_key != x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()):
        yield "the subject key identifier is not that of the key"
    issuer_key = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    if issuer_key.key_identifier != context.issuer_key_identifier:
        yield "the authority key identifier is not that of the issuer"
    if profile.extended_key_usages:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if tuple(purposes) != profile.extended_key_usages:
            yield "the extended key usage is not that of the profile"
    if profile.san_forms:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        yield from _check_alternative_names(tuple(names), profile)


def _check_alternative_names(names: tuple[x509.GeneralName, ...], profile: Profile) -> Iterator[str]:
    if not names or len(set(names)) != len(names):
        yield "the alternative names are empty, or one stands there twice"
    for form in profile.required_san_forms:
        if not any(isinstance(name, form) for name in names):
            yield f"the profile {profile.name} wants a {form.__name__}"
    addresses = {str(name.value) for name in names if isinstance(name, x509.IPAddress)}
    for name in names:
        if not isinstance(name, profile.san_forms):
            yield f"the profile {profile.name} allows no {type(name).__name__}"
        elif isinstance(name, x509.DNSName):
            known_address = profile.address_as_dns_name and name.value in addresses
            if not known_address and (is_address(name.value) or not is_host_name(name.value)):
                yield f"{name.value!r} is not a host name"
        elif isinstance(name, x509.RFC822Name) and not is_mailbox(name.value):
            yield f"{name.value!r} is not a mail address"
    if profile.names_device:
        uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
        if len(uris) != 1 or not is_device_uri(uris[0]):
            yield "it does not name exactly one device"
