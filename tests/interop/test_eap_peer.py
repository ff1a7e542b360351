"""wpa_supplicant as the EAP peer: TLS 1.3 by RFC 9190, and the MSK compared on both sides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from aaa.eap.mschapv2 import nt_password_hash
from aaa.eap.server import EapServer, MethodName, NtCredential
from aaa.eap.tls import EapTlsServer
from tests.lab.certificates import Identity, KeyKind, LabAuthority, certificate_pem, new_key, now
from tests.lab.eapol import EapOverRadius, tls_network

pytestmark = pytest.mark.interop

SERVER_NAME = "gateway.lab.test"
CLIENT_NAME = "laptop.lab.test"
METHODS: tuple[MethodName, ...] = ("mschapv2", "tls")


@pytest.fixture(scope="module")
def authority() -> LabAuthority:
    return LabAuthority.root()


@pytest.fixture(scope="module")
def tls_server(authority: LabAuthority) -> EapTlsServer:
    server = authority.issue(SERVER_NAME, [x509.DNSName(SERVER_NAME)], usage="server", key=new_key("rsa2048"))
    assert not isinstance(server.key, Ed25519PrivateKey)
    return EapTlsServer([_der(server.certificate)], server.key, [_der(authority.certificate)])


@pytest.fixture
def radius(tls_server: EapTlsServer) -> EapOverRadius:
    password = NtCredential("laptop", nt_password_hash("correct horse"))
    return EapOverRadius(lambda: EapServer(METHODS, SERVER_NAME, tls_server, os.urandom), {"alice": password})


def _client(authority: LabAuthority, kind: KeyKind = "p256") -> Identity:
    return authority.issue(CLIENT_NAME, [x509.DNSName(CLIENT_NAME)], usage="client", key=new_key(kind))


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
@pytest.mark.parametrize("tls_1_3", [True, False], ids=["TLS 1.3", "TLS 1.2"])
def test_eap_tls(
    authority: LabAuthority, radius: EapOverRadius, tmp_path: Path, kind: KeyKind, tls_1_3: bool
) -> None:
    credential = _client(authority, kind)
    trust = certificate_pem(authority.certificate)
    with radius:
        result = radius.run_peer(tmp_path, tls_network(tmp_path, CLIENT_NAME, credential, trust, tls_1_3=tls_1_3))
    assert result.ok, result.output
    assert f"SSL: Using TLS version TLSv1.{3 if tls_1_3 else 2}" in result.output
    assert ("ACKing Commitment Message" in result.output) == tls_1_3
    assert "MPPE keys OK: 1  mismatch: 0" in result.output
    [verdict] = radius.authenticated
    assert verdict.chain_der[0] == _der(credential.certificate)


@pytest.mark.parametrize("tls_1_3", [True, False], ids=["TLS 1.3", "TLS 1.2"])
def test_expired_certificate(authority: LabAuthority, radius: EapOverRadius, tmp_path: Path, tls_1_3: bool) -> None:
    begin = now().replace(year=now().year - 2)
    expired = authority.issue(
        CLIENT_NAME,
        [x509.DNSName(CLIENT_NAME)],
        usage="client",
        not_before=begin,
        not_after=begin.replace(year=begin.year + 1),
    )
    trust = certificate_pem(authority.certificate)
    with radius:
        result = radius.run_peer(tmp_path, tls_network(tmp_path, CLIENT_NAME, expired, trust, tls_1_3=tls_1_3))
    assert not result.ok
    assert "certificate expired" in result.output, "the peer was not told by an alert"
    assert radius.authenticated == []
    assert [failure.code for failure in radius.failed] == ["expired-certificate"]


def test_eap_mschapv2(radius: EapOverRadius, tmp_path: Path) -> None:
    with radius:
        result = radius.run_peer(tmp_path, {"eap": "MSCHAPV2", "identity": '"alice"', "password": '"correct horse"'})
    assert result.ok, result.output
    assert "MPPE keys OK: 1  mismatch: 0" in result.output
    assert [verdict.credential_key for verdict in radius.authenticated] == ["laptop"]


@pytest.mark.parametrize(("identity", "password"), [("alice", "wrong"), ("mallory", "correct horse")])
def test_eap_mschapv2_refused(radius: EapOverRadius, tmp_path: Path, identity: str, password: str) -> None:
    with radius:
        result = radius.run_peer(
            tmp_path, {"eap": "MSCHAPV2", "identity": f'"{identity}"', "password": f'"{password}"'}
        )
    assert not result.ok
    assert radius.authenticated == []
    assert len(radius.failed) == 1


def test_method_that_is_not_spoken(radius: EapOverRadius, tmp_path: Path) -> None:
    with radius:
        result = radius.run_peer(tmp_path, {"eap": "MD5", "identity": '"alice"', "password": '"correct horse"'})
    assert not result.ok
    assert radius.authenticated == []
