"""Secrets at rest: a redacting type, encryption under rotating keys, and a small table of named secrets."""

from __future__ import annotations

import contextlib
import os
import secrets as stdlib_secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.database import Base
from core.errors import OstiaryError
from core.settings import Settings


class SecretError(OstiaryError):
    """A secret can't be read: the key is missing, or is not the one it was encrypted under."""


class Secret:
    """Bytes that never show in a log, a traceback or a repr."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and stdlib_secrets.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class SecretBox:
    """Encrypts secrets before they reach the database (Fernet: AES-128-CBC with HMAC-SHA256).

    The key file holds one key a line, newest first: the first encrypts, all of them decrypt.
    """

    def __init__(self, keys: list[bytes]) -> None:
        if not keys:
            raise SecretError("no key for secrets at rest")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise SecretError(
                "the key for secrets at rest is not valid", fix="each line is 32 bytes in URL-safe base64"
            ) from None

    @classmethod
    def open(cls, settings: Settings) -> SecretBox:
        """Read the key file; make it at first start.

        Raises:
            SecretError: the file can't be read or written, or others can read it.
        """
        path = settings.secret_key_path
        try:
            if not path.exists():
                _create_key_file(path)
            if path.stat().st_mode & 0o077:
                raise SecretError(f"{path} can be read by others", fix=f"chmod 600 {path}")
            return cls([line.encode() for line in path.read_text().split()])
        except OSError as error:
            raise SecretError(f"{path}: {error.strerror}", fix="check secrets.key_file") from error

    def encrypt(self, secret: Secret) -> bytes:
        """Encrypt under the newest key."""
        return self._fernet.encrypt(secret.reveal())

    def decrypt(self, token: bytes) -> Secret:
        """Decrypt under whichever key fits.

        Raises:
            SecretError: none of the keys fits, or the token was changed.
        """
        try:
            return Secret(self._fernet.decrypt(token))
        except InvalidToken:
            raise SecretError(
                "a secret in the database can't be decrypted",
                fix="put back the key that it was encrypted under, as a further line of the key file",
            ) from None

    def rotate(self, token: bytes) -> bytes:
        """The same secret under the newest key."""
        try:
            return self._fernet.rotate(token)
        except InvalidToken:
            raise SecretError("a secret in the database can't be decrypted") from None


def _create_key_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # link() fails where another process was first, and then its key is the one.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


class StoredSecret(Base):
    """A secret of the installation itself, such as the shared secret of a gateway, encrypted."""

    __tablename__ = "stored_secret"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    token: Mapped[bytes] = mapped_column(LargeBinary)


def get_or_create_secret(session: Session, box: SecretBox, name: str, *, length_bytes: int = 32) -> Secret:
    """The named secret, made at random the first time (URL-safe text of `length_bytes` of entropy)."""
    row = session.get(StoredSecret, name)
    if row is None:
        secret = Secret(stdlib_secrets.token_urlsafe(length_bytes).encode())
        session.add(StoredSecret(name=name, token=box.encrypt(secret)))
        session.flush()
        return secret
    return box.decrypt(row.token)
