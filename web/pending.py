"""Visitors between two steps: the code is owed after the password, or an account is being made."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from core.clock import utc_now
from core.secrets import Secret
from web.context import runtime
from web.cookies import PENDING_COOKIE, clear_cookie, new_token, read_token, set_cookie, token_hash
from web.models import Invitation, PendingSignIn

CODE_LIFETIME = timedelta(minutes=5)
ENROLMENT_LIFETIME = timedelta(minutes=30)
CODE_ATTEMPTS = 5


def begin_code(session: Session, user_name: str, next_path: str) -> str:
    """The password was right; returns the token for the cookie."""
    return _add(session, PendingSignIn(user_name=user_name, next_path=next_path[:512]), CODE_LIFETIME)


def begin_enrolment(
    session: Session, invitation: Invitation, user_name: str, display_name: str, password: str, totp_secret: str
) -> str:
    """Name and password were chosen; the account is made when the first code was right.

    Until then nothing of it exists, so that an abandoned enrolment leaves no account with one factor behind. The
    password waits encrypted, because only `aaa.users` may hash it.
    """
    box = runtime().box
    session.execute(delete(PendingSignIn).where(PendingSignIn.invitation_id == invitation.id))
    row = PendingSignIn(
        user_name=user_name,
        display_name=display_name,
        invitation_id=invitation.id,
        encrypted_password=box.encrypt(Secret(password.encode())),
        encrypted_totp_secret=box.encrypt(Secret(totp_secret.encode())),
    )
    return _add(session, row, ENROLMENT_LIFETIME)


def current(session: Session, *, enrolment: bool) -> PendingSignIn | None:
    """The half-done sign-in of this browser, of the wanted kind; None when there is none or it took too long."""
    token = read_token(PENDING_COOKIE)
    if token is None:
        return None
    row = session.get(PendingSignIn, token_hash(token))
    if row is None or row.expires_at <= utc_now() or (row.invitation_id is not None) != enrolment:
        return None
    return row


def password_of(row: PendingSignIn) -> str:
    """The password chosen at the first step of an enrolment."""
    return _decrypted(row.encrypted_password)


def totp_secret_of(row: PendingSignIn) -> str:
    """The secret that was shown at the second step of an enrolment."""
    return _decrypted(row.encrypted_totp_secret)


def hand_over(response: Response, token: str) -> None:
    """Put the token into the browser."""
    set_cookie(response, PENDING_COOKIE, token, same_site="Strict")


def take_back(response: Response) -> None:
    """Clear the browser's cookie."""
    clear_cookie(response, PENDING_COOKIE)


def _decrypted(token: bytes | None) -> str:
    if token is None:
        raise ValueError("this sign-in is no enrolment")
    return runtime().box.decrypt(token).reveal().decode()


def _add(session: Session, row: PendingSignIn, lifetime: timedelta) -> str:
    now = utc_now()
    session.execute(delete(PendingSignIn).where(PendingSignIn.expires_at <= now))
    token = new_token()
    row.token_hash = token_hash(token)
    row.failures = 0
    row.created_at = now
    row.expires_at = now + lifetime
    session.add(row)
    return token
