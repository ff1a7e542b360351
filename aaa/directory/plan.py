"""What a sync is going to change: a comparison of what a directory says with what is known here. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aaa.directory.accounts import AccountState
from aaa.directory.model import DirectoryUser
from core.errors import OstiaryError

LEFT = "has left the directory"
_FEWEST_ALLOWED = 1
"""A percentage of few people is nobody; one leaver at a time has to be possible."""


class SuddenlyFew(OstiaryError):
    """A directory says that so many people left that it is more likely to be wrong."""


@dataclass(frozen=True, slots=True)
class KnownUser:
    """A user as stored here."""

    name: str
    source: str
    source_id: str
    display_name: str
    groups: tuple[str, ...]
    disabled: bool
    disabled_by_source: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Names in order, and whom they stand for."""

    to_add: tuple[DirectoryUser, ...]
    to_update: tuple[DirectoryUser, ...]
    """Name, groups or both are others now."""
    to_enable: tuple[str, ...]
    to_disable: Mapping[str, str]
    """Names and reasons."""
    skipped: Mapping[str, str]
    """Who is in the directory and can't be a user here, and why."""
    unchanged: int


def compare(
    directory: str,
    people: Iterable[DirectoryUser],
    known: Mapping[str, KnownUser],
    is_usable_name: Callable[[str], bool],
) -> Plan:
    """Work out what a sync changes.

    Args:
        directory: its name.
        people: all of it.
        known: the users here by name, of all sources.
        is_usable_name: whether somebody may be called so here.
    """
    to_add, to_update, to_enable = [], [], []
    to_disable: dict[str, str] = {}
    skipped: dict[str, str] = {}
    seen: set[str] = set()
    unchanged = 0
    for person in people:
        if person.name in seen:
            skipped[person.name] = "the directory has several people of this name"
            continue
        seen.add(person.name)
        user = known.get(person.name)
        ends = next((state for state in AccountState if state.ends_sessions and state in person.states), None)
        if not is_usable_name(person.name):
            skipped[person.name] = "nobody can have this name here"
            continue
        if user is None:
            # Whoever is disabled there already need not be known here.
            if ends is None:
                to_add.append(person)
            continue
        problem = conflict(user, person)
        if problem is not None:
            skipped[person.name] = problem
            if user.source == directory and not user.disabled:
                to_disable[person.name] = f"{LEFT}; another person has the name now"
            continue
        if ends is not None:
            if not user.disabled:
                to_disable[person.name] = f"is {ends} in the directory"
            continue
        changed = user.groups != person.groups or user.display_name != shown_name(person)
        if changed:
            to_update.append(person)
        if user.disabled and user.disabled_by_source:
            to_enable.append(person.name)
        unchanged += not changed
    for name, user in known.items():
        if user.source == directory and name not in seen and not user.disabled:
            to_disable[name] = LEFT
    return Plan(tuple(to_add), tuple(to_update), tuple(to_enable), to_disable, skipped, unchanged)


def conflict(user: KnownUser, person: DirectoryUser) -> str | None:
    """Why a person of a directory is not this user, who has the same name; None where it is the same one."""
    if user.source != person.directory:
        where = "was added here by hand" if user.source == "local" else f"comes from directory {user.source}"
        return f"the user of this name {where}"
    if user.source_id != person.id:
        return "the user of this name here was another person"
    return None


def shown_name(person: DirectoryUser) -> str:
    """As the console shows it: what can't be printed is left out, and the length has an end."""
    return "".join(character for character in person.display_name if character.isprintable())[:128] or person.name


def refuse_mass_disable(directory: str, plan: Plan, known: Mapping[str, KnownUser], limit_percent: int) -> None:
    """Stop where a directory answers with suddenly few people: a wrong filter, a wrong base, a broken replica.

    Raises:
        SuddenlyFew: so it is.
    """
    enabled = sum(user.source == directory and not user.disabled for user in known.values())
    allowed = max(enabled * limit_percent // 100, _FEWEST_ALLOWED)
    if len(plan.to_disable) > allowed:
        raise SuddenlyFew(
            f"directory {directory} would have {len(plan.to_disable)} of {enabled} users disabled, "
            f"and {allowed} is the limit in one go; nothing was changed",
            fix=f"where they did leave: ostiary directory sync {directory} --allow-mass-disable",
        )
