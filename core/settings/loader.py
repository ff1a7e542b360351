"""Finds, reads and checks `ostiary.toml`; turns each mistake into a sentence with file, key and what is allowed."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from core.settings.environment import CONFIG_VARIABLE, check_environment
from core.settings.errors import SettingsError
from core.settings.live_rules import first_rules
from core.settings.model import Settings
from core.settings.toml import explain, read_toml

DEFAULT_PATHS = (Path("ostiary.toml"), Path("/etc/ostiary/ostiary.toml"))


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration file and the environment.

    Args:
        path: the file; without it `$OSTIARY_CONFIG`, `./ostiary.toml`, then `/etc/ostiary/ostiary.toml`.
            Only a file that was named has to exist.

    Raises:
        SettingsError: unreadable file, unknown key or a value that is not allowed.
    """
    file = path or _named_in_environment() or next((p for p in DEFAULT_PATHS if p.is_file()), None)
    values = read_toml(file) if file else {}
    check_environment(os.environ)
    try:
        read = _FromFile(**values)
    except ValidationError as error:
        raise SettingsError(explain(error, file)) from None
    # Checked already; what is handed on is the plain model, which equals another one with the same values.
    settings = Settings.model_construct(**{name: getattr(read, name) for name in Settings.model_fields})
    if settings.aaa.rules_file is None:
        return settings
    if "rules" in settings.aaa.model_fields_set:
        raise SettingsError(
            f"{file or 'the environment'}: aaa.rules and aaa.rules_file: only one of them can have the access rules",
            fix="move the rules into the file, or leave aaa.rules_file out",
        )
    aaa = settings.aaa.model_copy(update={"rules": first_rules(settings)})
    return settings.model_copy(update={"aaa": aaa})


class _FromFile(Settings):
    """The same model, reading the environment before the file."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first; no other sources."""
        del settings_cls, dotenv_settings, file_secret_settings
        return (env_settings, init_settings)


def _named_in_environment() -> Path | None:
    name = os.environ.get(CONFIG_VARIABLE)
    return Path(name) if name else None
