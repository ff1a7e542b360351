"""The cookies of the console, all with the `__Host-` prefix: HTTPS only, and set by no other host."""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal

from flask import request
from werkzeug.wrappers import Response

SESSION_COOKIE = "__Host-ostiary-session"
PENDING_COOKIE = "__Host-ostiary-pending"
FORM_COOKIE = "__Host-ostiary-form"
"""Flask's signed cookie: the CSRF secret and messages that are shown once."""
THEME_COOKIE = "__Host-ostiary-theme"

THEMES = ("system", "light", "dark")
_TOKEN_BYTES = 32
_LONGEST_TOKEN = 128


def new_token() -> str:
    """256 random bits as URL-safe text."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """What the database keeps of a token: who reads the table can't use it.

    A fast hash is enough, since the token has 256 bits of entropy.
    """
    return hashlib.sha256(token.encode()).digest()


def set_cookie(
    response: Response,
    name: str,
    value: str,
    *,
    max_age_s: int | None = None,
    same_site: Literal["Lax", "Strict"] = "Lax",
) -> None:
    """Set one of the cookies above; without `max_age_s` it ends with the browser."""
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite=same_site)


def clear_cookie(response: Response, name: str) -> None:
    """Take a cookie back."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="Lax")


def read_token(name: str) -> str | None:
    """The token in a cookie, None where it is missing or no token of ours."""
    value = request.cookies.get(name, "")
    return value if 0 < len(value) <= _LONGEST_TOKEN and value.isascii() else None


def theme() -> str:
    """The chosen theme; the system's where none was chosen."""
    value = request.cookies.get(THEME_COOKIE, "")
    return value if value in THEMES else THEMES[0]
