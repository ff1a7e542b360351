"""How an account stands: what its entry says, what the answer to a bind says, and what becomes of it. Pure.

Sources: [MS-ADTS] 2.2.16 (userAccountControl), 3.1.1.4.5.17 (msDS-User-Account-Control-Computed); Microsoft's table
of the sub-codes of LDAP error 49; draft-behera-ldap-password-policy-10 (control and attributes of ppolicy).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from aaa.backend.identity import shown
from aaa.interface import Refusal

PPOLICY_CONTROL = "1.3.6.1.4.1.42.2.27.8.5.1"

AD_ATTRIBUTES = ("userAccountControl", "msDS-User-Account-Control-Computed", "accountExpires", "pwdLastSet")
OPENLDAP_ATTRIBUTES = ("pwdAccountLockedTime", "pwdReset", "pwdEndTime", "nsAccountLock", "shadowExpire")

_DISABLED, _DONT_EXPIRE_PASSWORD = 0x0002, 0x10000
_LOCKOUT, _PASSWORD_EXPIRED = 0x0010, 0x800000
_NEVER = {0, 0x7FFFFFFFFFFFFFFF}
_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AD_SUBCODE = re.compile(r"\bdata ([0-9a-fA-F]{1,8})\b")
_INVALID_CREDENTIALS = 49
_LOCKED_FOR_GOOD = b"000001010000Z"

Attributes = Mapping[str, Sequence[bytes]]
"""Of an entry, by names in lower case."""


class AccountState(StrEnum):
    """Why somebody with the right password may be refused all the same."""

    DISABLED = "disabled"
    EXPIRED = "expired"
    LOCKED = "locked"
    MUST_CHANGE = "must-change-password"
    PASSWORD_EXPIRED = "password-expired"  # noqa: S105 - the name of a state

    @property
    def ends_sessions(self) -> bool:
        """Whether a sync disables such a user. Locked is not among them: a stranger who guesses passwords can lock
        anybody, and must not be able to throw anybody out.
        """
        return self in (AccountState.DISABLED, AccountState.EXPIRED)


DISABLED_USER = Refusal("disabled-user", "the directory has disabled this account")
EXPIRED_USER = Refusal("expired-user", "this account has ended, by its date in the directory")
LOCKED_USER = Refusal("locked-user", "the directory has locked this account after too many wrong passwords")
MUST_CHANGE = Refusal(
    "password-must-change", "the user has to set a new password first, on a computer of the company"
)
PASSWORD_EXPIRED = Refusal("password-expired", "the password has ended; the user has to set a new one")
WRONG_PASSWORD = Refusal("wrong-credential", "the directory says that this is not the password")
NOT_ALLOWED_NOW = Refusal("sign-in-restricted", "the directory lets this account in at other hours or elsewhere only")
UNKNOWN_USER = Refusal("unknown-user", "the directory has nobody of this name")

_REFUSAL_OF_STATE = {
    AccountState.DISABLED: DISABLED_USER,
    AccountState.EXPIRED: EXPIRED_USER,
    AccountState.LOCKED: LOCKED_USER,
    AccountState.PASSWORD_EXPIRED: PASSWORD_EXPIRED,
    AccountState.MUST_CHANGE: MUST_CHANGE,
}
_REFUSAL_OF_AD_SUBCODE = {
    0x525: UNKNOWN_USER,
    0x52E: WRONG_PASSWORD,
    0x530: NOT_ALLOWED_NOW,
    0x531: NOT_ALLOWED_NOW,
    0x532: PASSWORD_EXPIRED,
    0x533: DISABLED_USER,
    0x568: Refusal("sign-in-restricted", "the account is in more groups than Windows can carry"),
    0x701: EXPIRED_USER,
    0x773: MUST_CHANGE,
    0x775: LOCKED_USER,
}
_REFUSAL_OF_PPOLICY = {0: PASSWORD_EXPIRED, 1: LOCKED_USER, 2: MUST_CHANGE}


@dataclass(frozen=True, slots=True)
class BindAnswer:
    """What a server said to a name and a password."""

    code: int
    """LDAP's resultCode, 0 for success."""
    message: str = ""
    """The server's diagnostic message."""
    policy: bytes | None = None
    """The value of the ppolicy response control, where there was one."""


def refusal_of(states: frozenset[AccountState]) -> Refusal | None:
    """The weightiest reason among these, if there is any."""
    return next((refusal for state, refusal in _REFUSAL_OF_STATE.items() if state in states), None)


def refusal_of_bind(answer: BindAnswer) -> Refusal | None:
    """Why the password was not taken; None where it was. Only success is success."""
    policy_error = parse_policy(answer.policy) if answer.policy is not None else None
    by_policy = _REFUSAL_OF_PPOLICY.get(policy_error) if policy_error is not None else None
    if answer.code == 0:
        return by_policy
    subcode = _AD_SUBCODE.search(answer.message)
    if answer.code == _INVALID_CREDENTIALS and subcode is not None:
        return _REFUSAL_OF_AD_SUBCODE.get(int(subcode[1], 16), WRONG_PASSWORD)
    if answer.code != _INVALID_CREDENTIALS and by_policy is None:
        # Such as 53, unwillingToPerform, by which some servers say that an account is not active.
        said = f": {shown(answer.message)}" if answer.message else ""
        return Refusal("wrong-credential", f"the directory refuses the sign-in with result {answer.code}{said}")
    return by_policy or WRONG_PASSWORD


def parse_policy(value: bytes) -> int | None:
    """The error in a ppolicy response control; None where it has none, or can't be read.

    PasswordPolicyResponseValue ::= SEQUENCE { warning [0] CHOICE ... OPTIONAL, error [1] ENUMERATED OPTIONAL }
    (draft-behera-ldap-password-policy-10 section 6.2), in BER; all of its lengths fit into one octet.
    """
    if len(value) < 2 or value[0] != 0x30 or value[1] >= 0x80 or value[1] != len(value) - 2:
        return None
    rest = value[2:]
    while len(rest) >= 2:
        tag, length = rest[0], rest[1]
        content, rest = rest[2 : 2 + length], rest[2 + length :]
        if length >= 0x80 or len(content) != length:
            return None
        if tag == 0x81:
            return content[0] if length == 1 else None
    return None


def states_of(attributes: Attributes, now: datetime, *, is_ad: bool) -> frozenset[AccountState]:
    """How the account of an entry stands.

    A value that can't be read counts as disabled: it is there to say that something is wrong.
    """
    try:
        return frozenset(_ad_states(attributes, now) if is_ad else _openldap_states(attributes, now))
    except (ValueError, OverflowError):
        return frozenset({AccountState.DISABLED})


def _ad_states(attributes: Attributes, now: datetime) -> set[AccountState]:
    states = set()
    control = _number(attributes, "userAccountControl")
    if control is None:
        # The service account may not read it, so nobody can tell.
        return {AccountState.DISABLED}
    computed = _number(attributes, "msDS-User-Account-Control-Computed") or 0
    expires = _number(attributes, "accountExpires") or 0
    if control & _DISABLED:
        states.add(AccountState.DISABLED)
    if expires not in _NEVER and _FILETIME_EPOCH + timedelta(microseconds=expires // 10) <= now:
        states.add(AccountState.EXPIRED)
    if computed & _LOCKOUT:
        states.add(AccountState.LOCKED)
    if _number(attributes, "pwdLastSet") == 0 and not control & _DONT_EXPIRE_PASSWORD:
        states.add(AccountState.MUST_CHANGE)
    elif computed & _PASSWORD_EXPIRED:
        states.add(AccountState.PASSWORD_EXPIRED)
    return states


def _openldap_states(attributes: Attributes, now: datetime) -> set[AccountState]:
    states = set()
    if _is_true(attributes, "nsAccountLock"):
        states.add(AccountState.DISABLED)
    locked = _first(attributes, "pwdAccountLockedTime")
    if locked == _LOCKED_FOR_GOOD:
        # What an administrator writes (draft-behera section 5.3.3); a lock after wrong passwords has its time.
        states.add(AccountState.DISABLED)
    elif locked is not None:
        states.add(AccountState.LOCKED)
    end = _first(attributes, "pwdEndTime")
    if end is not None and _generalized_time(end) <= now:
        states.add(AccountState.EXPIRED)
    days = _number(attributes, "shadowExpire")
    if days is not None and days >= 0 and _UNIX_EPOCH + timedelta(days=days) <= now:
        states.add(AccountState.EXPIRED)
    if _is_true(attributes, "pwdReset"):
        states.add(AccountState.MUST_CHANGE)
    return states


def _first(attributes: Attributes, name: str) -> bytes | None:
    values = attributes.get(name.lower())
    return values[0] if values else None


def _number(attributes: Attributes, name: str) -> int | None:
    value = _first(attributes, name)
    return int(value) if value is not None else None


def _is_true(attributes: Attributes, name: str) -> bool:
    return (_first(attributes, name) or b"").upper() == b"TRUE"


def _generalized_time(value: bytes) -> datetime:
    """As servers write it (RFC 4517 section 3.3.13): `20260504120000Z`, perhaps with a fraction."""
    text = value.decode("ascii")
    if not text.endswith("Z"):
        raise ValueError("a time that is not UTC")
    return datetime.strptime(text[:-1].partition(".")[0], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
