"""Groups in groups, worked out for everybody from what a sync has read."""

from __future__ import annotations

from typing import Any

import pytest

from aaa.directory.client import Entry
from aaa.directory.errors import DirectoryError, PartialAnswer
from aaa.directory.groups import GroupGraph, names_of
from tests.unit.aaa.directory.people import directory

ALICE = Entry("uid=alice,dc=test", {})


def group(name: str, *members: str) -> Entry:
    """A group with these members."""
    return Entry(f"cn={name},dc=test", {"cn": [name.encode()], "member": [member.encode() for member in members]})


def of_alice(*groups: Entry, **changes: Any) -> tuple[str, ...]:
    """The groups of Alice."""
    return GroupGraph(directory(**changes), groups).groups_of(ALICE)


def test_circle_and_spelling() -> None:
    first = group("a", "UID=Alice, DC=Test", "cn=b,dc=test")
    assert of_alice(first, group("b", "cn=a,dc=test"), group("c", "uid=bob,dc=test")) == ("a", "b")


def chain(length: int) -> list[Entry]:
    """Alice is in g0, which is in g1, ..."""
    return [group(f"g{n}", f"cn=g{n - 1},dc=test" if n else ALICE.dn) for n in range(length)]


def test_depth_is_bounded() -> None:
    assert len(of_alice(*chain(10))) == 10
    with pytest.raises(DirectoryError, match="nested deeper"):
        of_alice(*chain(11))


def test_number_is_bounded() -> None:
    many = [group(f"g{number}", ALICE.dn) for number in range(21)]
    assert len(of_alice(*many[:20], groups_at_most=20)) == 20
    with pytest.raises(PartialAnswer, match="more than 20 groups"):
        of_alice(*many, groups_at_most=20)


def test_member_of() -> None:
    settings = directory(nested_groups="member-of")
    inner = Entry("cn=inner,dc=test", {"cn": [b"inner"], "memberof": [b"cn=outer,dc=test"]})
    outer = Entry("cn=outer,dc=test", {"cn": [b"outer"]})
    alice = Entry("uid=alice,dc=test", {"memberof": [b"cn=inner,dc=test", b"cn=elsewhere,dc=other"]})
    assert GroupGraph(settings, [inner, outer]).groups_of(alice) == ("inner", "outer")


def test_a_part_of_the_members_is_no_answer() -> None:
    some = Entry("cn=all,dc=test", {"cn": [b"all"], "member;range=0-1499": [ALICE.dn.encode()]})
    with pytest.raises(PartialAnswer, match="more values of member"):
        of_alice(some)


def test_names_that_are_none() -> None:
    groups = [group("good"), group("bad\n"), group("x" * 129), Entry("cn=?", {"cn": [b"\xff"]}), Entry("cn=none", {})]
    assert names_of(groups, directory()) == ("bad", "good")
