"""Looks at `OSTIARY_...` variables before the library does, which ignores a misspelt one silently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from core.ready import READY_VARIABLE
from core.settings.errors import SettingsError
from core.settings.model import Settings
from core.text import hide_url_password

ENV_PREFIX = "OSTIARY_"
CONFIG_VARIABLE = "OSTIARY_CONFIG"
_NOT_SETTINGS = {CONFIG_VARIABLE, READY_VARIABLE}


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse a variable that names no setting, and a list or table that is not JSON.

    Raises:
        SettingsError: names the variable and what is allowed.
    """
    for variable, value in environment.items():
        if not variable.upper().startswith(ENV_PREFIX) or variable.upper() in _NOT_SETTINGS:
            continue
        path = variable[len(ENV_PREFIX) :].lower().split("__")
        _check_name(variable, path)
        if value and _holds_several(_annotation(path)):
            _check_json(variable, value)


def allowed_keys(path: Sequence[int | str]) -> set[str]:
    """The keys of the table at `path` (numbers are list indexes); empty where there is none."""
    model = _model_in(_annotation(path))
    return set(model.model_fields) if model else set()


def _check_name(variable: str, path: list[str]) -> None:
    for depth, part in enumerate(path):
        allowed = _fields_of(_annotation(path[:depth]))
        if part in allowed:
            continue
        within = ".".join(path[:depth])
        if not allowed:
            raise SettingsError(f"environment variable {variable}: {within} is one value and has no keys")
        names = ", ".join(sorted(allowed))
        raise SettingsError(
            f"environment variable {variable}: there is no setting {part!r}"
            f"{f' in {within}' if within else ''}; allowed here: {names}",
            fix=f"a key is written {ENV_PREFIX}SECTION__KEY, with two underscores between the parts",
        )


def _check_json(variable: str, value: str) -> None:
    try:
        json.loads(value)
    except ValueError:
        got = hide_url_password(repr(value))
        raise SettingsError(
            f"environment variable {variable}: lists and tables are written as JSON (got {got:.100})",
            fix=f'for a list, {variable}=\'["...", "..."]\'',
        ) from None


def _fields_of(annotation: Any) -> set[str]:
    """Keys that a variable may go down to; into a list there is no such way."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return set(annotation.model_fields) if is_model else set()


def _annotation(path: Sequence[int | str]) -> Any:
    annotation: Any = Settings
    for part in path:
        model = _model_in(annotation)
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        if field is None:
            return None
        annotation = field.annotation
    return annotation


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The table that a value of this type is, or is a list of."""
    return next((part for part in _parts(annotation) if issubclass(part, BaseModel)), None)


def _holds_several(annotation: Any) -> bool:
    return any(issubclass(part, (BaseModel, tuple)) for part in _parts(annotation))


def _parts(annotation: Any) -> Iterator[type]:
    """All classes in a type such as `tuple[PoolSettings, ...]`."""
    if isinstance(annotation, type):
        yield annotation
    origin = getattr(annotation, "__origin__", None)
    if isinstance(origin, type):
        yield origin
    for argument in get_args(annotation):
        yield from _parts(argument)
