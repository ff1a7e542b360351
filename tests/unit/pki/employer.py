"""A company with a CA of its own, whose clients sign in here: with the dates of today, since AAA reads the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from core.clock import utc_now
from core.settings import TrustedAuthoritySettings
from tests.unit.pki.foreign_forge import access, der, pem, points, principal, user_certificate
from tests.unit.pki.forge import DAY, Extension, Signer, ca_extensions, certify, name
from tests.unit.pki.revocation.responder import crl, ocsp_response

OCSP_URL = "http://ocsp.corp.example/"
CRL_URL = "http://pki.corp.example/root.crl"
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Badge:
    """A client's certificate with its key, and what it sends beside it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain_der: list[bytes]


@dataclass
class Employer:
    """A root, and an issuing CA whose own revocation stands in the root's list."""

    now: datetime = field(default_factory=lambda: utc_now().replace(microsecond=0))
    root: Signer = field(init=False)
    issuing: Signer = field(init=False)

    def __post_init__(self) -> None:
        own, key = name("Corporate Root"), ec.generate_private_key(ec.SECP256R1())
        self.root = Signer(
            certify(own, key, own, key.public_key(), ca_extensions(None), begin=self.now - DAY, end=self.now + DAY),
            key,
        )
        self.issuing = self._ca("Corporate Issuing", points(CRL_URL))

    def _ca(self, common_name: str, *extensions: Extension) -> Signer:
        key = ec.generate_private_key(ec.SECP256R1())
        wanted = [*ca_extensions(0), *extensions]
        certificate = self.root.certify(
            name(common_name), key.public_key(), wanted, begin=self.now - DAY, end=self.now + DAY, serial=77
        )
        return Signer(certificate, key)

    def badge(
        self,
        *names: x509.GeneralName,
        urls: Sequence[str] = (OCSP_URL,),
        signer: Signer | None = None,
        **changes: Any,
    ) -> Badge:
        """A certificate for a client, by default for alice."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = user_certificate(
            signer or self.issuing,
            access(*urls),
            names=names or (principal("alice@corp.example"),),
            public_key=key.public_key(),
            begin=self.now - DAY,
            end=self.now + DAY,
            **changes,
        )
        return Badge(certificate, key, der(certificate, self.issuing))

    def says(self, badge: Badge, status: str = "good", **changes: Any) -> bytes:
        """An OCSP response of the issuing CA."""
        dates = {"this_update": self.now, "next_update": self.now + HOUR, "revoked_at": self.now - HOUR, **changes}
        return ocsp_response(badge.certificate, self.issuing, status, **dates)

    def root_list(self, *revoked: int) -> bytes:
        """The root's CRL."""
        return crl(self.root, revoked, this_update=self.now, next_update=self.now + HOUR)

    def settings(self, folder: Path, **changes: Any) -> TrustedAuthoritySettings:
        """What an operator writes to trust this company."""
        file = folder / "corporate.pem"
        file.write_bytes(pem([self.root.certificate]))
        values = {"user_from": "upn", "domains": ("corp.example",), **changes}
        return TrustedAuthoritySettings(name="corporate", file=file, **values)
