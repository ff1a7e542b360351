from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete

from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.certificates import revoke_certificate
from pki.models import Certificate
from pki.names import serial_text
from pki.revocation.ocsp import OcspAnswer, check_ocsp_response
from pki.revocation.own_response import LIFETIME, OwnOcspResponse, own_ocsp_response
from pki.system import system_certificate


@pytest.fixture
def gateway(runtime: Runtime, authority: CertificateAuthority) -> bytes:
    """The certificate of a gateway."""
    return system_certificate(runtime, authority, "gateway", ["gateway.example"]).chain_der[0]


def check(response: OwnOcspResponse, certificate_der: bytes, authority: CertificateAuthority) -> OcspAnswer:
    certificate = x509.load_der_x509_certificate(certificate_der)
    return check_ocsp_response(response.der, certificate, authority.issuing, utc_now())


def revoke(runtime: Runtime, certificate_der: bytes) -> None:
    serial = serial_text(x509.load_der_x509_certificate(certificate_der))
    with runtime.database.transaction() as session:
        revoke_certificate(session, serial, "key copied", SYSTEM)


def test_says_good(runtime: Runtime, authority: CertificateAuthority, gateway: bytes) -> None:
    response = own_ocsp_response(runtime, authority, gateway)
    answer = check(response, gateway, authority)
    assert (answer.evidence.revoked, answer.unchecked_responder) == (False, None)
    assert answer.evidence.this_update == response.this_update <= utc_now()
    assert response.next_update - response.this_update == LIFETIME
    assert len(response.der) < 500, "it goes into an IKE message"


def test_says_revoked(runtime: Runtime, authority: CertificateAuthority, gateway: bytes) -> None:
    revoke(runtime, gateway)
    evidence = check(own_ocsp_response(runtime, authority, gateway), gateway, authority).evidence
    assert evidence.revoked


def test_says_revoked_of_what_is_not_in_the_register(
    runtime: Runtime, authority: CertificateAuthority, gateway: bytes
) -> None:
    with runtime.database.transaction() as session:
        session.execute(delete(Certificate))
    assert check(own_ocsp_response(runtime, authority, gateway), gateway, authority).evidence.revoked


def test_is_kept_for_half_of_its_life(runtime: Runtime, authority: CertificateAuthority, gateway: bytes) -> None:
    first = own_ocsp_response(runtime, authority, gateway)
    half = first.this_update + LIFETIME / 2
    second = timedelta(seconds=1)
    assert own_ocsp_response(runtime, authority, gateway, first, now=half - second) is first
    renewed = own_ocsp_response(runtime, authority, gateway, first, now=half)
    assert renewed.this_update > first.this_update
    # A clock that went back: an answer from the future helps nobody.
    assert own_ocsp_response(runtime, authority, gateway, first, now=first.this_update - second) is not first


def test_is_not_kept_for_another_certificate(
    runtime: Runtime, authority: CertificateAuthority, gateway: bytes
) -> None:
    first = own_ocsp_response(runtime, authority, gateway)
    revoke(runtime, gateway)
    renewed = system_certificate(runtime, authority, "gateway", ["gateway.example"]).chain_der[0]
    second = own_ocsp_response(runtime, authority, renewed, first)
    assert not check(second, renewed, authority).evidence.revoked


@pytest.mark.parametrize("revoked", [False, True])
def test_openssl_believes_it(
    runtime: Runtime, authority: CertificateAuthority, gateway: bytes, tmp_path: Path, revoked: bool
) -> None:
    if revoked:
        revoke(runtime, gateway)
    files = {
        "issuing": authority.issuing.public_bytes(Encoding.PEM),
        "root": authority.root.public_bytes(Encoding.PEM),
        "gateway": x509.load_der_x509_certificate(gateway).public_bytes(Encoding.PEM),
        "response": own_ocsp_response(runtime, authority, gateway).der,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = "openssl ocsp -issuer issuing -cert gateway -respin response -CAfile root -verify_other issuing"
    result = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert "Response verify OK" in result.stderr, result.stderr
    assert f"gateway: {'revoked' if revoked else 'good'}" in result.stdout
