"""A whole installation in a temporary folder for a test: real database, real keys, real CA."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from aaa.eap.server import MethodName
from core.database import Database
from core.runtime import Runtime
from core.secrets import SecretBox
from core.settings import (
    AaaSettings,
    GatewaySettings,
    PkiSettings,
    RuleSettings,
    Settings,
    TrustedAuthoritySettings,
)
from core.settings.live_rules import first_rules
from pki.authority import CertificateAuthority
from pki.system import gateway_names, system_certificate


def make_settings(
    folder: Path,
    *,
    rules: tuple[RuleSettings, ...] | None = None,
    failures_per_minute: int = 10,
    authorities: tuple[TrustedAuthoritySettings, ...] = (),
    eap_methods: tuple[MethodName, ...] | None = None,
) -> Settings:
    """Settings of a small installation; its keys are P-256 because those are made in no time."""
    aaa = AaaSettings(sign_in_failures_per_minute=failures_per_minute)
    if rules is not None:
        aaa = aaa.model_copy(update={"rules": rules})
    if eap_methods is not None:
        aaa = aaa.model_copy(update={"eap_methods": eap_methods})
    return Settings(
        state_dir=folder,
        aaa=aaa,
        pki=PkiSettings(gateway_key_type="ecdsa-p256", trusted_authorities=authorities),
        gateway=GatewaySettings(name="gateway-1", identity="gateway.example.test"),
    )


@cache
def _template() -> Path:
    """An installation that has run once; copying it is quicker than making one for each test."""
    folder = Path(tempfile.mkdtemp(prefix="ostiary-test-"))
    with Runtime.open(make_settings(folder)) as runtime:
        authority = CertificateAuthority.open(runtime)
        system_certificate(runtime, authority, "gateway", gateway_names(runtime.settings))
    return folder


def remove_template() -> None:
    """Delete the folder that `open_runtime` copies from, if there is one."""
    if _template.cache_info().currsize:
        shutil.rmtree(_template())
        _template.cache_clear()


def open_runtime(
    folder: Path,
    *,
    rules: tuple[RuleSettings, ...] | None = None,
    failures_per_minute: int = 10,
    authorities: tuple[TrustedAuthoritySettings, ...] = (),
    rules_file: Path | None = None,
    eap_methods: tuple[MethodName, ...] | None = None,
) -> Runtime:
    """An installation of its own in `folder`, with a CA and a gateway's certificate."""
    shutil.copytree(_template(), folder, dirs_exist_ok=True)
    settings = make_settings(
        folder,
        rules=rules,
        failures_per_minute=failures_per_minute,
        authorities=authorities,
        eap_methods=eap_methods,
    )
    if rules_file is not None:
        settings = settings.model_copy(update={"aaa": settings.aaa.model_copy(update={"rules_file": rules_file})})
        first = settings.aaa.model_copy(update={"rules": first_rules(settings)})
        settings = settings.model_copy(update={"aaa": first})
    # Not `Runtime.open`: the copy has the newest schema already, and looking takes longer than most tests.
    return Runtime(settings, Database.open(settings), SecretBox.open(settings))
