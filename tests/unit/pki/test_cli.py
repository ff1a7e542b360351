from __future__ import annotations

import json
from collections.abc import Callable
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
from pki.revocation import service
from pki.revocation.evidence import NotUsable
from tests.unit.pki.employer import CRL_URL, OCSP_URL, Badge, Employer
from tests.unit.pki.foreign_forge import pem
from tests.unit.pki.issue import issue
from tests.unit.pki.revocation.scripted_web import ScriptedWeb

Configure = Callable[..., None]


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


class TestOtherCas:
    EMPLOYER = Employer()

    @pytest.fixture
    def web(self, monkeypatch: pytest.MonkeyPatch) -> ScriptedWeb:
        web = ScriptedWeb()
        web.answers[CRL_URL] = self.EMPLOYER.root_list()
        monkeypatch.setattr(service, "Fetcher", lambda: web)
        return web

    @pytest.fixture
    def configure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
        def configure(revocation: str = "required") -> None:
            settings = self.EMPLOYER.settings(tmp_path, revocation=revocation).model_dump(mode="json")
            monkeypatch.setenv("OSTIARY_PKI__TRUSTED_AUTHORITIES", json.dumps([settings]))

        return configure

    def badge(self, tmp_path: Path) -> Badge:
        badge = self.EMPLOYER.badge()
        (tmp_path / "badge.pem").write_bytes(pem([badge.certificate, self.EMPLOYER.issuing.certificate]))
        return badge

    def test_are_listed(self, configure: Configure) -> None:
        assert ostiary("trusted", "--json").stdout.strip() == "[]"
        configure()
        [row] = rows("trusted")
        assert (row["authority"], row["kind"], row["subject"]) == ("corporate", "root", "CN=Corporate Root")

    def test_a_certificate_is_examined(self, configure: Configure, tmp_path: Path, web: ScriptedWeb) -> None:
        configure()
        web.answers[OCSP_URL] = self.EMPLOYER.says(self.badge(tmp_path))
        [row] = rows("examine", "badge.pem")
        assert (row["authority"], row["revocation"], row["accepted"]) == ("corporate", "good", True)
        assert row["user"] == "alice@corp.example or alice"

    @pytest.mark.parametrize(
        ("policy", "status", "accepted"),
        [
            ("required", "revoked", False),
            ("best-effort", "revoked", False),
            ("required", "down", False),
            ("best-effort", "down", True),
            ("off", "down", True),
        ],
    )
    def test_as_a_gateway_would(
        self, configure: Configure, tmp_path: Path, web: ScriptedWeb, policy: str, status: str, accepted: bool
    ) -> None:
        configure(policy)
        badge = self.badge(tmp_path)
        web.answers[OCSP_URL] = (
            NotUsable("it answers HTTP 503") if status == "down" else self.EMPLOYER.says(badge, status)
        )
        result = ostiary("examine", "badge.pem", "--json")
        [row] = json.loads(result.stdout)
        assert (row["accepted"], result.exit_code) == (accepted, 0 if accepted else 1)
        assert ("HTTP 503" in row["reason"]) is (status == "down" and policy != "off")

    def test_what_is_no_certificate_of_theirs(self, configure: Configure, tmp_path: Path) -> None:
        configure()
        (tmp_path / "stranger.pem").write_bytes(pem([Employer().badge().certificate]))
        (tmp_path / "text.pem").write_text("nothing")
        for file, words in (("stranger.pem", "none of the trusted authorities"), ("text.pem", "not certificates")):
            result = ostiary("examine", file)
            assert result.exit_code != 0
            assert words in str(result.output) + str(result.exception)
