"""Secrets at rest: a redacting type, encryption under rotating keys, and a small table of named secrets."""

from __future__ import annotations

import contextlib
import os
import secrets as stdlib_secrets
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Column, LargeBinary, String, Table, literal, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.database import Base, Database, load_models
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

    The key file holds one key a line, newest first: the first encrypts, all of them decrypt. A running process
    notices when the file is replaced, so keys rotate without a restart.
    """

    def __init__(self, keys: list[bytes], *, path: Path | None = None) -> None:
        self._path = path
        self._version = _file_version(path)
        self._fernet = _multi_fernet(keys)

    @classmethod
    def open(cls, settings: Settings) -> SecretBox:
        """Read the key file; make it at first start.

        Raises:
            SecretError: the file can't be read or written, or others can read it.
        """
        path = settings.secret_key_path
        if not path.exists():
            try:
                _create_key_file(path)
            except OSError as error:
                raise SecretError(
                    f"{error.filename or path}: {error.strerror}", fix="check secrets.key_file and state_dir"
                ) from error
        return cls(_read_key_file(path), path=path)

    def encrypt(self, secret: Secret) -> bytes:
        """Encrypt under the newest key."""
        return self._current().encrypt(secret.reveal())

    def decrypt(self, token: bytes) -> Secret:
        """Decrypt under whichever key fits.

        Raises:
            SecretError: none of the keys fits, or the token was changed.
        """
        try:
            return Secret(self._current().decrypt(token))
        except InvalidToken:
            raise _undecryptable() from None

    def rotate(self, token: bytes) -> bytes:
        """The same secret under the newest key.

        Raises:
            SecretError: none of the keys fits, or the token was changed.
        """
        try:
            return self._current().rotate(token)
        except InvalidToken:
            raise _undecryptable() from None

    def add_key(self) -> None:
        """Put a new key first in the key file; the old ones stay below it.

        Raises:
            SecretError: the file can't be read or written.
        """
        if self._path is None:
            raise SecretError("these keys are from no file, so none can be added")
        keys = [Fernet.generate_key(), *_read_key_file(self._path)]
        try:
            with _private_file(self._path, keys) as temporary:
                temporary.replace(self._path)
        except OSError as error:
            raise SecretError(f"{self._path}: {error.strerror}", fix="check who may write there") from error

    def _current(self) -> MultiFernet:
        version = _file_version(self._path)
        if self._path is not None and version is not None and version != self._version:
            self._fernet = _multi_fernet(_read_key_file(self._path))
            self._version = version
        return self._fernet


def _multi_fernet(keys: list[bytes]) -> MultiFernet:
    if not keys:
        raise SecretError("there is no key for secrets at rest", fix="put the key file back from a backup")
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise SecretError(
            "the key for secrets at rest is not valid", fix="each line is 32 bytes in URL-safe base64"
        ) from None


def _undecryptable() -> SecretError:
    return SecretError(
        "a secret in the database can't be decrypted",
        fix="put back the key that it was encrypted under, as a further line of the key file",
    )


def _file_version(path: Path | None) -> tuple[int, int] | None:
    """Changes when the file is replaced; None where it can't be seen."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _read_key_file(path: Path) -> list[bytes]:
    try:
        if path.stat().st_mode & 0o077:
            raise SecretError(f"{path} can be read by others", fix=f"chmod 600 {path}")
        return path.read_bytes().split()
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror}", fix="check secrets.key_file and who may read it") from error


def _create_key_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # link() fails where another process was first, and then its key is the one.
    with _private_file(path, [Fernet.generate_key()]) as temporary, contextlib.suppress(FileExistsError):
        os.link(temporary, path)


@contextlib.contextmanager
def _private_file(path: Path, lines: list[bytes]) -> Iterator[Path]:
    """A file beside `path`, on the disk before it is used, gone afterwards unless it was renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{stdlib_secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


class StoredSecret(Base):
    """A secret of the installation itself, such as the shared secret of a gateway, encrypted."""

    __tablename__ = "stored_secret"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    token: Mapped[bytes] = mapped_column(LargeBinary)


ENCRYPTED_PREFIX = "encrypted_"
"""Part of the contract with every part: a column of this name and type LargeBinary holds what `SecretBox` made."""


def encrypted_columns() -> Iterator[Column[bytes]]:
    """Every column of every table whose content `SecretBox` encrypted."""
    load_models()
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, LargeBinary) and column.name.startswith(ENCRYPTED_PREFIX):
                yield cast("Column[bytes]", column)
    yield cast("Table", StoredSecret.__table__).c.token


def refuse_lost_key(settings: Settings, database: Database) -> None:
    """Stop where secrets are stored but the key file is gone: a new key would hide the loss until it hurts.

    Raises:
        SecretError: so it is.
    """
    if settings.secret_key_path.exists():
        return
    with database.reading() as session:
        stored = any(
            session.scalar(select(literal(1)).select_from(column.table).where(column.is_not(None)).limit(1))
            for column in encrypted_columns()
        )
    # Looked at once more: another process may have made key and first secret in between.
    if stored and not settings.secret_key_path.exists():
        raise SecretError(
            f"{settings.secret_key_path} is missing, and the database has secrets that only it opens",
            fix="put the key file back from a backup, or name it: secrets.key_file",
        )


def get_or_create_secret(session: Session, box: SecretBox, name: str, *, length_bytes: int = 32) -> Secret:
    """The named secret, made at random the first time (URL-safe text of `length_bytes` of entropy)."""
    row = session.get(StoredSecret, name)
    if row is None:
        secret = Secret(stdlib_secrets.token_urlsafe(length_bytes).encode())
        session.add(StoredSecret(name=name, token=box.encrypt(secret)))
        session.flush()
        return secret
    return box.decrypt(row.token)
