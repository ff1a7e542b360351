"""The gateway's own certificates: what it shows in IKE, and what its EAP servers show."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aaa.eap.server import MUTUAL_METHODS, TUNNELS, EapServer, Inside
from aaa.eap.tls import EapTlsServer
from aaa.eap.tls_server import TlsServer
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.foreign import ForeignAuthorities
from pki.keys import DevicePrivateKey
from pki.revocation.own_response import OwnOcspResponse, own_ocsp_response
from pki.system import SystemCertificate, gateway_names, system_certificate

MOST_NAMED_AUTHORITIES = 24
"""In CERTREQ, 20 bytes each: it stands in IKE_SA_INIT, which can't be fragmented. A client that finds its CA not
named may use its certificate all the same."""


@dataclass(frozen=True, slots=True)
class GatewayCredential:
    """A certificate that the gateway proves itself with."""

    chain_der: tuple[bytes, ...]
    """End entity first, no root."""
    private_key: DevicePrivateKey = field(repr=False)
    issuers_spki_sha1: tuple[bytes, ...]
    """SHA-1 of the SubjectPublicKeyInfo of each CA above it, as a client's CERTREQ may name it."""
    ocsp_response_der: bytes
    """Says that the certificate is good, by our CA, for a client that asks for it (RFC 4806)."""
    ocsp_not_after: datetime
    """Until when that may be shown; it is made anew long before."""


class OwnCertificates:
    """Holds them. `renewed` may be called on another thread than the rest.

    Args:
        runtime: of this process.
        authority: our CA.
        foreign: other CAs, whose clients are accepted.

    Raises:
        OstiaryError: the database, the CA or a key can't be used.
    """

    def __init__(self, runtime: Runtime, authority: CertificateAuthority, foreign: ForeignAuthorities) -> None:
        self._runtime = runtime
        self._authority = authority
        self._foreign = foreign
        self._certificates = self._current()
        self._ocsp: dict[str, OwnOcspResponse] = {}
        """By the serial of the certificate."""
        self._tls, self._inside = self._tls_server(), self._inside_tunnels()

    def renewed(self) -> tuple[GatewayCredential, ...]:
        """Those of now, made anew where it is time to. May block."""
        before, self._certificates = self._certificates[0], self._current()
        if self._certificates[0].serial != before.serial:
            self._tls, self._inside = self._tls_server(), self._inside_tunnels()
        known, self._ocsp = self._ocsp, {}
        issuers = tuple(key_sha1(ca) for ca in (self._authority.root, self._authority.issuing))
        return tuple(self._credential(certificate, issuers, known) for certificate in self._certificates)

    def accepted_authorities(self) -> tuple[bytes, ...]:
        """SHA-1 of the SubjectPublicKeyInfo of each CA whose clients are accepted, as many as fit into CERTREQ."""
        own = (self._authority.root, self._authority.issuing)
        accepted = (*own, *self._foreign.anchors, *self._foreign.intermediates)
        return tuple(key_sha1(certificate) for certificate in accepted[:MOST_NAMED_AUTHORITIES])

    def eap_server(self, *, mutual: bool) -> EapServer:
        """For a new conversation, with the methods of the settings.

        Args:
            mutual: only those that prove the server so well that it needs no other proof.
        """
        settings = self._runtime.settings
        methods = [name for name in settings.aaa.eap_methods if not mutual or name in MUTUAL_METHODS]
        return EapServer(methods, settings.gateway.identity, self._tls, os.urandom, inside=self._inside)

    def _credential(
        self, certificate: SystemCertificate, issuers: tuple[bytes, ...], known: Mapping[str, OwnOcspResponse]
    ) -> GatewayCredential:
        der, serial = certificate.chain_der[0], certificate.serial
        response = own_ocsp_response(self._runtime, self._authority, der, known.get(serial))
        self._ocsp[serial] = response
        return GatewayCredential(
            certificate.chain_der, certificate.private_key, issuers, response.der, response.next_update
        )

    def _current(self) -> tuple[SystemCertificate, ...]:
        settings, names = self._runtime.settings, gateway_names(self._runtime.settings)
        types = dict.fromkeys((settings.pki.gateway_key_type, *settings.pki.gateway_extra_key_types))
        return tuple(
            system_certificate(self._runtime, self._authority, "gateway", names, key_type=key_type)
            for key_type in types
        )

    def _tls_server(self) -> EapTlsServer | None:
        if "tls" not in self._runtime.settings.aaa.eap_methods:
            return None
        return EapTlsServer(
            self._certificates[0].chain_der,
            self._certificates[0].private_key,
            [_der(root) for root in (self._authority.root, *self._foreign.anchors)],
            intermediates_der=[_der(ca) for ca in (self._authority.issuing, *self._foreign.intermediates)],
        )

    def _inside_tunnels(self) -> Inside | None:
        settings = self._runtime.settings.aaa
        if TUNNELS.isdisjoint(settings.eap_methods):
            return None
        certificate = self._certificates[0]
        return Inside(
            TlsServer(certificate.chain_der, certificate.private_key),
            settings.eap_inner_methods,
            binding_required=settings.peap_cryptobinding == "required",
        )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def key_sha1(certificate: x509.Certificate) -> bytes:
    """By which CERTREQ names a CA: SHA-1 of its SubjectPublicKeyInfo (RFC 7296 section 3.7)."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha1(spki, usedforsecurity=False).digest()
