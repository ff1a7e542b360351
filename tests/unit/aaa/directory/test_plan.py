"""What a sync is going to change, and what it does not dare to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from aaa.directory.accounts import AccountState
from aaa.directory.model import DirectoryUser
from aaa.directory.plan import KnownUser, Plan, SuddenlyFew, compare, refuse_mass_disable, shown_name
from aaa.users import is_usable_name
from tests.unit.aaa.directory.people import person

DISABLED = frozenset({AccountState.DISABLED})


def known(name: str, *groups: str, **changes: object) -> KnownUser:
    """Somebody whom an earlier sync has added."""
    user = KnownUser(name, "corp", f"id-of-{name}", name.title(), groups, disabled=False, disabled_by_source=False)
    return dataclasses.replace(user, **changes)  # type: ignore[arg-type]


def plan(people: Iterable[DirectoryUser], *users: KnownUser) -> Plan:
    """The plan for `corp`."""
    return compare("corp", people, {user.name: user for user in users}, is_usable_name)


def test_who_is_new_changed_or_gone() -> None:
    result = plan(
        [person("new", "a"), person("same", "a"), person("joined", "a", "b"), person("off", states=DISABLED)],
        *(known("same", "a"), known("joined", "a"), known("off"), known("gone")),
    )
    assert [user.name for user in result.to_add] == ["new"]
    assert [user.name for user in result.to_update] == ["joined"]
    assert result.to_disable == {"off": "is disabled in the directory", "gone": "has left the directory"}
    assert result.unchanged == 1


def test_whom_nobody_knows_and_who_is_disabled_is_not_added() -> None:
    assert plan([person("off", states=DISABLED)]).to_add == ()


def test_locked_and_old_passwords_throw_nobody_out() -> None:
    harmless = {AccountState.LOCKED, AccountState.MUST_CHANGE, AccountState.PASSWORD_EXPIRED}
    result = plan([person("alice", states=frozenset(harmless))], known("alice"))
    assert (result.to_disable, result.unchanged) == ({}, 1)


def test_only_the_directory_s_own_work_is_undone() -> None:
    by_source = known("back", disabled=True, disabled_by_source=True)
    by_person = known("barred", disabled=True)
    result = plan([person("back"), person("barred")], by_source, by_person)
    assert result.to_enable == ("back",)


def test_names_are_not_taken_over() -> None:
    others = (
        known("root", source="local", source_id=""),
        known("twin", source="other"),
        known("heir", source_id="another"),
    )
    result = plan([person("root"), person("twin"), person("heir")], *others)
    assert (result.to_add, result.to_update, result.to_enable) == ((), (), ())
    assert result.skipped == {
        "root": "the user of this name was added here by hand",
        "twin": "the user of this name comes from directory other",
        "heir": "the user of this name here was another person",
    }
    # The person who had the name has left, though.
    assert set(result.to_disable) == {"heir"}


def test_names_that_cannot_be_used_and_doubles() -> None:
    result = plan([person("two words"), person("alice"), person("alice", "admins", id="x")], known("alice"))
    assert result.skipped["two words"] == "nobody can have this name here"
    assert result.skipped["alice"] == "the directory has several people of this name"
    assert result.to_update == ()


@pytest.mark.parametrize(
    ("total", "left", "percent", "refused"),
    [
        (100, 10, 10, False),
        (100, 11, 10, True),
        (5, 1, 10, False),
        (5, 2, 10, True),
        (5, 1, 0, False),
        (100, 100, 100, False),
        (1000, 1000, 99, True),
        (1, 1, 10, False),
    ],
)
def test_suddenly_few(total: int, left: int, percent: int, refused: bool) -> None:
    users = {f"user{number}": known(f"user{number}") for number in range(total)}
    rest = [person(name) for name in list(users)[left:]]
    result = compare("corp", rest, users, is_usable_name)
    if refused:
        with pytest.raises(SuddenlyFew, match=f"{left} of {total} users"):
            refuse_mass_disable("corp", result, users, percent)
    else:
        refuse_mass_disable("corp", result, users, percent)


def test_shown_name() -> None:
    assert shown_name(person("alice", display_name="Al\u202eice\n")) == "Alice"
    assert shown_name(person("alice", display_name="")) == "alice"
    assert len(shown_name(person("alice", display_name="a" * 500))) == 128
