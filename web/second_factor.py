"""The fresh second factor: what ends sessions or gives rights asks for a code from the last five minutes."""

from __future__ import annotations

from datetime import timedelta

import pyotp
from flask import request

from aaa import mfa
from aaa.models import User
from core.audit import record
from core.clock import utc_now
from core.errors import OstiaryError
from web import throttle
from web.access import visitor
from web.browser_sessions import end_sessions_of
from web.context import remote_address, runtime
from web.models import ConsoleSession

FRESH_FOR = timedelta(minutes=5)


class CodeRefusedError(OstiaryError):
    """The code that was typed does not prove the second factor; the message is for the person."""


class SignedOutError(Exception):
    """Too many wrong codes: whoever sits there has been signed out everywhere. Answered by `web.errors`."""


def is_fresh() -> bool:
    """Whether the visitor gave a code recently enough; forms show the code field where this is False."""
    return utc_now() - visitor().second_factor_at < FRESH_FOR


def demand() -> None:
    """Pass when the second factor is fresh; else check the form's `code`, which makes it fresh.

    Raises:
        CodeRefusedError: no code, a wrong one or a used one.
        SignedOutError: wrong so often that whoever sits there may not be the person.
    """
    if is_fresh():
        return
    code = request.form.get("code", "").strip()
    if not code:
        raise CodeRefusedError("Type the six digits that your authenticator app shows now.")
    check(code)


def check(code: str) -> None:
    """Check one code of the visitor, whether or not an earlier one is fresh still.

    Raises:
        CodeRefusedError: a wrong code, or a used one.
        SignedOutError: too many wrong ones.
    """
    who, address = visitor(), remote_address()
    refusal: Exception | None = None
    with runtime().database.transaction() as session:
        user = session.get_one(User, who.user_name)
        browser = session.get_one(ConsoleSession, who.session_id)
        if mfa.verify_totp(session, runtime().box, user, code):
            throttle.forget(session, who.user_name, address)
            throttle.forget_wrong_codes(session, browser.token_hash)
            browser.second_factor_at = utc_now()
        elif is_used(user, code):
            refusal = CodeRefusedError(used_code_message())
        else:
            refusal = CodeRefusedError("That code is not right. Type the one that shows now.")
            reason = "wrong second factor"
            throttle.add_failure(session, who.user_name, address)
            if throttle.add_wrong_code(session, browser.token_hash):
                end_sessions_of(session, who.user_name)
                reason = "wrong second factor too often; signed out everywhere"
                refusal = SignedOutError()
            record(
                session,
                who.actor,
                "console.confirm",
                "console:portal",
                outcome="refused",
                reason=reason,
                detail={"address": address},
            )
    if refusal is not None:
        raise refusal


def is_used(user: User, code: str) -> bool:
    """Whether a code that was refused is right, and was refused because it had been used.

    That is no failure: a person who confirms two things within half a minute makes no mistake.
    """
    if user.encrypted_totp_secret is None:
        return False
    secret = runtime().box.decrypt(user.encrypted_totp_secret).reveal().decode()
    return pyotp.TOTP(secret, digits=mfa.CODE_LENGTH, interval=mfa.STEP_S).verify(
        code.replace(" ", ""), valid_window=1
    )


def used_code_message() -> str:
    """Says how long to wait for the next code."""
    left = mfa.STEP_S - int(utc_now().timestamp()) % mfa.STEP_S
    return f"That code has been used already. Wait for the next one: {left} second{'s' if left != 1 else ''}."
