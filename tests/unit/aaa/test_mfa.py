from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from sqlalchemy import select

from aaa import mfa, users
from aaa.mfa import MfaError
from aaa.models import User
from core.audit import SYSTEM, AuditEvent
from core.runtime import Runtime

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
STEP = timedelta(seconds=mfa.STEP_S)


def _code(secret: str, at: datetime) -> str:
    return pyotp.TOTP(secret).at(at)


def _enrolled(runtime: Runtime) -> str:
    secret = mfa.new_totp_secret()
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
        mfa.enrol_totp(session, runtime.box, user, secret, _code(secret, NOW), SYSTEM, now=NOW)
    return secret


def _verify(runtime: Runtime, code: str, at: datetime) -> bool:
    with runtime.database.transaction() as session:
        return mfa.verify_totp(session, runtime.box, users.get_user(session, "alice"), code, now=at)


def test_rfc_6238_vector(runtime: Runtime) -> None:
    """RFC 6238 appendix B, SHA-1: the seed is the ASCII text below, at 1111111109 s the code ends in 081804."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    at = datetime.fromtimestamp(1111111109, UTC)
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
        mfa.enrol_totp(session, runtime.box, user, secret, "081804", SYSTEM, now=at)
    assert user.last_totp_step == 1111111109 // 30


def test_the_secret_is_encrypted_and_unpredictable(runtime: Runtime) -> None:
    secret = _enrolled(runtime)
    with runtime.database.reading() as session:
        stored = session.scalars(select(User.encrypted_totp_secret)).one()
        actions = list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id.desc())).fetchmany(1))
    assert stored is not None
    assert secret.encode() not in stored
    assert actions == ["user.enrol-totp"]
    assert len(secret) == 32
    assert mfa.new_totp_secret() != secret


def test_a_wrong_code_enrols_nothing(runtime: Runtime) -> None:
    secret = mfa.new_totp_secret()
    wrong = f"{(int(_code(secret, NOW)) + 1) % 1_000_000:06}"
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
        for code in (wrong, "", "12345", "abcdef", "١٢٣٤٥٦"):
            with pytest.raises(MfaError, match="does not match"):
                mfa.enrol_totp(session, runtime.box, user, secret, code, SYSTEM, now=NOW)
        assert user.encrypted_totp_secret is None
        assert not mfa.verify_totp(session, runtime.box, user, _code(secret, NOW), now=NOW)


def test_no_code_is_accepted_twice(runtime: Runtime) -> None:
    secret = _enrolled(runtime)
    assert not _verify(runtime, _code(secret, NOW), NOW), "the code of the enrolment is used up"
    later = NOW + STEP
    assert _verify(runtime, _code(secret, later), later)
    assert not _verify(runtime, _code(secret, later), later)
    assert not _verify(runtime, _code(secret, NOW), later), "nor is an older one"


def test_a_clock_may_be_one_step_off(runtime: Runtime) -> None:
    secret = _enrolled(runtime)
    base = NOW + 10 * STEP
    assert not _verify(runtime, _code(secret, base - 2 * STEP), base)
    assert not _verify(runtime, _code(secret, base + 2 * STEP), base)
    assert _verify(runtime, _code(secret, base - STEP), base)
    assert _verify(runtime, " ".join((_code(secret, base + STEP)[:3], _code(secret, base + STEP)[3:])), base)
    assert not _verify(runtime, _code(secret, base), base), "a step before one that was used"


def test_a_stale_copy_of_the_user_does_not_let_a_code_pass_twice(runtime: Runtime) -> None:
    """Two requests read the user, then both bring the same code."""
    secret = _enrolled(runtime)
    later = NOW + STEP
    with runtime.database.reading() as session:
        stale = users.get_user(session, "alice")
        session.expunge(stale)
    assert _verify(runtime, _code(secret, later), later)
    with runtime.database.transaction() as session:
        session.add(stale)
        assert not mfa.verify_totp(session, runtime.box, stale, _code(secret, later), now=later)


def test_the_uri_is_what_apps_read(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        user = users.create_user(session, "alice", actor=SYSTEM)
    uri = urlsplit(mfa.totp_uri(user, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"))
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Ostiary:alice")
    assert parse_qs(uri.query) == {"secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"], "issuer": ["Ostiary"]}
