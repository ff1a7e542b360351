"""States of accounts, and what servers say to binds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.directory.accounts import AccountState, BindAnswer, parse_policy, refusal_of, refusal_of_bind, states_of

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DISABLED, EXPIRED, LOCKED = AccountState.DISABLED, AccountState.EXPIRED, AccountState.LOCKED
AD_MESSAGE = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {}, v1db1"


def ad(**attributes: int | str) -> frozenset[AccountState]:
    """The states of an entry in Active Directory."""
    values = {name.lower().replace("_", "-"): [str(value).encode()] for name, value in attributes.items()}
    return states_of(values, NOW, is_ad=True)


def openldap(**attributes: str) -> frozenset[AccountState]:
    """The states of an entry in OpenLDAP."""
    return states_of({name.lower(): [value.encode()] for name, value in attributes.items()}, NOW, is_ad=False)


def test_active_directory() -> None:
    assert ad(userAccountControl=512) == frozenset()
    assert ad(userAccountControl=514) == {DISABLED}
    assert ad(userAccountControl=512, msDS_User_Account_Control_Computed=0x10) == {LOCKED}
    assert ad(userAccountControl=512, pwdLastSet=0) == {AccountState.MUST_CHANGE}
    assert ad(userAccountControl=0x10200, pwdLastSet=0) == frozenset()
    assert ad(userAccountControl=512, msDS_User_Account_Control_Computed=0x800000) == {AccountState.PASSWORD_EXPIRED}


@pytest.mark.parametrize(
    ("value", "expired"),
    [(0, False), (0x7FFFFFFFFFFFFFFF, False), (132223104000000000, True), (140000000000000000, False), (1, True)],
)
def test_account_expires(value: int, expired: bool) -> None:
    assert ad(userAccountControl=512, accountExpires=value) == ({EXPIRED} if expired else frozenset())


def test_what_cannot_be_read_denies() -> None:
    assert ad() == {DISABLED}
    assert ad(userAccountControl="many") == {DISABLED}
    assert ad(userAccountControl=512, accountExpires=2**70) == {DISABLED}
    assert openldap(pwdEndTime="tomorrow") == {DISABLED}


def test_openldap() -> None:
    assert openldap() == frozenset()
    assert openldap(pwdAccountLockedTime="20260504115900Z") == {LOCKED}
    assert openldap(pwdAccountLockedTime="000001010000Z") == {DISABLED}
    assert openldap(pwdReset="TRUE") == {AccountState.MUST_CHANGE}
    assert openldap(pwdEndTime="20260504120000.5Z") == {EXPIRED}
    assert openldap(pwdEndTime="20260504120001Z") == frozenset()
    assert openldap(nsAccountLock="true") == {DISABLED}
    assert openldap(shadowExpire="18000") == {EXPIRED}
    assert openldap(shadowExpire="-1") == frozenset()


@pytest.mark.parametrize(
    ("subcode", "code"),
    [
        ("525", "unknown-user"),
        ("52e", "wrong-credential"),
        ("530", "sign-in-restricted"),
        ("531", "sign-in-restricted"),
        ("532", "password-expired"),
        ("533", "disabled-user"),
        ("701", "expired-user"),
        ("773", "password-must-change"),
        ("775", "locked-user"),
        ("999", "wrong-credential"),
    ],
)
def test_sub_codes_of_error_49(subcode: str, code: str) -> None:
    refusal = refusal_of_bind(BindAnswer(49, AD_MESSAGE.format(subcode)))
    assert refusal is not None
    assert refusal.code == code


def test_only_success_is_success() -> None:
    assert refusal_of_bind(BindAnswer(0)) is None
    for code in (1, 8, 14, 32, 48, 49, 50, 53, 80, 123):
        refusal = refusal_of_bind(BindAnswer(code, "data 773 of something else" if code != 49 else ""))
        assert refusal is not None
        assert refusal.code == "wrong-credential"


@pytest.mark.parametrize(
    ("control", "error"),
    [
        ("3000", None),
        ("3003810101", 1),
        ("3003810102", 2),
        ("3003810100", 0),
        # timeBeforeExpiration of 300 seconds, alone and with an error behind it
        ("3006a00480020" + "12c", None),
        ("3009a00480020" + "12c810102", 2),
        ("", None),
        ("30", None),
        ("3103810101", None),
        ("3004810101", None),
        ("30038102", None),
        ("300381010100", None),
        ("308003810101", None),
        ("30048102010100", None),
    ],
)
def test_policy_control(control: str, error: int | None) -> None:
    """Of draft-behera-ldap-password-policy-10 section 6.2; OpenLDAP 2.5 sends `3003810101` when locked."""
    assert parse_policy(bytes.fromhex(control)) == error


@given(st.binary(max_size=40))
def test_no_control_raises(value: bytes) -> None:
    error = parse_policy(value)
    assert error is None or 0 <= error <= 255


def test_policy_with_the_answer() -> None:
    locked, change = bytes.fromhex("3003810101"), bytes.fromhex("3003810102")
    for answer, code in (
        (BindAnswer(49, "", locked), "locked-user"),
        (BindAnswer(0, "", change), "password-must-change"),
    ):
        refusal = refusal_of_bind(answer)
        assert refusal is not None
        assert refusal.code == code


def test_the_weightiest_state_is_the_reason() -> None:
    assert refusal_of(frozenset()) is None
    refusal = refusal_of(frozenset({AccountState.MUST_CHANGE, DISABLED, LOCKED}))
    assert refusal is not None
    assert refusal.code == "disabled-user"
    for state in AccountState:
        assert refusal_of(frozenset({state})) is not None
    assert {state for state in AccountState if state.ends_sessions} == {DISABLED, EXPIRED}
