"""One-time links by which a person becomes a user of the console."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.orm import Session

from aaa.models import User
from aaa.users import create_user
from core.audit import SYSTEM, Actor, record
from core.clock import utc_now
from core.runtime import Runtime
from web.access import ROLES
from web.context import portal_url
from web.cookies import new_token, token_hash
from web.models import Invitation, PendingSignIn

LIFETIME = timedelta(hours=24)
LONGEST_TOKEN = 128


def administrator_exists(session: Session, *, but: str = "") -> bool:
    """Whether anybody, other than `but`, can sign in as administrator: not disabled, with both factors."""
    return bool(
        session.scalar(
            select(
                exists().where(
                    User.name != but,
                    User.role == "administrator",
                    User.disabled.is_(False),
                    User.password_hash.is_not(None),
                    User.encrypted_totp_secret.is_not(None),
                )
            )
        )
    )


def first_run_link(runtime: Runtime) -> str | None:
    """A new link for the first administrator, None where there is one.

    The link of an earlier start dies with it, so that what an old log shows opens nothing.
    """
    with runtime.database.transaction() as session:
        _delete(session, Invitation.first_run.is_(True) & Invitation.used_at.is_(None))
        if administrator_exists(session):
            return None
        lifetime = timedelta(seconds=runtime.settings.web.first_run_link_lifetime_s)
        token = _add(session, "administrator", None, SYSTEM, lifetime, first_run=True)
    return f"{portal_url(runtime)}/first-run/{token}"


def invite(session: Session, runtime: Runtime, *, role: str, user_name: str | None, actor: Actor) -> str:
    """An invitation's link, to be handed to its guest; it can't be read back later.

    Args:
        session: the transaction that invites.
        runtime: for the portal's name and port.
        role: what the guest becomes.
        user_name: who it is for; None lets the guest choose a name. An earlier invitation of the same person dies.
        actor: who invites.

    Raises:
        ValueError: there is no such role.
        UserError: nobody can have that name.
    """
    if role not in ROLES:
        raise ValueError(f"no such role: {role}")
    if user_name is not None:
        if session.get(User, user_name) is None:
            check_new_name(session, user_name)
        withdraw(session, user_name)
    return f"{portal_url(runtime)}/invitation/{_add(session, role, user_name, actor, LIFETIME, first_run=False)}"


def find(session: Session, token: str) -> Invitation | None:
    """The invitation that a link's token opens; None when it was used, has ended or never was."""
    if not 0 < len(token) <= LONGEST_TOKEN:
        return None
    row = session.scalar(select(Invitation).where(Invitation.token_hash == token_hash(token)))
    return row if row is not None and is_open(session, row) else None


def is_open(session: Session, invitation: Invitation) -> bool:
    """Whether it can still be used: not used, not ended, its guest not disabled since; and that of the first run, not
    once somebody has become administrator by another way.
    """
    guest = session.get(User, invitation.user_name) if invitation.user_name else None
    if invitation.used_at is not None or invitation.expires_at <= utc_now() or (guest and guest.disabled):
        return False
    return not (invitation.first_run and administrator_exists(session))


def withdraw(session: Session, user_name: str) -> None:
    """Let the open invitation of a person open nothing: what it would give was taken since."""
    _delete(session, (Invitation.user_name == user_name) & Invitation.used_at.is_(None))


def check_new_name(session: Session, name: str) -> None:
    """Whether a user of this name could be made; nothing of the trial stays.

    Raises:
        UserError: nobody can have that name.
        ConflictError: somebody has it.
    """
    trial = session.begin_nested()
    try:
        create_user(session, name, actor=SYSTEM)
    finally:
        trial.rollback()


def _add(
    session: Session, role: str, user_name: str | None, actor: Actor, lifetime: timedelta, *, first_run: bool
) -> str:
    now = utc_now()
    token = new_token()
    row = Invitation(
        token_hash=token_hash(token),
        role=role,
        user_name=user_name,
        first_run=first_run,
        created_by=str(actor)[:320],
        created_at=now,
        expires_at=now + lifetime,
        used_at=None,
    )
    session.add(row)
    record(
        session,
        actor,
        "invitation.create",
        f"user:{user_name}" if user_name else f"role:{role}",
        reason="no administrator can sign in" if first_run else "",
        detail={"role": role, "expires_at": row.expires_at.isoformat(timespec="seconds")},
    )
    return token


def _delete(session: Session, condition: ColumnElement[bool]) -> None:
    ids = list(session.scalars(select(Invitation.id).where(condition)))
    session.execute(delete(PendingSignIn).where(PendingSignIn.invitation_id.in_(ids)))
    session.execute(delete(Invitation).where(Invitation.id.in_(ids)))
