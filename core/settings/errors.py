"""The one error of the settings."""

from __future__ import annotations

from core.errors import OstiaryError


class SettingsError(OstiaryError):
    """The configuration can't be used; the message names file or environment variable, key and what is allowed."""
