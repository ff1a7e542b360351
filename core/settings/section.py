"""What all tables of the settings share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table: frozen, and without keys that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
