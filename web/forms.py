"""Forms as models: what a browser sent is parsed and bounded before anything looks at it."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError

from core.errors import OstiaryError
from core.text import escape_control


class Form(BaseModel):
    """Base of every form; what else the browser sends (the CSRF token, the button) is no part of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)


FormType = TypeVar("FormType", bound=Form)


def _one_line(value: Any) -> Any:
    """White space to single spaces; what no keyboard types is refused, and PostgreSQL would not take a NUL."""
    if not isinstance(value, str):
        return value
    line = " ".join(value.split())
    if escape_control(line) != line:
        raise ValueError("Use no control characters.")
    return line


Line = Annotated[str, StringConstraints(min_length=1, max_length=128), BeforeValidator(_one_line)]
"""One line of text that may not be empty."""
OptionalLine = Annotated[str, StringConstraints(max_length=128), BeforeValidator(_one_line)]
Reason = Annotated[str, StringConstraints(max_length=400), BeforeValidator(_one_line)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""As typed, spaces and all."""
Code = Annotated[str, StringConstraints(max_length=16, strip_whitespace=True)]

_MESSAGES = {
    "missing": "Fill this in.",
    "string_too_short": "Fill this in.",
    "string_too_long": "This is too long.",
    "literal_error": "Choose one of the list.",
    "enum": "Choose one of the list.",
}


class FormError(Exception):
    """The form can't be used as it was sent.

    Args:
        errors: what is wrong, by field; under "" what concerns the form as a whole.
    """

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors

    @classmethod
    def of(cls, error: OstiaryError, field: str = "") -> FormError:
        """The refusal of a part of Ostiary, beside the field that caused it."""
        sentence = error.message[:1].upper() + error.message[1:].rstrip(".")
        return cls({field: f"{sentence}{f': {error.fix}' if error.fix else ''}."})


def read_form(model: type[FormType]) -> FormType:
    """The request's form as `model`.

    Raises:
        FormError: a field is missing, too long or not one of those allowed.
    """
    return _parse(model, request.form.to_dict())


def read_query(model: type[FormType]) -> FormType:
    """The request's query as `model`, for filters.

    Raises:
        FormError: as above.
    """
    return _parse(model, request.args.to_dict())


def _parse(model: type[FormType], values: dict[str, str]) -> FormType:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise FormError({str(item["loc"][0]): _message(item) for item in error.errors() if item["loc"]}) from None


def _message(item: Any) -> str:
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    return _MESSAGES.get(item["type"], "This can't be used.")
