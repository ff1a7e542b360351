from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from core.audit import recent_events
from core.cli import root
from core.runtime import Runtime
from core.settings import load_settings
from pki.authority import CertificateAuthority
from pki.names import serial_text
from tests.unit.pki.issue import issue


@pytest.fixture(autouse=True)
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def ostiary(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["ca", *arguments])


def rows(*arguments: str) -> list[dict[str, Any]]:
    result = ostiary(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_show_and_trust() -> None:
    [trusted] = x509.load_pem_x509_certificates(ostiary("trust").stdout.encode())
    shown = {row["name"]: row for row in rows("show")}
    assert set(shown) == {"root", "issuing"}
    assert shown["root"]["sha256"] == trusted.fingerprint(hashes.SHA256()).hex()
    assert shown["root"]["not_after"] == trusted.not_valid_after_utc.isoformat()
    assert shown["issuing"]["key"] == "ecdsa-p256"
    assert trusted.subject.rfc4514_string() in ostiary("show").stdout


def test_list_and_revoke() -> None:
    with Runtime.open(load_settings()) as runtime:
        authority = CertificateAuthority.open(runtime)
        device_id = "0b8e7a3c-5d0e-4a57-9d0b-3c1f0a2b4c5d"
        serial = serial_text(issue(runtime, authority, device_id))
        issue(runtime, authority)

        assert len(rows("list")) == 2
        assert len(rows("list", "--limit", "1")) == 1
        assert rows("list", "--profile", "gateway") == []
        [row] = rows("list", "--device", device_id)
        assert (row["serial"], row["state"], row["subject"]) == (serial, "valid", "alice-laptop")
        assert "alice-laptop" in ostiary("list").stdout

        result = ostiary("revoke", serial.upper(), "--reason", "laptop stolen")
        assert (result.exit_code, result.stdout) == (0, "revoked\n")
        assert "nothing changed" in ostiary("revoke", serial, "--reason", "again").stdout
        [row] = rows("list", "--device", device_id)
        assert (row["state"], row["reason"]) == ("revoked", "laptop stolen")
        with runtime.database.reading() as session:
            [event] = recent_events(session, action="certificate.revoke", actor=None, target=None, limit=10)
            assert event.actor.startswith("cli:")


def test_mistakes_are_explained() -> None:
    unknown = ostiary("revoke", "beef", "--reason", "x")
    assert unknown.exit_code == 1
    assert "no certificate has the serial number 'beef'" in unknown.stderr
    assert "ostiary ca list" in unknown.stderr
    assert ostiary("revoke", "beef").exit_code == 2
    assert ostiary("list", "--profile", "root").exit_code == 2
