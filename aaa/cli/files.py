"""The files that a device with a certificate is set up from; those with a private key are for its owner alone."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from aaa.devices import CODE_ALPHABET, IssuedCertificate
from core.errors import OstiaryError
from core.secrets import Secret
from pki.authority import CertificateAuthority
from pki.devices import to_pkcs12

_PASSWORD_LENGTH = 20


class FileError(OstiaryError):
    """A file can't be read or written."""


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Where a device's files are put."""

    pkcs12: Path
    """Key, certificate and CAs, encrypted, for Windows, Apple and Android."""
    certificate: Path
    """Certificate and issuing CA, PEM, for Linux."""
    private_key: Path
    """PKCS#8, PEM, not encrypted."""
    trust: Path
    """The root, PEM: what every client has to trust."""

    @classmethod
    def plan(cls, folder: Path, device_name: str) -> ClientFiles:
        """Choose the names and see that they can be written, before anything is issued.

        Raises:
            FileError: the folder can't be used, or a file exists.
        """
        files = cls(
            pkcs12=folder / f"{device_name}.p12",
            certificate=folder / f"{device_name}.crt.pem",
            private_key=folder / f"{device_name}.key.pem",
            trust=folder / "ostiary-root.pem",
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{folder}: {error.strerror}", fix="name another folder with --output") from error
        for path in (files.pkcs12, files.certificate, files.private_key):
            if path.exists():
                raise FileError(f"{path} exists already", fix="move it away, or name another folder with --output")
        if not os.access(folder, os.W_OK):
            raise FileError(f"{folder} can't be written", fix="name another folder with --output")
        return files

    def write(
        self, issued: IssuedCertificate, authority: CertificateAuthority, password: Secret, *, legacy: bool
    ) -> None:
        """Write all four.

        Raises:
            FileError: one can't be written.
        """
        name = self.pkcs12.stem
        chain = (issued.certificate, authority.issuing)
        key = issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            _write_private(
                self.pkcs12,
                to_pkcs12(issued.private_key, issued.certificate, authority, password, name=name, legacy=legacy),
            )
            _write_private(self.private_key, key)
            self.certificate.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
            self.trust.write_text(authority.trust_pem())
        except OSError as error:
            raise FileError(f"{error.filename}: {error.strerror}", fix="name another folder with --output") from error


@dataclass(frozen=True, slots=True)
class FilePassword:
    """The password of the PKCS#12 file."""

    secret: Secret
    generated: str | None = field(repr=False)
    """To be shown once, where nobody chose it."""


def file_password(password_file: Path | None) -> FilePassword:
    """The first line of the file, or a random password.

    Raises:
        FileError: the file can't be read, or its first line is empty.
    """
    if password_file is None:
        generated = "".join(secrets.choice(CODE_ALPHABET) for _ in range(_PASSWORD_LENGTH))
        return FilePassword(Secret(generated.encode()), generated)
    try:
        first = password_file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{password_file}: can't be read: {error}") from error
    if not first:
        raise FileError(f"{password_file}: the first line is empty", fix="put the password into it")
    return FilePassword(Secret(first.encode()), None)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
