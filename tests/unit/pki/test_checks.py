from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete

import pki.checks
from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from core.settings import GatewaySettings, Settings
from pki.authority import CertificateAuthority
from pki.certificates import revoke_certificate
from pki.checks import checks
from pki.models import Authority
from pki.system import gateway_names, portal_names, system_certificate
from tests.unit.pki.employer import Employer

Clock = Callable[[timedelta], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves the time that the checks see."""
    start = utc_now()

    def move(by: timedelta) -> None:
        monkeypatch.setattr(pki.checks, "utc_now", lambda: start + by)

    return move


def found(settings: Settings) -> dict[str, bool | None]:
    return {check.name.removeprefix("pki: "): check.ok for check in checks(settings)}


def message(settings: Settings, name: str) -> str:
    return next(f"{check.message} / {check.fix}" for check in checks(settings) if check.name == f"pki: {name}")


def test_makes_nothing_before_the_first_start(settings: Settings) -> None:
    assert found(settings) == {"authority": True}
    assert "first start" in message(settings, "authority")
    assert list(settings.state_dir.iterdir()) == []


def test_an_empty_database(settings: Settings) -> None:
    (settings.state_dir / "ostiary.db").touch()
    assert found(settings) == {"authority": True}


def test_a_database_without_an_authority(runtime: Runtime) -> None:
    assert found(runtime.settings) == {"authority": True}
    assert "first start" in message(runtime.settings, "authority")


def test_all_is_well(runtime: Runtime, authority: CertificateAuthority) -> None:
    settings = runtime.settings
    names = ["authority", "clock", "root", "issuing CA", "gateway certificate", "portal certificate"]
    assert found(settings) == dict.fromkeys(names, True)
    assert "when the gateway starts" in message(settings, "gateway certificate")
    certificate = system_certificate(runtime, authority, "gateway", gateway_names(settings))
    system_certificate(runtime, authority, "portal", portal_names(settings))
    assert found(settings) == dict.fromkeys(names, True)
    assert f"{certificate.not_after:%Y-%m-%d}" in message(settings, "gateway certificate")
    with runtime.database.transaction() as session:
        revoke_certificate(session, certificate.serial, "test", SYSTEM)
    assert "when the gateway starts" in message(settings, "gateway certificate")


def test_a_clock_before_the_ca(runtime: Runtime, authority: CertificateAuthority, clock: Clock) -> None:
    system_certificate(runtime, authority, "portal", portal_names(runtime.settings))
    clock(timedelta(days=-1))
    result = found(runtime.settings)
    assert (result["clock"], result["portal certificate"]) == (False, False)
    assert "chrony" in message(runtime.settings, "clock")


@pytest.mark.parametrize(
    ("days", "root", "issuing"),
    [(1000, True, True), (1800, True, None), (1826, True, False), (3300, None, False), (3651, False, False)],
)
def test_dates_of_the_cas(
    runtime: Runtime,
    authority: CertificateAuthority,
    clock: Clock,
    days: int,
    root: bool | None,
    issuing: bool | None,
) -> None:
    clock(timedelta(days=days))
    result = found(runtime.settings)
    assert (result["root"], result["issuing CA"]) == (root, issuing)


def test_dates_of_the_gateway(runtime: Runtime, authority: CertificateAuthority, clock: Clock) -> None:
    system_certificate(runtime, authority, "gateway", gateway_names(runtime.settings))
    clock(timedelta(days=91))
    assert found(runtime.settings)["gateway certificate"] is None
    assert "renews" in message(runtime.settings, "gateway certificate")


def test_another_name(runtime: Runtime, authority: CertificateAuthority) -> None:
    system_certificate(runtime, authority, "gateway", ["old.example.com"])
    renamed = runtime.settings.model_copy(update={"gateway": GatewaySettings(identity="new.example.com")})
    assert found(renamed)["gateway certificate"] is None
    assert "old.example.com, not new.example.com" in message(renamed, "gateway certificate")


def test_half_an_authority(runtime: Runtime, authority: CertificateAuthority) -> None:
    with runtime.database.transaction() as session:
        session.execute(delete(Authority).where(Authority.name == "issuing"))
    assert found(runtime.settings) == {"authority": False}


def test_a_database_that_can_not_be_used(settings: Settings) -> None:
    (settings.state_dir / "ostiary.db").write_bytes(b"this is no database, whatever its name" * 100)
    assert found(settings) == {"authority": None}


def test_trusted_authorities(runtime: Runtime, authority: CertificateAuthority, tmp_path: Path, clock: Clock) -> None:
    employer = Employer()
    trusted = employer.settings(tmp_path)
    pki_settings = runtime.settings.pki.model_copy(update={"trusted_authorities": (trusted,)})
    settings = runtime.settings.model_copy(update={"pki": pki_settings})
    # It ends tomorrow.
    assert found(settings)["trusted corporate"] is None
    assert str(trusted.file) in message(settings, "trusted corporate")
    clock(timedelta(days=2))
    assert found(settings)["trusted corporate"] is False
    trusted.file.write_text("nothing")
    assert found(settings)["trusted authorities"] is False
    assert "not certificates" in message(settings, "trusted authorities")
