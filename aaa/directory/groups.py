"""The groups of people, through groups in groups: asked for one person, or worked out for all of them.

A circle of groups ends by itself; what is too deep or too much is an error and no shorter list, since a rule that
denies may name the group that was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aaa.directory.client import Client, Entry
from aaa.directory.errors import DirectoryError, PartialAnswer
from aaa.directory.filters import IN_CHAIN, any_of, both, equals, normal_dn
from core.settings import DirectorySettings

MOST_AT_ONCE = 64
"""Groups that one filter asks about."""
LONGEST_GROUP_NAME = 128


def groups_of(client: Client, settings: DirectorySettings, user: Entry) -> tuple[str, ...]:
    """The names of all groups of a person, sorted.

    Args:
        client: bound so that it may read groups.
        settings: of the directory.
        user: with its `memberOf`, where that is how groups are found.

    Raises:
        DirectoryError: the directory can't be asked, or there are too many or too deep ones.
    """
    way = settings.effective_nested_groups
    if way == "in-chain":
        entries = _search(client, settings, equals(settings.member_attribute, user.dn, rule=IN_CHAIN))
    elif way == "member-of":
        entries = _climb(settings, user.texts("memberOf"), lambda dns: _read(client, settings, dns))
    else:
        entries = _walk(client, settings, user.dn)
    return names_of(entries, settings)


def names_of(entries: Iterable[Entry], settings: DirectorySettings) -> tuple[str, ...]:
    """The names that rules know these groups by. A name that can't be printed, or is endless, is no name."""
    names = {entry.text(settings.effective_group_name_attribute) for entry in entries}
    return tuple(sorted(name for name in names if 0 < len(name) <= LONGEST_GROUP_NAME and name.isprintable()))


class GroupGraph:
    """All groups of a directory, for a sync that looks at everybody.

    Args:
        settings: of the directory.
        groups: all of them.
    """

    def __init__(self, settings: DirectorySettings, groups: Sequence[Entry]) -> None:
        self._settings = settings
        self._by_dn = {normal_dn(group.dn): group for group in groups}
        self._parents: dict[str, list[str]] = {}
        if settings.effective_nested_groups == "walk":
            for dn, group in self._by_dn.items():
                for member in group.texts(settings.member_attribute):
                    self._parents.setdefault(normal_dn(member), []).append(dn)
        else:
            self._parents = {
                dn: [normal_dn(parent) for parent in group.texts("memberOf")] for dn, group in self._by_dn.items()
            }

    def groups_of(self, user: Entry) -> tuple[str, ...]:
        """The names of all groups of a person, sorted.

        Raises:
            DirectoryError: there are too many or too deep ones.
        """
        if self._settings.effective_nested_groups == "walk":
            direct = self._parents.get(normal_dn(user.dn), [])
        else:
            direct = [normal_dn(dn) for dn in user.texts("memberOf")]
        return names_of(_levels(self._settings, direct, self._above), self._settings)

    def _above(self, dns: Sequence[str]) -> Mapping[str, tuple[Entry, Sequence[str]]]:
        return {dn: (self._by_dn[dn], self._parents.get(dn, ())) for dn in dns if dn in self._by_dn}


def attributes_of_groups(settings: DirectorySettings) -> list[str]:
    """What a sync reads of each group."""
    walks = settings.effective_nested_groups == "walk"
    return [settings.effective_group_name_attribute, settings.member_attribute if walks else "memberOf"]


def _levels(
    settings: DirectorySettings,
    direct: Iterable[str],
    above: Callable[[Sequence[str]], Mapping[str, tuple[Entry, Sequence[str]]]],
) -> list[Entry]:
    """Level by level upwards: `above` has, for each group that exists, its entry and the groups that it is in."""
    seen: set[str] = set()
    found: list[Entry] = []
    level = list(dict.fromkeys(direct))
    for _ in range(settings.group_depth):
        new = [dn for dn in level if dn not in seen]
        if not new:
            return found
        seen.update(new)
        if len(seen) > settings.groups_at_most:
            raise _too_many(settings)
        groups = above(new)
        found.extend(entry for entry, _parents in groups.values())
        level = list(dict.fromkeys(parent for _entry, parents in groups.values() for parent in parents))
    if any(dn not in seen for dn in level):
        raise DirectoryError(
            f"groups of directory {settings.name} are nested deeper than {settings.group_depth}",
            fix="raise group_depth",
        )
    return found


def _climb(
    settings: DirectorySettings, direct: Sequence[str], read: Callable[[Sequence[str]], Mapping[str, Entry]]
) -> list[Entry]:
    spelt = {normal_dn(dn): dn for dn in direct}

    def above(dns: Sequence[str]) -> Mapping[str, tuple[Entry, Sequence[str]]]:
        result = {}
        for dn, entry in read([spelt[dn] for dn in dns]).items():
            parents = entry.texts("memberOf")
            spelt.update({normal_dn(parent): parent for parent in parents})
            result[dn] = (entry, [normal_dn(parent) for parent in parents])
        return result

    return _levels(settings, spelt, above)


def _read(client: Client, settings: DirectorySettings, dns: Sequence[str]) -> Mapping[str, Entry]:
    """Those of these DNs that are groups below the group base."""
    base = normal_dn(settings.effective_group_base)
    found = {}
    for dn in dns:
        normal = normal_dn(dn)
        if normal == base or normal.endswith(f",{base}"):
            entries = client.search(dn, settings.effective_group_filter, attributes_of_groups(settings), scope="BASE")
            if entries:
                found[normal] = entries[0]
    return found


def _walk(client: Client, settings: DirectorySettings, dn: str) -> list[Entry]:
    """From a member to the groups that have it, and from those on."""
    found: dict[str, Entry] = {}
    level = [dn]
    for _ in range(settings.group_depth):
        above: dict[str, Entry] = {}
        for start in range(0, len(level), MOST_AT_ONCE):
            some = [equals(settings.member_attribute, member) for member in level[start : start + MOST_AT_ONCE]]
            above.update({normal_dn(entry.dn): entry for entry in _search(client, settings, any_of(some))})
        new = {normal: entry for normal, entry in above.items() if normal not in found}
        if not new:
            return list(found.values())
        found.update(new)
        if len(found) > settings.groups_at_most:
            raise _too_many(settings)
        level = [entry.dn for entry in new.values()]
    raise DirectoryError(
        f"groups of directory {settings.name} are nested deeper than {settings.group_depth}", fix="raise group_depth"
    )


def _search(client: Client, settings: DirectorySettings, condition: str) -> list[Entry]:
    found = client.search(
        settings.effective_group_base,
        both(settings.effective_group_filter, condition),
        [settings.effective_group_name_attribute],
        most=settings.groups_at_most + 1,
    )
    if len(found) > settings.groups_at_most:
        raise _too_many(settings)
    return found


def _too_many(settings: DirectorySettings) -> PartialAnswer:
    return PartialAnswer(
        f"somebody in directory {settings.name} is in more than {settings.groups_at_most} groups",
        fix="raise groups_at_most, or let group_filter find fewer",
    )
