"""Certificates of devices: issued for a public key, packed for a client, revoked.

The private key of a device is never stored. Where it was made here on the device's behalf, it leaves once, in
the PKCS#12 file, and is forgotten.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from sqlalchemy.orm import Session

from core.audit import Actor
from core.secrets import Secret
from pki import certificates
from pki.authority import CertificateAuthority
from pki.errors import PkiError
from pki.issuance import Request
from pki.keys import DevicePrivateKey
from pki.names import MAXIMUM_COMMON_NAME, device_names, is_device_uri, subject
from pki.profiles import DEVICE

_PKCS12_ROUNDS = 100_000
_LEGACY_PKCS12_ROUNDS = 2048
"""Old importers refuse or crawl through more; the file is protected by how short it lives."""


def issue_device_certificate(
    session: Session,
    authority: CertificateAuthority,
    device_id: str,
    device_name: str,
    user_name: str,
    public_key: CertificatePublicKeyTypes,
    actor: Actor,
) -> x509.Certificate:
    """Issue and store a client certificate; hand it out after the transaction is committed.

    Args:
        session: the transaction, which also holds what made this rightful.
        authority: which signs.
        device_id: a UUID in lower case; becomes the URI `urn:uuid:...`, by which sign-in knows the device.
        device_name: the common name, and with `.devices.ostiary.internal` a dNSName.
        user_name: the owner; becomes an rfc822Name where it is a mail address.
        public_key: P-256, P-384, Ed25519 or RSA; that its private key is the device's was checked before.
        actor: who asked for it.

    Raises:
        WeakKeyError: the key is too weak or of another kind.
        PkiError: the id is not a UUID, the name is too long, or the CA can't sign.
    """
    names = device_names(device_id, device_name, user_name)
    if not is_device_uri(str(names[0].value)):
        raise PkiError(f"{device_id!r} is not the id of a device")
    if not 1 <= len(device_name) <= MAXIMUM_COMMON_NAME:
        raise PkiError(f"a device's name has 1 to {MAXIMUM_COMMON_NAME} characters")
    lifetime = timedelta(hours=authority.settings.device_lifetime_hours)
    holder = subject(authority.settings.organization, device_name)
    certificate = authority.sign(Request(DEVICE, holder, public_key, lifetime, names))
    certificates.store(
        session, certificate, profile=DEVICE.name, subject=device_name, actor=actor, device_id=device_id
    )
    return certificate


def to_pkcs12(
    private_key: DevicePrivateKey,
    certificate: x509.Certificate,
    authority: CertificateAuthority,
    password: Secret,
    *,
    name: str,
    legacy: bool = False,
) -> bytes:
    """Key, certificate and our two CAs as PKCS#12 (RFC 7292), for a device whose key was made here.

    Args:
        private_key: of the device.
        certificate: of the device.
        authority: whose root the device is to trust.
        password: at least one byte.
        name: shown by the client that imports it.
        legacy: 3DES and SHA-1 for Apple and old Windows, which read nothing newer; else AES-256 and SHA-256.

    Raises:
        PkiError: the password is empty.
    """
    if not password.reveal():
        raise PkiError("a PKCS#12 file needs a password")
    builder = PrivateFormat.PKCS12.encryption_builder()
    encryption = (
        builder.kdf_rounds(_LEGACY_PKCS12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - what "legacy" means here
        if legacy
        else builder.kdf_rounds(_PKCS12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
    )
    return pkcs12.serialize_key_and_certificates(
        name.encode(),
        private_key,
        certificate,
        [authority.issuing, authority.root],
        encryption.build(password.reveal()),
    )


def revoke_device_certificates(session: Session, device_id: str, reason: str, actor: Actor) -> int:
    """Revoke every certificate of a device that has not ended by itself, each with its audit event.

    Args:
        session: the transaction to do it in.
        device_id: whose certificates.
        reason: why, in words for a person.
        actor: who revokes.

    Returns:
        How many were revoked now; 0 when it was done before.
    """
    return certificates.revoke_all_of_device(session, device_id, reason, actor)
