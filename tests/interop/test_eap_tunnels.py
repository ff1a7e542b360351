"""wpa_supplicant as the peer of EAP-TTLS and PEAP: each method inside, TLS 1.2 and 1.3, the MSK of both sides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from aaa.eap.mschapv2 import nt_password_hash
from aaa.eap.server import EapServer, Inside, MethodName, NtCredential
from aaa.eap.tls_server import TlsServer
from tests.lab.certificates import LabAuthority, certificate_pem, new_key
from tests.lab.eapol import EapolResult, EapOverRadius

pytestmark = pytest.mark.interop

SERVER_NAME = "gateway.lab.test"
PASSWORD = "correct horse"
METHODS: tuple[MethodName, ...] = ("mschapv2", "ttls", "peap")
INNER = {
    "TTLS/PAP": ("TTLS", "auth=PAP"),
    "TTLS/MSCHAPv2": ("TTLS", "auth=MSCHAPV2"),
    "TTLS/EAP-MSCHAPv2": ("TTLS", "autheap=MSCHAPV2"),
    "TTLS/EAP-GTC": ("TTLS", "autheap=GTC"),
    "PEAP/EAP-MSCHAPv2": ("PEAP", "auth=MSCHAPV2"),
    "PEAP/EAP-GTC": ("PEAP", "auth=GTC"),
}
EACH = pytest.mark.parametrize("which", list(INNER))
VERSIONS = pytest.mark.parametrize("tls_1_3", [True, False], ids=["TLS 1.3", "TLS 1.2"])


@pytest.fixture(scope="module")
def authority() -> LabAuthority:
    return LabAuthority.root()


def _radius(authority: LabAuthority, *, fragment_bytes: int = 1024) -> EapOverRadius:
    server = authority.issue(SERVER_NAME, [x509.DNSName(SERVER_NAME)], usage="server", key=new_key("rsa2048"))
    assert not isinstance(server.key, Ed25519PrivateKey)
    tls = TlsServer([server.certificate.public_bytes(Encoding.DER)], server.key, fragment_bytes=fragment_bytes)
    inside = Inside(tls, ("mschapv2", "gtc", "pap"))
    password = NtCredential("laptop", nt_password_hash(PASSWORD))
    return EapOverRadius(
        lambda: EapServer(METHODS, SERVER_NAME, None, os.urandom, inside=inside), {"alice": password}
    )


@pytest.fixture
def radius(authority: LabAuthority) -> EapOverRadius:
    return _radius(authority)


def _run(
    authority: LabAuthority,
    radius: EapOverRadius,
    directory: Path,
    which: str,
    *,
    tls_1_3: bool,
    phase1: str = "",
    **changes: str,
) -> EapolResult:
    method, phase2 = INNER[which]
    trust = directory / "ca.pem"
    trust.write_text(certificate_pem(authority.certificate), encoding="utf-8")
    settings = {
        "identity": "alice",
        "anonymous_identity": "nobody@lab.test",
        "password": PASSWORD,
        "ca_cert": str(trust),
        "domain_match": SERVER_NAME,
        "phase1": f"tls_disable_tlsv1_3={int(not tls_1_3)} {phase1}".strip(),
        "phase2": phase2,
        **changes,
    }
    with radius:
        return radius.run_peer(
            directory,
            {"eap": method, **{key: value if value.isdigit() else f'"{value}"' for key, value in settings.items()}},
        )


@VERSIONS
@EACH
def test_sign_in(authority: LabAuthority, radius: EapOverRadius, tmp_path: Path, which: str, tls_1_3: bool) -> None:
    binding = "crypto_binding=2" if which.startswith("PEAP") else ""
    result = _run(authority, radius, tmp_path, which, tls_1_3=tls_1_3, phase1=binding)
    assert result.ok, result.output
    assert f"SSL: Using TLS version TLSv1.{3 if tls_1_3 else 2}" in result.output
    assert "MPPE keys OK: 1  mismatch: 0" in result.output
    [verdict] = radius.authenticated
    # What counts is who signed in inside, not whom the outside named.
    assert verdict.identity == "alice"
    assert verdict.credential_key == "laptop"


@VERSIONS
@EACH
def test_wrong_password(
    authority: LabAuthority, radius: EapOverRadius, tmp_path: Path, which: str, tls_1_3: bool
) -> None:
    result = _run(authority, radius, tmp_path, which, tls_1_3=tls_1_3, password="wrong")
    assert not result.ok
    assert radius.authenticated == []
    assert [(failure.code, failure.identity) for failure in radius.failed] == [("wrong-credential", "alice")]


@VERSIONS
@pytest.mark.parametrize("which", ["TTLS/PAP", "PEAP/EAP-MSCHAPv2"])
def test_wrong_server_name(
    authority: LabAuthority, radius: EapOverRadius, tmp_path: Path, which: str, tls_1_3: bool
) -> None:
    result = _run(authority, radius, tmp_path, which, tls_1_3=tls_1_3, domain_match="other.lab.test")
    assert not result.ok
    assert radius.authenticated == []
    [failure] = radius.failed
    # OpenSSL's alert for what the program itself objects to.
    assert failure.reason == "the client ended the handshake: TLS alert internal error"


@VERSIONS
@EACH
def test_small_fragments(authority: LabAuthority, tmp_path: Path, which: str, tls_1_3: bool) -> None:
    radius = _radius(authority, fragment_bytes=200)
    result = _run(authority, radius, tmp_path, which, tls_1_3=tls_1_3, fragment_size="100")
    assert result.ok, result.output
    assert [verdict.identity for verdict in radius.authenticated] == ["alice"]


def test_a_peer_without_cryptobinding_is_refused(
    authority: LabAuthority, radius: EapOverRadius, tmp_path: Path
) -> None:
    result = _run(authority, radius, tmp_path, "PEAP/EAP-MSCHAPv2", tls_1_3=False, phase1="crypto_binding=0")
    assert not result.ok
    assert [failure.code for failure in radius.failed] == ["protocol-error"]
