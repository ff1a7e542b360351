"""What is read of a certificate that a peer showed, whoever signed it: bounded, for hostile input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from pki.errors import CertificateRefused, WeakKeyError
from pki.keys import kind_of
from pki.names import canonical, serial_text

MAXIMUM_CERTIFICATES = 8
MAXIMUM_CERTIFICATE_BYTES = 16_384
MAXIMUM_CHAIN_BYTES = 65_536
MAXIMUM_NAMES = 32
"""Alternative names that a client's certificate may carry; ours carry three."""
MAXIMUM_SERIAL = 1 << 159
"""Twenty octets with the sign bit clear (RFC 5280 section 4.1.2.2)."""
MAXIMUM_IDENTITY_CHARACTERS = 4096

DN_PREFIX = "dn:"
"""Before the hexadecimal DER of a distinguished name in an IKE identity (ID_DER_ASN1_DN)."""
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
"""The user principal name, an otherName of Microsoft's."""
_UTF8_STRING_TAG = 0x0C

_HANDLED_CRITICAL = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Named(Protocol):
    """A checked certificate, as far as it says who its holder is."""

    @property
    def identities(self) -> tuple[str, ...]:
        """Everything that the holder may call himself, but for the subject's distinguished name."""

    @property
    def subject_der(self) -> bytes:
        """The subject."""


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A peer's own certificate, parsed: nothing in it is believed yet."""

    certificate: x509.Certificate
    extensions: x509.Extensions
    serial: str
    subject_der: bytes


@dataclass(frozen=True, slots=True)
class Names:
    """The names in a certificate, by their form."""

    common: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    mail: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    in_order: tuple[str, ...] = ()
    """All of them: the common names, then the others in their order."""


def parse_chain(chain_der: Sequence[bytes]) -> PeerCertificate:
    """Count and measure what a peer sent, and parse its own certificate, which comes first.

    Raises:
        CertificateRefused: too much or too large, or a serial number that is not allowed.
        Exception: whatever the parsers say of hostile DER; the caller takes all of it for a malformed certificate.
    """
    _check_size(chain_der)
    certificate = x509.load_der_x509_certificate(chain_der[0])
    if not 0 < certificate.serial_number < MAXIMUM_SERIAL:
        raise CertificateRefused("malformed-certificate", "the serial number is not allowed")
    subject_der = certificate.subject.public_bytes()
    return PeerCertificate(certificate, certificate.extensions, serial_text(certificate), subject_der)


def issuer_of(chain_der: Sequence[bytes]) -> bytes | None:
    """Who a peer's own certificate says signed it: the DER of the name; None where it can't be read."""
    if not chain_der or len(chain_der[0]) > MAXIMUM_CERTIFICATE_BYTES:
        return None
    try:
        return x509.load_der_x509_certificate(chain_der[0]).issuer.public_bytes()
    except Exception:
        # The parsers have many ways to refuse hostile DER, some of them undocumented; all mean the same.
        return None


def check_critical_extensions(extensions: x509.Extensions) -> None:
    """Refuse what limits a certificate's use in a way that nothing here enforces (RFC 5280 section 4.2)."""
    for extension in extensions:
        if extension.critical and extension.oid not in _HANDLED_CRITICAL:
            oid = extension.oid.dotted_string
            raise CertificateRefused("wrong-usage", f"the critical extension {oid} is not known here")


def check_strength(public_key: object) -> None:
    """Refuse a key that is too weak, or of a kind that is not allowed."""
    try:
        kind_of(public_key)
    except WeakKeyError as error:
        raise CertificateRefused("weak-key", error.message) from None


def check_end_entity(extensions: x509.Extensions) -> None:
    """Refuse the certificate of a CA (RFC 5280 sections 4.2.1.3 and 4.2.1.9)."""
    constraints = find_extension(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise CertificateRefused("wrong-usage", "the certificate is that of a CA")
    usage = find_extension(extensions, x509.KeyUsage)
    if usage is not None and usage.key_cert_sign:
        raise CertificateRefused("wrong-usage", "the key usage is that of a CA (keyCertSign)")


def names_of(certificate: x509.Certificate, extensions: x509.Extensions) -> Names:
    """The common names, and the alternative names of the forms that name a person or a machine.

    Raises:
        CertificateRefused: too many names, or a user principal name that is none.
    """
    alternative = find_extension(extensions, x509.SubjectAlternativeName) or ()
    if len(list(alternative)) > MAXIMUM_NAMES:
        raise CertificateRefused("malformed-certificate", f"the certificate has more than {MAXIMUM_NAMES} names")
    common = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    dns: list[str] = []
    mail: list[str] = []
    uris: list[str] = []
    principals: list[str] = []
    in_order = list(common)
    for name in alternative:
        match name:
            case x509.DNSName():
                form, text = dns, name.value
            case x509.RFC822Name():
                form, text = mail, name.value
            case x509.UniformResourceIdentifier():
                form, text = uris, name.value
            case x509.OtherName() if name.type_id == UPN:
                form, text = principals, _utf8_string(name.value)
            case _:
                continue
        form.append(text)
        in_order.append(text)
    return Names(tuple(common), tuple(dns), tuple(mail), tuple(uris), tuple(principals), tuple(in_order))


def find_extension(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    """The extension of a kind, None where there is none."""
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def identity_matches(verified: Named, identity: str) -> bool:
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
        raise CertificateRefused("malformed-certificate", "the chain is larger than any that is taken")


def _utf8_string(der: bytes) -> str:
    """A DER UTF8String of at most 127 bytes, which no user principal name exceeds."""
    if len(der) < 2 or der[0] != _UTF8_STRING_TAG or der[1] > 127 or len(der) != 2 + der[1]:
        raise CertificateRefused("malformed-certificate", "the user principal name is not a short UTF8String")
    return der[2:].decode("utf-8")
