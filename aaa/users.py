"""The local directory: people, their groups, and for those with a role the password of the console.

Every change is one audit event in the transaction of the change.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import select
from sqlalchemy.orm import Session

from aaa.models import LOCAL, User
from core import audit
from core.audit import Actor
from core.clock import utc_now
from core.errors import ConflictError, NotFoundError, OstiaryError

ROLES = ("administrator", "security", "auditor")
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 256
"""Bounds the work that one sign-in can ask of the hash."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}(@[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?)?")
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,62}")
_LONGEST_DISPLAY_NAME = 128

_hasher = PasswordHasher()
_HASHED_AT_A_TIME = 4
_room = threading.BoundedSemaphore(_HASHED_AT_A_TIME)
"""Each takes 64 MiB: a flood of sign-ins, which anyone can send, shall wait for time and not run out of memory."""
# Checked where there is no password, so that the time taken does not tell who has one. It is a hash of nothing
# that anyone can type.
_NO_PASSWORD = _hasher.hash("\x00no password")


class UserError(OstiaryError):
    """A user can't be made or changed as asked."""


def create_user(
    session: Session,
    name: str,
    *,
    display_name: str = "",
    groups: Iterable[str] = (),
    role: str | None = None,
    source: str = LOCAL,
    source_id: str = "",
    actor: Actor,
) -> User:
    """Put a person into the local directory, or note one who comes from another.

    Args:
        session: the transaction.
        name: what the person types to sign in; kept in lower case. An `@` and a domain are allowed.
        display_name: for the console; the name itself where it is empty.
        groups: names that access rules ask for.
        role: of the console: `administrator`, `security` or `auditor`; None for an employee.
        source: the directory that the person comes from; its groups may have names that nobody could give here.
        source_id: the person's id there.
        actor: who does it.

    Raises:
        UserError: the name, a group or the role can't be used.
        ConflictError: the name is taken.
    """
    name = name.strip().lower()
    if not _NAME.fullmatch(name):
        raise UserError(
            f"user name {name[:64]!r} can't be used",
            fix="use letters, digits, dots, hyphens and underscores, and @domain if you like",
        )
    wanted_groups = sorted({group.strip() for group in groups})
    for group in wanted_groups if source == LOCAL else ():
        if not _GROUP.fullmatch(group):
            raise UserError(f"group name {group[:64]!r} can't be used", fix="use letters, digits, dots and hyphens")
    _check_role(role)
    if session.get(User, name) is not None:
        raise ConflictError(f"user {name} exists already", fix="see `ostiary user list`")
    user = User(
        name=name,
        display_name=(display_name.strip() or name)[:_LONGEST_DISPLAY_NAME],
        groups=wanted_groups,
        role=role,
        disabled=False,
        disabled_by_source=False,
        source=source,
        source_id=source_id,
        created_at=utc_now(),
    )
    session.add(user)
    session.flush()
    detail: dict[str, Any] = {"groups": wanted_groups, "role": role or "employee"}
    if source != LOCAL:
        detail["directory"] = source
    audit.record(session, actor, "user.add", f"user:{name}", detail=detail)
    return user


def is_usable_name(name: str) -> bool:
    """Whether somebody can have this name here; it is in lower case."""
    return _NAME.fullmatch(name) is not None


def get_user(session: Session, name: str) -> User:
    """The user of this name, in whatever case it is typed.

    Raises:
        NotFoundError: there is none.
    """
    user = session.get(User, name.strip().lower())
    if user is None:
        raise NotFoundError(f"there is no user {name[:64]!r}", fix="see `ostiary user list`")
    return user


def list_users(session: Session) -> Sequence[User]:
    """All users by name."""
    return session.scalars(select(User).order_by(User.name)).all()


def set_role(session: Session, user: User, role: str | None, actor: Actor) -> None:
    """Change what a person may do in the console.

    Raises:
        UserError: there is no such role.
    """
    _check_role(role)
    if user.role == role:
        return
    before, user.role = user.role, role
    audit.record(
        session,
        actor,
        "user.set-role",
        f"user:{user.name}",
        detail={"before": before or "employee", "role": role or "employee"},
    )


def set_password(session: Session, user: User, password: str, actor: Actor) -> None:
    """Set the password of the console, kept as argon2id.

    Raises:
        UserError: too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UserError(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters", fix="use a longer one"
        )
    user.password_hash = _hasher.hash(password)
    audit.record(session, actor, "user.set-password", f"user:{user.name}")


def verify_password(user: User | None, password: str) -> bool:
    """Whether this is the password of the user.

    Takes as long for a user that does not exist (None), is disabled or has no password, and says no.
    """
    if len(password) > LONGEST_PASSWORD:
        return False
    stored = user.password_hash if user is not None else None
    try:
        with _room:
            matches = _hasher.verify(stored or _NO_PASSWORD, password)
    except (Argon2Error, InvalidHashError):
        return False
    return matches and stored is not None and user is not None and not user.disabled


def set_groups(session: Session, user: User, groups: Iterable[str], actor: Actor, *, reason: str = "") -> bool:
    """Change the groups of a user who comes from a directory; whether they are others now.

    Sessions that are up have their access changed by `aaa.enforcement.change_groups`.
    """
    before, after = set(user.groups), set(groups)
    if before == after:
        return False
    user.groups = sorted(after)
    audit.record(
        session,
        actor,
        "user.set-groups",
        f"user:{user.name}",
        reason=reason,
        detail={"joined": sorted(after - before), "left": sorted(before - after)},
    )
    return True


def set_disabled(
    session: Session, user: User, disabled: bool, actor: Actor, *, reason: str = "", by_source: bool = False
) -> None:
    """Disable or enable a user. Tunnels that are up are ended by `aaa.enforcement.disable_user`.

    Args:
        session: the transaction.
        user: whom.
        disabled: which of the two.
        actor: who does it.
        reason: why, in words for a person.
        by_source: the user's directory is the cause. Whom a person has disabled, no directory enables again.
    """
    by_source = by_source and disabled
    if user.disabled == disabled and (not disabled or user.disabled_by_source == by_source):
        return
    if user.disabled and by_source:
        return
    user.disabled, user.disabled_by_source = disabled, by_source
    audit.record(session, actor, "user.disable" if disabled else "user.enable", f"user:{user.name}", reason=reason)


def _check_role(role: str | None) -> None:
    if role is not None and role not in ROLES:
        raise UserError(f"there is no role {role[:32]!r}", fix=f"use one of {', '.join(ROLES)}, or none")
