"""The files that the settings name: what can't be used is refused before anybody is asked anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from aaa.directory.client import tls_context
from aaa.directory.directory import Directory, read_password
from aaa.directory.errors import DirectoryError
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.unit.aaa.directory.people import directory


def written(file: Path, content: bytes, mode: int = 0o600) -> Path:
    """The file, with this in it."""
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_password_file(tmp_path: Path) -> None:
    assert read_password(written(tmp_path / "a", b" pass word \n")).reveal() == b" pass word "
    for content, mode in ((b"", 0o600), (b"\n", 0o600), (b"\xff", 0o600), (b"a" * 5000, 0o600), (b"fine", 0o640)):
        with pytest.raises(DirectoryError):
            read_password(written(tmp_path / "b", content, mode))
    with pytest.raises(DirectoryError, match="can't be read"):
        read_password(tmp_path / "missing")


def test_ca_file(tmp_path: Path) -> None:
    good = written(tmp_path / "ca.pem", certificate_pem(LabAuthority.root().certificate).encode())
    context = tls_context(good)
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    for bad in (tmp_path / "missing", written(tmp_path / "no.pem", b"no PEM")):
        with pytest.raises(DirectoryError, match="can't be used"):
            tls_context(bad)


def test_without_a_service_account_nobody_is_looked_up(tmp_path: Path) -> None:
    ca = written(tmp_path / "ca.pem", certificate_pem(LabAuthority.root().certificate).encode())
    settings = directory(ca_file=ca, bind_dn=None, bind_password_file=None, bind_template="uid={name},dc=test")
    with pytest.raises(DirectoryError, match="no service account"):
        Directory(settings).lookup("alice")
    with pytest.raises(DirectoryError, match="no service account"):
        list(Directory(settings).everybody())
