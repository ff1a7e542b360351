from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from aaa import users
from aaa.users import UserError
from core.audit import SYSTEM, AuditEvent, verify_chain
from core.errors import ConflictError, NotFoundError
from core.runtime import Runtime


def _events(runtime: Runtime, target: str) -> list[tuple[str, dict[str, Any]]]:
    with runtime.database.reading() as session:
        verify_chain(session)
        query = select(AuditEvent).where(AuditEvent.target == target).order_by(AuditEvent.id)
        return [(event.action, event.detail) for event in session.scalars(query)]


def test_a_user_is_kept_in_lower_case_with_its_event(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        users.create_user(session, "Alice", groups=["staff", " staff", "it"], role="security", actor=SYSTEM)
    with runtime.database.reading() as session:
        user = users.get_user(session, "ALICE")
        assert (user.name, user.display_name, user.role) == ("alice", "alice", "security")
        assert user.groups == ["it", "staff"]
    assert _events(runtime, "user:alice") == [("user.add", {"groups": ["it", "staff"], "role": "security"})]


@pytest.mark.parametrize("name", ["", "a b", "EXAMPLE\\alice", "alice@", "@a", "a/b", "x" * 64, "a@b@c", "älice"])
def test_names_that_no_client_could_send_back_are_refused(runtime: Runtime, name: str) -> None:
    with pytest.raises(UserError), runtime.database.transaction() as session:
        users.create_user(session, name, actor=SYSTEM)


def test_a_name_may_have_a_domain(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        assert users.create_user(session, "alice@example.org", actor=SYSTEM).name == "alice@example.org"


def test_what_is_wrong_is_refused_and_leaves_nothing(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        users.create_user(session, "alice", actor=SYSTEM)
    with pytest.raises(ConflictError, match="alice exists"), runtime.database.transaction() as session:
        users.create_user(session, "Alice", actor=SYSTEM)
    with pytest.raises(UserError, match="no role 'root'"), runtime.database.transaction() as session:
        users.create_user(session, "bob", role="root", actor=SYSTEM)
    with pytest.raises(UserError, match="group"), runtime.database.transaction() as session:
        users.create_user(session, "bob", groups=["a,b"], actor=SYSTEM)
    with runtime.database.reading() as session:
        assert [user.name for user in users.list_users(session)] == ["alice"]
        with pytest.raises(NotFoundError):
            users.get_user(session, "bob")
    assert _events(runtime, "user:bob") == []


def test_passwords(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", role="administrator", actor=SYSTEM)
        assert not users.verify_password(user, "correct horse battery")
        users.set_password(session, user, "correct horse battery", SYSTEM)
    assert user.password_hash is not None
    assert user.password_hash.startswith("$argon2id$")
    assert users.verify_password(user, "correct horse battery")
    assert not users.verify_password(user, "correct horse batterY")
    assert not users.verify_password(None, "correct horse battery")
    assert not users.verify_password(user, "x" * 257)
    assert [action for action, _ in _events(runtime, "user:alice")] == ["user.add", "user.set-password"]
    with runtime.database.transaction() as session:
        again = users.get_user(session, "alice")
        for password in ("too short", "x" * 257):
            with pytest.raises(UserError, match="12 to 256"):
                users.set_password(session, again, password, SYSTEM)


class _Watched(PasswordHasher):
    """Counts how many hashes are computed at the same time."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.lock = threading.Lock()
        self.running = self.most = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            time.sleep(0.005)
            return super().verify(hash, password)
        finally:
            with self.lock:
                self.running -= 1


@pytest.mark.slow
def test_a_flood_of_sign_ins_waits_for_time_and_not_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = _Watched()
    monkeypatch.setattr(users, "_hasher", watched)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda guess: users.verify_password(None, f"guess {guess}"), range(48)))
    assert not any(answers)
    assert 1 < watched.most <= 4


def test_a_damaged_hash_is_no_password(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
        user.password_hash = "plain"
        assert not users.verify_password(user, "plain")


def test_nobody_signs_in_where_there_is_no_password(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
    for guess in ("", "\x00no password"):
        assert not users.verify_password(user, guess)
        assert not users.verify_password(None, guess)


def test_a_disabled_user_has_no_valid_password(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
        users.set_password(session, user, "correct horse battery", SYSTEM)
        users.set_disabled(session, user, True, SYSTEM, reason="left")
        users.set_disabled(session, user, True, SYSTEM)
        assert not users.verify_password(user, "correct horse battery")
        users.set_disabled(session, user, False, SYSTEM)
        assert users.verify_password(user, "correct horse battery")
    actions = [action for action, _ in _events(runtime, "user:alice")]
    assert actions == ["user.add", "user.set-password", "user.disable", "user.enable"]


def test_roles_change_with_their_event(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
        users.set_role(session, user, "auditor", SYSTEM)
        users.set_role(session, user, "auditor", SYSTEM)
        users.set_role(session, user, None, SYSTEM)
        with pytest.raises(UserError):
            users.set_role(session, user, "god", SYSTEM)
    details = [detail for _, detail in _events(runtime, "user:alice")[1:]]
    assert details == [
        {"before": "employee", "role": "auditor"},
        {"before": "auditor", "role": "employee"},
    ]
