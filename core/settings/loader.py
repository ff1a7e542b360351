"""Finds, reads and checks `ostiary.toml`; turns each mistake into a sentence with file, key and what is allowed."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from core.settings.environment import CONFIG_VARIABLE, ENV_PREFIX, allowed_keys, check_environment
from core.settings.errors import SettingsError
from core.settings.model import Settings
from core.text import hide_url_password

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
    values = _read_toml(file) if file else {}
    check_environment(os.environ)
    try:
        read = _FromFile(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, file)) from None
    # Checked already; what is handed on is the plain model, which equals another one with the same values.
    return Settings.model_construct(**{name: getattr(read, name) for name in Settings.model_fields})


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


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{file}: no such file", fix=f"name another one with --config or ${CONFIG_VARIABLE}"
        ) from None
    except OSError as error:
        raise SettingsError(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: is not UTF-8: byte {error.start} can't be read") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML: {error}") from None


def _explain(error: ValidationError, file: Path | None) -> str:
    """One line for each mistake: where, which key, what is allowed."""
    lines = []
    for item in error.errors():
        path = item["loc"]
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
        where = f"{_source(path, file)}: {key}: " if key else f"{_source(path, file)}: "
        if item["type"] == "extra_forbidden":
            allowed = ", ".join(sorted(allowed_keys(path[:-1])))
            lines.append(f"{where}no such setting; allowed here: {allowed}")
        else:
            # Values of our own validators say themselves what they got; a table is too long to repeat.
            shown = item["type"] in {"missing", "value_error", "model_type"} or isinstance(item["input"], dict)
            got = "" if shown else f" (got {hide_url_password(repr(item['input'])):.100})"
            lines.append(f"{where}{_plain(item['msg'])}{got}")
    return "\n".join(lines)


def _source(path: tuple[int | str, ...], file: Path | None) -> str:
    """The environment variable that set the value, or one around it; else the file."""
    names = {name.upper(): name for name in os.environ}
    for length in range(len(path), 0, -1):
        variable = ENV_PREFIX + "__".join(map(str, path[:length])).upper()
        if os.environ.get(names.get(variable, "")):
            return f"environment variable {names[variable]}"
    return str(file or "built-in defaults")


def _plain(message: str) -> str:
    for theirs, ours in _WORDING:
        message = re.sub(theirs, ours, message)
    return message


_WORDING = (
    (r"^Value error, ", ""),
    (r"^Input should be a valid dictionary or instance of \w+", "must be a table"),
    (r"^Input should be", "must be"),
    (r"^Input is not", "is not"),
    (r"^String should match pattern", "must match the pattern"),
    (r"^(String|Value|Tuple) should", "must"),
    (r"^Field required", "is required"),
    (r"valid tuple", "list"),
    (r", unable to parse string as an? \w+", ""),
)
