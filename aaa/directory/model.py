"""What a directory says of a person."""

from __future__ import annotations

from dataclasses import dataclass

from aaa.directory.accounts import AccountState


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """A person in a directory."""

    directory: str
    """By its name in the settings."""
    name: str
    """In lower case, as the person is called here."""
    dn: str
    id: str
    """What stays when the person is renamed, and is never given to another one: entryUUID, or objectGUID in hex."""
    mail: str
    display_name: str
    groups: tuple[str, ...]
    """Direct and nested ones, sorted."""
    states: frozenset[AccountState]
    """Empty where nothing stands against the account."""
