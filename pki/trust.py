"""Reads the files of `pki.trusted_authorities` at start, and refuses those that could not be meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.settings import TrustedAuthoritySettings
from pki.errors import PkiError
from pki.foreign import ForeignAuthorities, TrustedAuthority
from pki.peer_certificate import find_extension

MOST_CERTIFICATES_IN_FILE = 64
LARGEST_FILE_BYTES = 1024 * 1024


def load_authorities(
    settings: Sequence[TrustedAuthoritySettings], own: Sequence[x509.Certificate]
) -> ForeignAuthorities:
    """Read every file.

    Args:
        settings: `pki.trusted_authorities`.
        own: our root and issuing CA. What they sign is judged by the register of issued certificates alone, so
            none of their keys may be trusted a second time, without it.

    Raises:
        PkiError: a file that can't be read or holds no root, a certificate that is no CA, or a key that is trusted
            twice.
    """
    loaded = [load_authority(one) for one in settings]
    owner_of = {_key(certificate): "Ostiary's own CA" for certificate in own}
    for authority in loaded:
        for certificate in (*authority.anchors, *authority.intermediates):
            key = _key(certificate)
            other = owner_of.setdefault(key, authority.name)
            if other != authority.name:
                raise PkiError(
                    f"{authority.settings.file}: {certificate.subject.rfc4514_string()} belongs to {other} already",
                    fix="name each CA in one of pki.trusted_authorities only, and Ostiary's own in none",
                )
    return ForeignAuthorities(loaded)


def load_authority(settings: TrustedAuthoritySettings) -> TrustedAuthority:
    """Read one file.

    Raises:
        PkiError: see `load_authorities`.
    """
    file = settings.file
    anchors: dict[bytes, x509.Certificate] = {}
    intermediates: dict[bytes, x509.Certificate] = {}
    for certificate in _certificates(file):
        _check_ca(certificate, file)
        kind = anchors if _is_self_signed(certificate) else intermediates
        kind[certificate.public_bytes(Encoding.DER)] = certificate
    if not anchors:
        raise PkiError(
            f"{file}: there is no root in it, only CAs below one",
            fix="add the self-signed certificate that they lead to",
        )
    return TrustedAuthority(settings, tuple(anchors.values()), tuple(intermediates.values()))


def _certificates(file: Path) -> list[x509.Certificate]:
    try:
        if file.stat().st_size > LARGEST_FILE_BYTES:
            raise PkiError(f"{file}: larger than a file of CA certificates can be")
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise PkiError(f"{file}: can't be read: {error.strerror}", fix="see pki.trusted_authorities") from None
    except ValueError as error:
        raise PkiError(f"{file}: not certificates in PEM: {error}", fix="see pki.trusted_authorities") from None
    if len(certificates) > MOST_CERTIFICATES_IN_FILE:
        raise PkiError(f"{file}: more than {MOST_CERTIFICATES_IN_FILE} certificates")
    return certificates


def _check_ca(certificate: x509.Certificate, file: Path) -> None:
    shown = certificate.subject.rfc4514_string()
    try:
        constraints = find_extension(certificate.extensions, x509.BasicConstraints)
    except ValueError as error:
        raise PkiError(f"{file}: {shown} can't be read: {error}") from None
    if constraints is None or not constraints.ca:
        raise PkiError(f"{file}: {shown} is not the certificate of a CA", fix="only CA certificates belong there")


def _is_self_signed(certificate: x509.Certificate) -> bool:
    if certificate.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return False
    except (ValueError, TypeError):
        # SHA-1, with which the library verifies nothing. Nobody relies on a root's own signature, so it is enough
        # that the certificate does not name another key as the one that signed it.
        named = find_extension(certificate.extensions, x509.AuthorityKeyIdentifier)
        own = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
        return named is None or named.key_identifier in (None, own.digest, _subject_key(certificate))
    return True


def _subject_key(certificate: x509.Certificate) -> bytes | None:
    identifier = find_extension(certificate.extensions, x509.SubjectKeyIdentifier)
    return identifier.digest if identifier is not None else None


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
