"""Our own certificate authority: a root and an issuing CA, made at first start.

Both private keys rest in the database, encrypted under the installation's key for secrets. The issuing key is
decrypted in a process when it first signs; the root's only where an issuing certificate is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core import audit
from core.clock import utc_now
from core.runtime import Runtime
from core.secrets import SecretBox
from core.settings import PkiSettings
from pki.errors import PkiError
from pki.issuance import Issuer, Request, issue
from pki.keys import PrivateKey, decrypt_private_key, encrypt_private_key, generate_private_key
from pki.models import Authority
from pki.names import subject
from pki.profiles import ISSUING, ROOT, ProfileName

RENEW_FRACTION = 3
"""A certificate of the system is renewed when one part in this many of its life remains."""


@dataclass(frozen=True, slots=True)
class StoredCa:
    """One of the two CAs as the database holds it."""

    name: ProfileName
    certificate: x509.Certificate
    encrypted_key: bytes


class CertificateAuthority:
    """Signs what it is asked to, when lint agrees. Safe to share between threads."""

    def __init__(self, settings: PkiSettings, box: SecretBox, root: StoredCa, issuing: StoredCa) -> None:
        self.settings = settings
        self._box = box
        self._root = root.certificate
        self._issuing = issuing.certificate
        self._encrypted_key = issuing.encrypted_key
        self._issuer: Issuer | None = None

    @classmethod
    def open(cls, runtime: Runtime, *, now: datetime | None = None) -> CertificateAuthority:
        """The authority in the database; made if there is none.

        Several processes may do this at once: the rows that were stored first are the authority of all. An
        issuing certificate near its end is renewed for the same name and key, so that what it signed stays good.

        Raises:
            SecretError: a key in the database can't be decrypted.
            PkiError: the database holds half an authority.
        """
        now = now or utc_now()
        pki = runtime.settings.pki
        with runtime.database.reading() as session:
            stored = load_authority(session)
        if stored is None:
            # Keys are made before the transaction: it holds the database's write lock.
            stored = _store_first(runtime, _make(pki, runtime.box, now), now)
        root, issuing = stored
        if _wants_renewal(root, issuing, pki, now):
            root, issuing = _renew_issuing(runtime, now)
        return cls(pki, runtime.box, root, issuing)

    @property
    def root(self) -> x509.Certificate:
        """The root's certificate, which clients are told to trust."""
        return self._root

    @property
    def issuing(self) -> x509.Certificate:
        """The issuing CA's certificate, which goes into every chain that is sent."""
        return self._issuing

    def trust_pem(self) -> str:
        """The root's certificate in PEM, for clients."""
        return self._root.public_bytes(Encoding.PEM).decode("ascii")

    def sign(self, request: Request, *, now: datetime | None = None) -> x509.Certificate:
        """Issue a certificate; the caller stores it before anyone gets it.

        Raises:
            LintError, WeakKeyError: see `pki.issuance.issue`.
            SecretError: the issuing key can't be decrypted.
        """
        return issue(request, self._signer(), now or utc_now())

    def sign_ocsp_response(
        self,
        certificate: x509.Certificate,
        revoked_at: datetime | None,
        this_update: datetime,
        next_update: datetime,
    ) -> bytes:
        """An OCSP response about a certificate that the issuing CA signed, DER.

        The CA signs it itself, so that whoever trusts the certificate needs nothing else to check it (RFC 6960
        section 4.2.2.2).

        Args:
            certificate: of ours.
            revoked_at: when it was revoked; None where it is good.
            this_update: from when on this is true.
            next_update: until when.

        Raises:
            SecretError: the issuing key can't be decrypted.
        """
        builder = ocsp.OCSPResponseBuilder().add_response(
            certificate,
            self._issuing,
            hashes.SHA1(),  # noqa: S303 - of the CertID, which clients expect so (RFC 5019 section 2.1.1)
            ocsp.OCSPCertStatus.GOOD if revoked_at is None else ocsp.OCSPCertStatus.REVOKED,
            this_update,
            next_update,
            revoked_at,
            None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self._issuing)
        response = builder.sign(self._signer().private_key, hashes.SHA256())
        return response.public_bytes(Encoding.DER)

    def _signer(self) -> Issuer:
        issuer = self._issuer
        if issuer is None:
            issuer = Issuer.of(self._issuing, decrypt_private_key(self._box, self._encrypted_key))
            self._issuer = issuer
        return issuer


def lock_issuing(session: Session) -> None:
    """Make others who are about to issue a certificate of the system wait for this transaction's end."""
    session.execute(select(Authority.name).where(Authority.name == ISSUING.name).with_for_update())


def wants_renewal(begin: datetime, end: datetime, now: datetime) -> bool:
    """Whether only a third of a life is left."""
    return end - now <= (end - begin) / RENEW_FRACTION


def load_authority(session: Session) -> tuple[StoredCa, StoredCa] | None:
    """The root and the issuing CA, or None where there is none yet.

    Raises:
        PkiError: only one of the two is there.
    """
    rows = {row.name: row for row in session.scalars(select(Authority))}
    if not rows:
        return None
    if ROOT.name not in rows or ISSUING.name not in rows:
        raise PkiError("the database has only one of root and issuing CA", fix="restore it from a backup")
    return _stored(ROOT.name, rows[ROOT.name]), _stored(ISSUING.name, rows[ISSUING.name])


def _stored(name: ProfileName, row: Authority) -> StoredCa:
    return StoredCa(name, x509.load_der_x509_certificate(row.certificate_der), row.encrypted_key)


def _make(settings: PkiSettings, box: SecretBox, now: datetime) -> tuple[StoredCa, StoredCa]:
    root_key = generate_private_key(settings.key_type)
    issuing_key = generate_private_key(settings.key_type)
    root_request = _ca_request(settings, ROOT.name, root_key)
    root = issue(root_request, Issuer.itself(root_request, root_key, now), now)
    issuing = issue(_ca_request(settings, ISSUING.name, issuing_key), Issuer.of(root, root_key), now)
    return (
        StoredCa(ROOT.name, root, encrypt_private_key(box, root_key)),
        StoredCa(ISSUING.name, issuing, encrypt_private_key(box, issuing_key)),
    )


def _ca_request(settings: PkiSettings, name: str, key: PrivateKey) -> Request:
    profile, title, days = (
        (ROOT, "Root CA", settings.root_lifetime_days)
        if name == ROOT.name
        else (ISSUING, "Issuing CA", settings.issuing_lifetime_days)
    )
    # Two installations of one organization must not have CAs of the same name: clients look issuers up by name.
    tag = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest[:4].hex()
    common_name = f"{settings.organization[:40]} {title} {tag}"
    return Request(profile, subject(settings.organization, common_name), key.public_key(), timedelta(days=days))


def _store_first(runtime: Runtime, made: tuple[StoredCa, StoredCa], now: datetime) -> tuple[StoredCa, StoredCa]:
    try:
        with runtime.database.transaction() as session:
            stored = load_authority(session)
            if stored is not None:
                return stored
            for ca in made:
                session.add(
                    Authority(
                        name=ca.name,
                        certificate_der=ca.certificate.public_bytes(Encoding.DER),
                        encrypted_key=ca.encrypted_key,
                        created_at=now,
                    )
                )
            session.flush()
            for ca in made:
                _record(session, "ca.create", ca)
            return made
    except IntegrityError:
        # PostgreSQL let another process insert its rows between our look and our insert.
        with runtime.database.reading() as session:
            stored = load_authority(session)
        if stored is None:
            raise
        return stored


def _wants_renewal(root: StoredCa, issuing: StoredCa, settings: PkiSettings, now: datetime) -> bool:
    """Near its end, and a new one would live longer: the root ends it too."""
    begin, end = issuing.certificate.not_valid_before_utc, issuing.certificate.not_valid_after_utc
    root_end = root.certificate.not_valid_after_utc
    new_end = min(now + timedelta(days=settings.issuing_lifetime_days), root_end)
    return wants_renewal(begin, end, now) and root_end > now and new_end - end > timedelta(days=1)


def _renew_issuing(runtime: Runtime, now: datetime) -> tuple[StoredCa, StoredCa]:
    settings = runtime.settings.pki
    with runtime.database.transaction() as session:
        row = session.get(Authority, ISSUING.name, with_for_update=True, populate_existing=True)
        stored = load_authority(session)
        if row is None or stored is None:
            raise PkiError("the CA was removed from the database while it was being opened")
        root, issuing = stored
        if not _wants_renewal(root, issuing, settings, now):
            return stored
        signer = Issuer.of(root.certificate, decrypt_private_key(runtime.box, root.encrypted_key))
        key = decrypt_private_key(runtime.box, issuing.encrypted_key)
        lifetime = timedelta(days=settings.issuing_lifetime_days)
        renewed = issue(Request(ISSUING, issuing.certificate.subject, key.public_key(), lifetime), signer, now)
        row.certificate_der = renewed.public_bytes(Encoding.DER)
        session.flush()
        result = StoredCa(ISSUING.name, renewed, issuing.encrypted_key)
        _record(session, "ca.renew", result)
        return root, result


def _record(session: Session, action: str, ca: StoredCa) -> None:
    audit.record(
        session,
        audit.SYSTEM,
        action,
        f"ca:{ca.name}",
        detail={
            "subject": ca.certificate.subject.rfc4514_string(),
            "serial": f"{ca.certificate.serial_number:x}",
            "not_after": ca.certificate.not_valid_after_utc.isoformat(timespec="seconds"),
        },
    )
