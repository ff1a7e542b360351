"""Whoever signs in with the directory's password is known here from then on, and for nobody else."""

from __future__ import annotations

from aaa import users
from aaa.directory import sync
from aaa.directory.plan import Plan
from aaa.models import User
from core.audit import SYSTEM, AuditEvent
from core.runtime import Runtime
from core.settings import Settings
from tests.unit.aaa.directory.people import directory, person


def remember(runtime: Runtime, *groups: str, name: str = "alice", **changes: object) -> str:
    """The code of the refusal, or `ok`."""
    refusal = sync.remember(runtime, person(name, *groups, **changes), SYSTEM)  # type: ignore[arg-type]
    return refusal.code if refusal else "ok"


def alice(runtime: Runtime) -> User:
    """As she is stored."""
    with runtime.database.reading() as session:
        return users.get_user(session, "alice")


def test_new_then_with_other_groups(runtime: Runtime) -> None:
    assert remember(runtime, "Domain Admins (EU)", "staff") == "ok"
    assert alice(runtime).groups == ["Domain Admins (EU)", "staff"]
    assert remember(runtime, "staff") == "ok"
    assert remember(runtime, "staff") == "ok"
    assert (alice(runtime).groups, alice(runtime).source) == (["staff"], "corp")
    with runtime.database.reading() as session:
        events = [event.action for event in session.query(AuditEvent).order_by(AuditEvent.id)]
    assert events[-2:] == ["user.add", "user.set-groups"]


def test_others_of_the_name(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        users.create_user(session, "root", role="administrator", actor=SYSTEM)
    assert remember(runtime, name="root") == "other-person"
    assert remember(runtime) == "ok"
    assert remember(runtime, id="another") == "other-person"
    assert remember(runtime, name="two words") == "unusable-name"
    assert remember(runtime, name="bob", id="") == "unusable-name"


def test_who_was_disabled_by_whom(runtime: Runtime) -> None:
    remember(runtime)
    for by_source, code in ((True, "ok"), (False, "disabled-user")):
        with runtime.database.transaction() as session:
            users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM, by_source=by_source)
        assert remember(runtime) == code
        assert alice(runtime).disabled == (code != "ok")


def test_a_person_s_word_is_the_last_one(runtime: Runtime) -> None:
    remember(runtime)

    def set_disabled(disabled: bool, by_source: bool) -> tuple[bool, bool]:
        with runtime.database.transaction() as session:
            user = users.get_user(session, "alice")
            users.set_disabled(session, user, disabled, SYSTEM, by_source=by_source)
            return user.disabled, user.disabled_by_source

    assert set_disabled(True, True) == (True, True)
    assert set_disabled(True, False) == (True, False)
    assert set_disabled(True, True) == (True, False)
    assert set_disabled(False, False) == (False, False)


def test_whom_a_person_disables_while_a_sync_is_under_way_stays_so(runtime: Runtime) -> None:
    remember(runtime)
    plan = Plan(to_add=(), to_update=(), to_enable=("alice",), to_disable={}, skipped={}, unchanged=0)
    for by_source in (True, False):
        with runtime.database.transaction() as session:
            users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM, by_source=by_source)
        sync._carry_out(runtime, "corp", plan, SYSTEM)
        assert alice(runtime).disabled is not by_source


def test_a_directory_that_is_no_longer_in_the_settings(runtime: Runtime) -> None:
    sync.handle(runtime, {"directory": "gone"})
    with runtime.database.reading() as session:
        assert session.query(AuditEvent).filter(AuditEvent.action == sync.ACTION).count() == 0


def test_what_recurs() -> None:
    from aaa.tasks import recurring

    with_account = directory(sync_interval_s=120)
    without = directory(name="other", bind_dn=None, bind_password_file=None, bind_template="uid={name},dc=test")
    settings = Settings()
    aaa = settings.aaa.model_copy(update={"directories": (with_account, without)})
    [work] = [work for work in recurring(settings.model_copy(update={"aaa": aaa})) if work.kind == sync.SYNC]
    assert (work.kind, work.payload, work.interval_s) == (sync.SYNC, {"directory": "corp"}, 120)
