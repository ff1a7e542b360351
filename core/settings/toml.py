"""Reads TOML files, and turns each mistake in one into a sentence with file, key and what is allowed."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.settings.environment import CONFIG_VARIABLE, ENV_PREFIX, allowed_keys
from core.settings.errors import SettingsError
from core.text import hide_url_password


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        SettingsError: it can't be read, or is not TOML.
    """
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


def explain(error: ValidationError, file: Path | None, within: tuple[str, ...] = ()) -> str:
    """One line for each mistake: where, which key, what is allowed.

    Args:
        error: what was found.
        file: what was read, None where there is none.
        within: the place in the settings that the file has the contents of.
    """
    lines = []
    for item in error.errors():
        path = item["loc"]
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
        where = f"{_source((*within, *path), file)}: {key}: " if key else f"{_source((*within, *path), file)}: "
        if item["type"] == "extra_forbidden":
            allowed = ", ".join(sorted(allowed_keys((*within, *path[:-1]))))
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
