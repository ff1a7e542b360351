"""Brings the users here into line with a directory: who is new, whose groups are others, who has left.

All of the directory is read before anything is changed, so that an answer that stops in the middle changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from aaa import enforcement, users
from aaa.directory.directory import Directory
from aaa.directory.errors import DirectoryError
from aaa.directory.model import DirectoryUser
from aaa.directory.plan import KnownUser, Plan, SuddenlyFew, compare, conflict, refuse_mass_disable, shown_name
from aaa.interface import Refusal
from aaa.models import User
from core import audit
from core.audit import Actor, AuditEvent
from core.errors import NotFoundError
from core.runtime import Runtime
from core.settings import DirectorySettings, Settings

SYNC = "aaa.directory-sync"
"""The kind of outbox item that `handle` does."""
LONGEST_S = 3600.0
"""After which a sync that nobody has heard of counts as lost with its worker."""
ACTION = "directory.sync"
_ADDED_AT_ONCE = 200
"""People in a transaction; sign-ins wait for no longer one."""
_SKIPPED_SHOWN = 20
_ENABLED, _OTHER_GROUPS = "is enabled in the directory", "groups in the directory changed"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync has done."""

    directory: str
    added: int
    updated: int
    enabled: int
    disabled: int
    unchanged: int
    skipped: Mapping[str, str]
    """Who is in the directory and can't be a user here, and why."""
    gateways_waiting: int
    """Gateways that have not confirmed yet that sessions ended or changed; the workers go on telling them."""

    @property
    def changed(self) -> bool:
        """Whether anything is another way than before."""
        return any((self.added, self.updated, self.enabled, self.disabled))


def handle(runtime: Runtime, payload: Mapping[str, Any]) -> None:
    """The outbox handler: synchronise one directory, if it is still in the settings.

    Raises:
        DirectoryError: it could not be read; to be tried again soon.
    """
    try:
        settings = find_settings(runtime.settings, payload["directory"])
    except NotFoundError:
        return
    try:
        synchronise(runtime, settings, job_actor(settings.name))
    except SuddenlyFew:
        # It is in the audit log. Asking again before the next interval would find the same.
        return


def job_actor(directory: str) -> Actor:
    """Who changes users where a sync does."""
    return Actor("job", f"directory {directory}")


def find_settings(settings: Settings, name: str) -> DirectorySettings:
    """The directory of this name.

    Raises:
        NotFoundError: there is none in the settings.
    """
    found = next((directory for directory in settings.aaa.directories if directory.name == name), None)
    if found is None:
        known = ", ".join(directory.name for directory in settings.aaa.directories) or "none"
        raise NotFoundError(f"there is no directory {name[:64]!r}", fix=f"aaa.directories has: {known}")
    return found


def synchronise(
    runtime: Runtime, settings: DirectorySettings, actor: Actor, *, allow_mass_disable: bool = False
) -> SyncResult:
    """Synchronise one directory now. Doing it twice, or twice at a time, does no harm.

    Args:
        runtime: of this process.
        settings: of the directory.
        actor: who does it.
        allow_mass_disable: a person has looked, and so many have left.

    Raises:
        DirectoryError: it could not be read, or not all of it; nothing was changed.
        SuddenlyFew: more users would be disabled than the limit allows; nothing was changed.
    """
    try:
        people = list(Directory(settings).everybody())
        known = known_users(runtime)
        plan = compare(settings.name, people, known, users.is_usable_name)
        if not allow_mass_disable:
            refuse_mass_disable(settings.name, plan, known, settings.disable_limit_percent)
    except (DirectoryError, SuddenlyFew) as error:
        _record_failure(runtime, settings.name, error.message, actor)
        raise
    return _carry_out(runtime, settings.name, plan, actor)


def remember(runtime: Runtime, person: DirectoryUser, actor: Actor) -> Refusal | None:
    """Note somebody who has just signed in with the directory's password, before the next sync does.

    Where the groups are others than before, sessions that are up follow, as with a sync.

    Args:
        runtime: of this process.
        person: who signed in; no state stands against it.
        actor: who notes it.

    Returns:
        Why this can't be a user here.
    """
    if not users.is_usable_name(person.name) or not person.id:
        return Refusal("unusable-name", f"nobody can be called {person.name[:64]!r} here")
    try:
        refusal = _note(runtime, person, actor)
    except IntegrityError:
        # Another sign-in of this new person was quicker, and has added the user.
        refusal = _note(runtime, person, actor)
    if refusal is None:
        enforcement.change_groups(runtime, person.name, person.groups, _OTHER_GROUPS, actor)
    return refusal


def _note(runtime: Runtime, person: DirectoryUser, actor: Actor) -> Refusal | None:
    with runtime.database.transaction() as session:
        user = session.get(User, person.name, with_for_update=True)
        if user is None:
            _add(session, person, actor)
            return None
        problem = conflict(_known(user), person)
        if problem is not None:
            return Refusal("other-person", problem)
        if user.disabled and not user.disabled_by_source:
            return Refusal("disabled-user", f"the account of {user.name} is disabled")
        users.set_disabled(session, user, False, actor, reason=_ENABLED)
        user.display_name = shown_name(person)
    return None


def known_users(runtime: Runtime) -> dict[str, KnownUser]:
    """All users here by name."""
    with runtime.database.reading() as session:
        return {user.name: _known(user) for user in session.scalars(select(User))}


def _known(user: User) -> KnownUser:
    return KnownUser(
        user.name,
        user.source,
        user.source_id,
        user.display_name,
        tuple(user.groups),
        user.disabled,
        user.disabled_by_source,
    )


def _carry_out(runtime: Runtime, directory: str, plan: Plan, actor: Actor) -> SyncResult:
    added = 0
    for start in range(0, len(plan.to_add), _ADDED_AT_ONCE):
        with runtime.database.transaction() as session:
            for person in plan.to_add[start : start + _ADDED_AT_ONCE]:
                # Another process may have noted the person since.
                if session.get(User, person.name) is None:
                    _add(session, person, actor)
                    added += 1
    answers = []
    for name, reason in plan.to_disable.items():
        for done in enforcement.disable_user(runtime, name, reason, actor, by_source=True):
            answers += done.answers
    for person in plan.to_update:
        answers += enforcement.change_groups(runtime, person.name, person.groups, _OTHER_GROUPS, actor)
        with runtime.database.transaction() as session:
            users.get_user(session, person.name).display_name = shown_name(person)
    with runtime.database.transaction() as session:
        for name in plan.to_enable:
            user = users.get_user(session, name)
            session.refresh(user, with_for_update=True)
            # A person may have disabled it since the plan was made.
            if user.disabled and user.disabled_by_source:
                users.set_disabled(session, user, False, actor, reason=_ENABLED)
    result = SyncResult(
        directory,
        added=added,
        updated=len(plan.to_update),
        enabled=len(plan.to_enable),
        disabled=len(plan.to_disable),
        unchanged=plan.unchanged,
        skipped=plan.skipped,
        gateways_waiting=sum(not answer.acknowledged for answer in answers),
    )
    if result.changed:
        with runtime.database.transaction() as session:
            detail = asdict(result) | {"skipped": dict(list(plan.skipped.items())[:_SKIPPED_SHOWN])}
            audit.record(session, actor, ACTION, f"directory:{directory}", detail=detail)
    elif _last_failure(runtime, directory) is not None:
        with runtime.database.transaction() as session:
            audit.record(session, actor, ACTION, f"directory:{directory}", reason="it can be read again")
    _log.info("directory synchronised", **{**asdict(result), "skipped": len(plan.skipped)})
    return result


def _add(session: Session, person: DirectoryUser, actor: Actor) -> None:
    users.create_user(
        session,
        person.name,
        display_name=shown_name(person),
        groups=person.groups,
        source=person.directory,
        source_id=person.id,
        actor=actor,
    )


def _record_failure(runtime: Runtime, directory: str, reason: str, actor: Actor) -> None:
    """One event when it begins to fail, or fails for another reason: a directory that is away is asked often."""
    _log.error("directory can't be synchronised", directory=directory, reason=reason)
    if _last_failure(runtime, directory) == reason[: AuditEvent.reason.type.length]:
        return
    with runtime.database.transaction() as session:
        audit.record(session, actor, ACTION, f"directory:{directory}", outcome="failed", reason=reason)


def _last_failure(runtime: Runtime, directory: str) -> str | None:
    """Why the last sync failed; None where it did not."""
    last = (
        select(AuditEvent)
        .where(AuditEvent.action == ACTION, AuditEvent.target == f"directory:{directory}")
        .order_by(AuditEvent.id.desc())
        .limit(1)
    )
    with runtime.database.reading() as session:
        event = session.scalar(last)
        return event.reason if event is not None and event.outcome == "failed" else None
