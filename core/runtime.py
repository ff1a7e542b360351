"""What a running process or command holds: the settings, the database and the key for secrets at rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from core import migrations
from core.database import Database
from core.secrets import SecretBox, refuse_lost_key
from core.settings import Settings
from core.settings.live_rules import LiveRules


@dataclass(frozen=True, slots=True)
class Runtime:
    """Opened once in each process and handed down; usable as a context manager."""

    settings: Settings
    database: Database
    box: SecretBox
    rules: LiveRules = field(init=False, compare=False)
    """The access rules as they are now."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", LiveRules(self.settings))

    @classmethod
    def open(cls, settings: Settings) -> Runtime:
        """Bring the database to the newest schema, then open it and the key file.

        Raises:
            DatabaseError: the database can't be reached, or belongs to a newer Ostiary.
            SecretError: the key file can't be used, or is gone while the database has secrets.
        """
        migrations.upgrade(settings)
        database = Database.open(settings)
        refuse_lost_key(settings, database)
        return cls(settings, database, SecretBox.open(settings))

    def close(self) -> None:
        """Close the database connections; closing twice does no harm."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
