"""Text that somebody else wrote, on its way to a terminal, a log or the database."""

from __future__ import annotations

import re

# C0 and C1 controls, line separators, and the characters that change the direction of what follows.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


_URL_PASSWORD = re.compile(r"(://[^/@:\s]*):[^/@\s]*@|([?&]password=)[^&\s]*")


def hide_url_password(text: str) -> str:
    """`text` with the password of each URL in it replaced by `***`."""
    return _URL_PASSWORD.sub(lambda match: f"{match[1]}:***@" if match[1] else f"{match[2]}***", text)


def escape_control(text: str) -> str:
    r"""`text` on one line that can't command a terminal: control characters become `\xNN` or `\uNNNN`."""
    return _CONTROL.sub(_escaped, text)


def storable(text: str, limit: int) -> str:
    """`text` as every database takes it: no NUL, no lone surrogate, at most `limit` characters."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()[:limit]


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
