"""The second factor of the console: time-based one-time passwords (RFC 6238), none accepted twice."""

from __future__ import annotations

import hmac
from datetime import datetime

import pyotp
from sqlalchemy import update
from sqlalchemy.orm import Session

from aaa.models import User
from core import audit
from core.audit import Actor
from core.clock import utc_now
from core.errors import OstiaryError
from core.secrets import Secret, SecretBox

ISSUER = "Ostiary"
STEP_S = 30
CODE_LENGTH = 6
_DRIFT_STEPS = 1
"""How far a phone's clock may be off, each way (RFC 6238 section 5.2 advises one step)."""


class MfaError(OstiaryError):
    """The second factor was not given as it should be."""


def new_totp_secret() -> str:
    """A new secret: 160 bits as base32, as authenticator apps take it (RFC 4226 section 4)."""
    return pyotp.random_base32(32)


def totp_uri(user: User, secret: str) -> str:
    """The `otpauth://` URI that an authenticator app reads as a QR code."""
    return pyotp.TOTP(secret, digits=CODE_LENGTH, interval=STEP_S).provisioning_uri(
        name=user.name, issuer_name=ISSUER
    )


def enrol_totp(
    session: Session,
    box: SecretBox,
    user: User,
    secret: str,
    code: str,
    actor: Actor,
    *,
    now: datetime | None = None,
) -> None:
    """Keep the secret as the user's second factor, after a code has shown that the app has it.

    Raises:
        MfaError: the code does not fit the secret at this time.
    """
    step = _matching_step(secret, code, now or utc_now())
    if step is None:
        raise MfaError(
            "the code does not match",
            fix="scan the picture again, check the phone's clock, and type the code that shows now",
        )
    user.encrypted_totp_secret = box.encrypt(Secret(secret.encode()))
    user.last_totp_step = step
    session.flush()
    audit.record(session, actor, "user.enrol-totp", f"user:{user.name}")


def verify_totp(session: Session, box: SecretBox, user: User, code: str, *, now: datetime | None = None) -> bool:
    """Whether the code is the user's now; it and every older one are used up by that.

    Needs a writing transaction. False as well for a user without a second factor.

    Raises:
        SecretError: the stored secret can't be decrypted.
    """
    if user.encrypted_totp_secret is None:
        return False
    secret = box.decrypt(user.encrypted_totp_secret).reveal().decode()
    step = _matching_step(secret, code, now or utc_now())
    if step is None:
        return False
    # One statement decides between two requests that bring the same code at the same time.
    used = session.connection().execute(
        update(User).where(User.name == user.name, User.last_totp_step < step).values(last_totp_step=step)
    )
    session.refresh(user, ["last_totp_step"])
    return used.rowcount == 1


def _matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is, if it is one of those allowed now."""
    code = code.replace(" ", "")
    if len(code) != CODE_LENGTH or not (code.isascii() and code.isdigit()):
        return None
    totp = pyotp.TOTP(secret, digits=CODE_LENGTH, interval=STEP_S)
    current = int(now.timestamp()) // STEP_S
    found = None
    for step in range(current - _DRIFT_STEPS, current + _DRIFT_STEPS + 1):
        if hmac.compare_digest(totp.generate_otp(step), code):
            found = step
    return found
