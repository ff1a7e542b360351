"""What we issue, judged by a program that nobody here wrote: Debian's `openssl`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from core.runtime import Runtime
from core.secrets import Secret
from pki.authority import CertificateAuthority
from pki.devices import to_pkcs12
from pki.system import system_certificate
from tests.unit.pki.issue import KEY, issue

OPENSSL = shutil.which("openssl") or ""
pytestmark = pytest.mark.skipif(not OPENSSL, reason="no openssl program here")


def openssl(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [OPENSSL, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=20, check=False
    )


@pytest.fixture
def cas(authority: CertificateAuthority, tmp_path: Path) -> tuple[Path, Path]:
    root, issuing = tmp_path / "root.pem", tmp_path / "issuing.pem"
    root.write_text(authority.trust_pem())
    issuing.write_bytes(authority.issuing.public_bytes(Encoding.PEM))
    return root, issuing


def verify(cas: tuple[Path, Path], pem: str, *options: str) -> subprocess.CompletedProcess[str]:
    root, issuing = cas
    return openssl("verify", "-x509_strict", "-CAfile", root, "-untrusted", issuing, *options, text=pem)


def test_a_server_chain_verifies(
    runtime: Runtime, authority: CertificateAuthority, cas: tuple[Path, Path], tmp_path: Path
) -> None:
    pem = system_certificate(runtime, authority, "gateway", ["vpn.example.com", "192.0.2.1"]).chain_pem()
    good = ("-purpose", "sslserver", "-verify_hostname", "vpn.example.com", "-verify_ip", "192.0.2.1")
    result = verify(cas, pem, *good)
    assert (result.returncode, result.stdout) == (0, "stdin: OK\n"), result.stderr
    assert verify(cas, pem, "-verify_hostname", "other.example.com").returncode != 0
    assert verify(cas, pem, "-purpose", "sslclient").returncode != 0
    shown = openssl("x509", "-noout", "-text", text=pem).stdout
    assert "TLS Web Server Authentication, 1.3.6.1.5.5.8.2.2" in shown
    assert "DNS:vpn.example.com, IP Address:192.0.2.1, DNS:192.0.2.1" in shown


def test_a_device_chain_verifies(runtime: Runtime, authority: CertificateAuthority, cas: tuple[Path, Path]) -> None:
    pem = issue(runtime, authority).public_bytes(Encoding.PEM).decode()
    result = verify(cas, pem, "-purpose", "sslclient")
    assert (result.returncode, result.stdout) == (0, "stdin: OK\n"), result.stderr
    assert verify(cas, pem, "-purpose", "sslserver").returncode != 0
    assert verify(cas, pem, "-purpose", "codesign").returncode != 0


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pkcs12_file_can_be_read(
    runtime: Runtime, authority: CertificateAuthority, tmp_path: Path, legacy: bool
) -> None:
    certificate = issue(runtime, authority)
    file = tmp_path / "device.p12"
    file.write_bytes(to_pkcs12(KEY, certificate, authority, Secret(b"s3cret"), name="laptop", legacy=legacy))
    result = openssl(
        "pkcs12", "-in", file, "-passin", "pass:s3cret", "-nodes", "-info", *(["-legacy"] if legacy else [])
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("BEGIN CERTIFICATE") == 3
    assert result.stdout.count("BEGIN PRIVATE KEY") == 1
    assert ("pbeWithSHA1And3-KeyTripleDES-CBC" if legacy else "AES-256-CBC") in result.stderr
    assert openssl("pkcs12", "-in", file, "-passin", "pass:wrong", "-nodes", "-legacy").returncode != 0
