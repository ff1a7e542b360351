"""Users and devices for tests, enrolled by the product's own functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from aaa import devices, users
from aaa.devices import IssuedCertificate
from aaa.models import AccessCode
from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from tests.peers.eap import TlsPeer


@dataclass(frozen=True)
class Enrolled:
    """A device with its secrets."""

    id: str
    name: str
    owner: str
    code: str


def enrol(runtime: Runtime, owner: str = "alice", name: str = "alice-laptop", *, new_user: bool = True) -> Enrolled:
    """A device, and its owner where that is a new one."""
    if new_user:
        with runtime.database.transaction() as session:
            users.create_user(session, owner, groups=["staff"], actor=SYSTEM)
    new = devices.add_device(runtime, owner, name, "Debian 12", SYSTEM)
    return Enrolled(new.device.id, new.device.name, owner, new.access_code)


def expire_code(runtime: Runtime, device_id: str) -> None:
    """Let a device's access code end a minute ago."""
    with runtime.database.transaction() as session:
        code = session.get(AccessCode, device_id)
        assert code is not None
        code.expires_at = utc_now() - timedelta(minutes=1)


def certify(runtime: Runtime, device_id: str) -> tuple[IssuedCertificate, CertificateAuthority]:
    """A certificate for a device, and the CA that signed it."""
    authority = CertificateAuthority.open(runtime)
    return devices.issue_certificate(runtime, authority, device_id, "ecdsa-p256", SYSTEM), authority


def chain_of(issued: IssuedCertificate, authority: CertificateAuthority) -> list[bytes]:
    """What a client sends: its certificate and the issuing CA's."""
    return [issued.certificate.public_bytes(Encoding.DER), authority.issuing.public_bytes(Encoding.DER)]


def tls_peer(identity: str, issued: IssuedCertificate, authority: CertificateAuthority) -> TlsPeer:
    """A client that does EAP-TLS with this certificate."""
    anchors = [authority.root.public_bytes(Encoding.DER)]
    return TlsPeer(identity, chain_of(issued, authority), issued.private_key, anchors)
