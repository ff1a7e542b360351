"""Invitations, sign-ins that are half done, console sessions and failure counts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base


class Invitation(Base):
    """A one-time link by which somebody becomes a user of the console; only the token's hash is kept."""

    __tablename__ = "web_invitation"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 of the token in the link."""
    role: Mapped[str] = mapped_column(String(16))
    user_name: Mapped[str | None] = mapped_column(String(128))
    """Who it is for; none lets the guest choose a name."""
    first_run: Mapped[bool] = mapped_column(default=False)
    """Made at start because there was no administrator; the next start replaces it."""
    created_by: Mapped[str] = mapped_column(String(320))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class PendingSignIn(Base):
    """A visitor between two steps: the password was right and the code is owed, or an account is being made."""

    __tablename__ = "web_pending_sign_in"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    """SHA-256 of the random value in the visitor's cookie."""
    user_name: Mapped[str] = mapped_column(String(128), index=True)
    invitation_id: Mapped[int | None] = mapped_column(ForeignKey("web_invitation.id"))
    """Set while an account is being made; then the two columns below are set too."""
    display_name: Mapped[str] = mapped_column(String(128), default="")
    encrypted_password: Mapped[bytes | None] = mapped_column(LargeBinary)
    encrypted_totp_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    next_path: Mapped[str] = mapped_column(String(512), default="")
    failures: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ConsoleSession(Base):
    """One signed-in browser."""

    __tablename__ = "web_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 of the random value in the cookie."""
    user_name: Mapped[str] = mapped_column(ForeignKey("user.name"), index=True)
    remote_address: Mapped[str] = mapped_column(String(45))
    browser: Mapped[str] = mapped_column(String(64), default="")
    """What the browser looks like (`Firefox on Linux`); a guess for the account page."""
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    second_factor_at: Mapped[datetime]
    """When a code was last accepted; revoking asks for a recent one."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """The absolute end; idleness may end it before."""
    encrypted_new_totp_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    """A secret that was shown for enrolment and not confirmed yet."""


class SignInFailures(Base):
    """Failed attempts of one account or from one address in the running window."""

    __tablename__ = "web_sign_in_failures"

    key: Mapped[str] = mapped_column(String(160), primary_key=True)
    """`account:NAME` or `address:ADDRESS`."""
    count: Mapped[int] = mapped_column(BigInteger, default=0)
    window_ends_at: Mapped[datetime] = mapped_column(index=True)
