"""Secrets at rest: they do not show, they need their key, and they outlive its rotation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import LargeBinary

from aaa.models import User
from core.audit import SYSTEM, recent_events
from core.clock import utc_now
from core.database import Base
from core.rotation import rotate_keys
from core.runtime import Runtime
from core.secrets import Secret, SecretBox, SecretError, StoredSecret, encrypted_columns, get_or_create_secret
from core.settings import Settings


def test_secret_never_shows() -> None:
    secret = Secret(b"hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {{'a': secret}}"
    assert secret == Secret(b"hunter2")
    assert secret != Secret(b"hunter3")
    assert secret != b"hunter2"
    assert len({secret, Secret(b"hunter2")}) == 1


def test_key_file_is_made_once_and_private(settings: Settings) -> None:
    token = SecretBox.open(settings).encrypt(Secret(b"x"))
    assert settings.secret_key_path.stat().st_mode & 0o777 == 0o600
    assert SecretBox.open(settings).decrypt(token) == Secret(b"x")
    assert [path.name for path in settings.state_dir.iterdir()] == ["secret.key"]


def test_key_file_that_others_can_read_is_refused(settings: Settings) -> None:
    SecretBox.open(settings)
    settings.secret_key_path.chmod(0o640)
    with pytest.raises(SecretError, match="chmod 600"):
        SecretBox.open(settings)


@pytest.mark.parametrize("content", ["", "\n", "not a key\n", "c2hvcnQ=\n"])
def test_key_file_without_a_key_is_refused(settings: Settings, content: str) -> None:
    settings.state_dir.mkdir()
    settings.secret_key_path.write_text(content)
    settings.secret_key_path.chmod(0o600)
    with pytest.raises(SecretError):
        SecretBox.open(settings)


def test_key_file_that_can_not_be_made_is_explained(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SecretError, match="/file: File exists"):
        SecretBox.open(Settings(state_dir=blocked))


def test_changed_token_and_foreign_key_are_refused() -> None:
    box, other = SecretBox([Fernet.generate_key()]), SecretBox([Fernet.generate_key()])
    token = box.encrypt(Secret(b"x"))
    with pytest.raises(SecretError):
        other.decrypt(token)
    with pytest.raises(SecretError):
        box.decrypt(token[:-8] + b"AAAAAAA=")
    with pytest.raises(SecretError):
        other.rotate(token)


def test_named_secret_is_made_once(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        first = get_or_create_secret(session, runtime.box, "gateway:a")
        assert get_or_create_secret(session, runtime.box, "gateway:a") == first
        assert get_or_create_secret(session, runtime.box, "gateway:b") != first
        assert first.reveal() not in session.get_one(StoredSecret, "gateway:a").token


def test_running_process_notices_a_new_key(settings: Settings) -> None:
    running, rotating = SecretBox.open(settings), SecretBox.open(settings)
    old_token = running.encrypt(Secret(b"old"))
    rotating.add_key()
    new_token = rotating.encrypt(Secret(b"new"))
    assert running.decrypt(new_token) == Secret(b"new")
    assert running.decrypt(old_token) == Secret(b"old")
    newest = SecretBox([settings.secret_key_path.read_bytes().split()[0]])
    assert newest.decrypt(running.encrypt(Secret(b"again"))) == Secret(b"again")
    assert settings.secret_key_path.stat().st_mode & 0o777 == 0o600


def test_rotation_encrypts_every_column_anew(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        secret = get_or_create_secret(session, runtime.box, "gateway:a")
        for name in ("alice", "bob"):
            session.add(User(name=name, created_at=utc_now()))
        session.get_one(User, "alice").encrypted_totp_secret = runtime.box.encrypt(Secret(b"totp"))
    assert rotate_keys(runtime, SYSTEM) == 2
    keys = runtime.settings.secret_key_path.read_bytes().split()
    assert len(keys) == 2
    newest_only = SecretBox(keys[:1])
    with runtime.database.reading() as session:
        assert newest_only.decrypt(session.get_one(StoredSecret, "gateway:a").token) == secret
        token = session.get_one(User, "alice").encrypted_totp_secret
        assert token is not None
        assert newest_only.decrypt(token) == Secret(b"totp")
        assert session.get_one(User, "bob").encrypted_totp_secret is None
        event = recent_events(session, action="secrets.rotate")[0]
        assert event.detail == {"secrets": 2}


def test_lost_key_file_stops_the_start(runtime: Runtime) -> None:
    path = runtime.settings.secret_key_path
    path.unlink()
    Runtime.open(runtime.settings).close()
    with runtime.database.transaction() as session:
        get_or_create_secret(session, runtime.box, "gateway:a")
    path.unlink()
    with pytest.raises(SecretError, match="is missing, and the database has secrets"):
        Runtime.open(runtime.settings)
    assert not path.exists()


def test_rotation_without_the_right_key_changes_nothing(runtime: Runtime) -> None:
    foreign = SecretBox([Fernet.generate_key()])
    with runtime.database.transaction() as session:
        session.add(StoredSecret(name="gateway:a", token=foreign.encrypt(Secret(b"x"))))
    before = runtime.settings.secret_key_path.read_bytes()
    with pytest.raises(SecretError):
        rotate_keys(runtime, SYSTEM)
    assert runtime.settings.secret_key_path.read_bytes() == before


def test_every_binary_column_is_either_encrypted_by_name_or_known_to_be_public() -> None:
    """A new column that holds a secret must be found by the rotation, so each exception is listed here."""
    public = {
        "audit_event.previous_hash",
        "audit_event.hash",
        "audit_head.hash",
        "authority.certificate_der",
        "certificate.der",
        "web_invitation.token_hash",
        "web_pending_sign_in.token_hash",
        "web_session.token_hash",
    }
    encrypted = {str(column) for column in encrypted_columns()}
    binary = {
        str(column)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert binary - encrypted == public
    assert {"stored_secret.token", "user.encrypted_totp_secret", "authority.encrypted_key"} <= encrypted


def test_key_file_made_by_two_at_once_is_one_key(settings: Settings) -> None:
    """The loser of the race keeps nothing of its own."""
    settings.state_dir.mkdir()
    winner = Fernet.generate_key() + b"\n"
    real_link = os.link

    def late_link(source: Path, target: Path) -> None:
        target.write_bytes(winner)
        target.chmod(0o600)
        real_link(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", late_link)
        SecretBox.open(settings)
    assert settings.secret_key_path.read_bytes() == winner
    assert [path.name for path in settings.state_dir.iterdir()] == ["secret.key"]
