"""The certificates of Ostiary itself: of the gateway, of the portal, and of the EAP server."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select
from sqlalchemy.orm import Session

from core import audit
from core.clock import utc_now
from core.runtime import Runtime
from core.secrets import Secret, SecretBox
from core.settings import Settings
from pki import certificates
from pki.authority import CertificateAuthority, lock_issuing, wants_renewal
from pki.errors import PkiError
from pki.issuance import Request
from pki.keys import (
    DevicePrivateKey,
    GatewayKeyType,
    decrypt_system_key,
    encrypt_private_key,
    generate_private_key,
    key_type_matches,
)
from pki.models import Certificate
from pki.names import MAXIMUM_COMMON_NAME, is_address, is_host_name, server_names, subject
from pki.profiles import SYSTEM_PROFILES, Profile, SystemProfileName

_MOST_LOOKED_AT = 16
"""Of one name there are the current certificates, one for each type of key, and those that they took the place of."""


@dataclass(frozen=True, slots=True)
class SystemCertificate:
    """A certificate of ours with its private key."""

    chain_der: tuple[bytes, ...]
    """End entity first, then the issuing CA; no root."""
    private_key: DevicePrivateKey = field(repr=False)
    serial: str
    not_after: datetime

    def chain_pem(self) -> str:
        """The chain in PEM, end entity first, as TLS servers read it."""
        loaded = (x509.load_der_x509_certificate(der) for der in self.chain_der)
        return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in loaded)

    def private_key_pem(self) -> Secret:
        """The private key in PEM (PKCS#8), not encrypted."""
        return Secret(self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def gateway_names(settings: Settings) -> tuple[str, ...]:
    """What the gateway's certificate names: the identity that clients type, and its public addresses."""
    return (settings.gateway.identity, *(str(address) for address in settings.gateway.public_addresses))


def portal_names(settings: Settings) -> tuple[str, ...]:
    """What the portal's certificate names: its public name, and those that work on the machine itself."""
    public = settings.web.public_host
    if not is_address(public):
        public = public.partition(":")[0]
    own = socket.gethostname()
    return tuple(dict.fromkeys((public, "localhost", "127.0.0.1", *([own] if is_host_name(own) else []))))


def system_certificate(
    runtime: Runtime,
    authority: CertificateAuthority,
    profile: SystemProfileName,
    names: Sequence[str],
    *,
    key_type: GatewayKeyType | None = None,
    now: datetime | None = None,
) -> SystemCertificate:
    """The current certificate for these names; issued when there is none that will do.

    A new one is issued when there is none, a third of its life remains, it was revoked, the names or the
    kind of key that the settings ask for changed, or another CA signed it. Call it at start and from time to time.

    Args:
        runtime: of this process.
        authority: which signs.
        profile: what it is for.
        names: host names and addresses; the first one is what people call it.
        key_type: of its key; None for the one that the settings ask for. There is one certificate for each type.
        now: the time, for tests.

    Raises:
        PkiError: a name can't stand in a certificate, or the CA can't sign.
        SecretError: a private key can't be decrypted.
    """
    now = now or utc_now()
    kind = SYSTEM_PROFILES[profile]
    if not names:
        raise PkiError(f"a {profile} certificate needs a name")
    wanted = server_names(names, address_as_dns_name=kind.address_as_dns_name)
    settings = runtime.settings.pki
    # Browsers take ECDSA, which is cheaper; not every VPN client does.
    if key_type is None:
        key_type = "ecdsa-p256" if profile == "portal" else settings.gateway_key_type
    wish = _Wish(kind, names[0], wanted, key_type)
    with runtime.database.reading() as session:
        found = _current(session, authority, wish, now, runtime.box)
    if found is not None:
        return found
    private_key = generate_private_key(key_type)
    with runtime.database.transaction() as session:
        lock_issuing(session)
        found = _current(session, authority, wish, now, runtime.box)
        if found is not None:
            return found
        common_name = names[0] if len(names[0]) <= MAXIMUM_COMMON_NAME else profile
        certificate = authority.sign(
            Request(
                kind,
                subject(settings.organization, common_name),
                private_key.public_key(),
                timedelta(days=settings.server_lifetime_days),
                wanted,
            ),
            now=now,
        )
        row = certificates.store(
            session,
            certificate,
            profile=profile,
            subject=names[0],
            actor=audit.SYSTEM,
            encrypted_key=encrypt_private_key(runtime.box, private_key),
        )
        return _loaded(row, private_key, authority)


@dataclass(frozen=True, slots=True)
class _Wish:
    profile: Profile
    subject: str
    names: tuple[x509.GeneralName, ...]
    key_type: GatewayKeyType


def _current(
    session: Session, authority: CertificateAuthority, wish: _Wish, now: datetime, box: SecretBox
) -> SystemCertificate | None:
    rows = session.scalars(
        select(Certificate)
        .where(
            Certificate.profile == wish.profile.name,
            Certificate.subject == wish.subject,
            Certificate.revoked_at.is_(None),
            Certificate.encrypted_key.is_not(None),
        )
        .order_by(Certificate.not_after.desc())
        .limit(_MOST_LOOKED_AT)
    )
    for row in rows:
        if row.encrypted_key is not None and _is_good(row, authority, wish, now):
            return _loaded(row, decrypt_system_key(box, row.encrypted_key), authority)
    return None


def _is_good(row: Certificate, authority: CertificateAuthority, wish: _Wish, now: datetime) -> bool:
    certificate = x509.load_der_x509_certificate(row.der)
    extensions = certificate.extensions
    issuer_key = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    ca_key = authority.issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return (
        row.not_before <= now
        and not wants_renewal(row.not_before, row.not_after, now)
        and certificate.issuer == authority.issuing.subject
        and issuer_key == ca_key
        and set(extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == set(wish.names)
        and key_type_matches(certificate.public_key(), wish.key_type)
    )


def _loaded(row: Certificate, private_key: DevicePrivateKey, authority: CertificateAuthority) -> SystemCertificate:
    issuing_der = authority.issuing.public_bytes(Encoding.DER)
    return SystemCertificate((row.der, issuing_der), private_key, row.serial, row.not_after)
