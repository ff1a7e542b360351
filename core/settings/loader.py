"""Finds, reads and checks `ostiary.toml`; turns each mistake into a sentence with file, key and what is allowed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
)
from pydantic_settings import (
    SettingsError as PydanticSettingsError,
)

from core.errors import OstiaryError
from core.settings.model import Settings

CONFIG_VARIABLE = "OSTIARY_CONFIG"
ENV_PREFIX = "OSTIARY_"
DEFAULT_PATHS = (Path("ostiary.toml"), Path("/etc/ostiary/ostiary.toml"))


class SettingsError(OstiaryError):
    """The configuration can't be used; the message names file, key and what is allowed."""


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration file and the environment.

    Args:
        path: the file; without it `$OSTIARY_CONFIG`, `./ostiary.toml`, then `/etc/ostiary/ostiary.toml`.
            Only a file that was named has to exist.

    Raises:
        SettingsError: unreadable file, unknown key or a value that is not allowed.
    """
    file = path or _named_in_environment() or next((p for p in DEFAULT_PATHS if p.is_file()), None)
    values = _read_toml(file) if file else {}

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
            del dotenv_settings, file_secret_settings
            return (env_settings, init_settings)

    _refuse_unknown_environment()
    try:
        return _FromFile(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, file)) from None
    except PydanticSettingsError as error:
        raise SettingsError(
            f"environment: {error}", fix="lists and tables in an environment variable are written as JSON"
        ) from None


def _named_in_environment() -> Path | None:
    name = os.environ.get(CONFIG_VARIABLE)
    return Path(name) if name else None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file", fix=f"name another one with ${CONFIG_VARIABLE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: can't be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML: {error}") from None


def _refuse_unknown_environment() -> None:
    """A misspelt `OSTIARY_...` variable would be ignored silently by the library."""
    for variable in os.environ:
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        path = variable.removeprefix(ENV_PREFIX).lower().split("__")
        allowed = _allowed_keys(path[:-1])
        if path[-1] not in allowed:
            raise SettingsError(
                f"environment: {variable}: no such setting; allowed here: {', '.join(sorted(allowed))}"
            )


def _allowed_keys(path: list[str]) -> set[str]:
    """The keys of the section at `path`; empty where there is no such section."""
    model: type[BaseModel] = Settings
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return set()
        model = annotation
    return set(model.model_fields)


def _explain(error: ValidationError, file: Path | None) -> str:
    lines = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        key = ".".join(path) or "(whole file)"
        variable = ENV_PREFIX + "__".join(path).upper()
        source = f"environment {variable}" if variable in os.environ else str(file or "built-in defaults")
        if item["type"] == "extra_forbidden":
            allowed = ", ".join(sorted(_allowed_keys(path[:-1]))) or "nothing else"
            lines.append(f"{source}: {key}: no such setting; allowed here: {allowed}")
        else:
            got = "" if item["type"] in {"missing", "value_error"} else f" (got {item['input']!r})"
            lines.append(f"{source}: {key}: {item['msg']}{got}")
    return "\n".join(lines)


__all__ = ["SettingsError", "load_settings"]
