"""An installation of Ostiary without a process: settings, SQLite in a temporary folder, a key for secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.database import Base, Database
from core.runtime import Runtime
from core.secrets import SecretBox
from core.settings import PkiSettings, Settings
from pki.authority import CertificateAuthority


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, pki=PkiSettings(gateway_key_type="ecdsa-p256"))


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    with Runtime(settings, Database.open(settings), SecretBox.open(settings)) as runtime:
        Base.metadata.create_all(runtime.database.engine)
        yield runtime


@pytest.fixture
def authority(runtime: Runtime) -> CertificateAuthority:
    return CertificateAuthority.open(runtime)
