"""Structured logs on standard error: for a person (console) or a collector (one JSON object a line).

Everything goes one way, the libraries' own logging and warnings too. Values under a name that sounds like a
secret are redacted, and so is the password of a URL; a traceback names no local variables, which hold what a
person typed and what was decrypted. On the console, control characters are shown escaped: what a hostile client
wrote can neither forge a line nor command the terminal.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from core.secrets import Secret
from core.settings import Settings
from core.text import escape_control, hide_url_password

REDACTED = "***"
_SECRET_NAME = re.compile(
    r"(^|_)(password|passphrase|secret|token|msk|psk|private_key|access_code|nt_hash|totp|authorization|cookie)s?($|_)",
    re.IGNORECASE,
)
# Libraries that say at INFO what only their developers want to know.
_CHATTY = ("alembic", "amqp", "celery", "kombu", "PIL", "urllib3")


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send all logging of this process to standard error as `settings.log` says; the last call counts."""
    level = getattr(logging, settings.log.level.upper())
    output = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings, output),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "ostiary", False):
            root.removeHandler(old)
    handler.ostiary = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level <= logging.DEBUG else logging.WARNING)
    logging.captureWarnings(True)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: no secret leaves the process, at whatever depth it sits."""
    return {name: _redacted(name, value) for name, value in event.items()}


def escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor for the console: what somebody else wrote stays on its line and can't command the terminal."""
    return {name: escape_control(value) if isinstance(value, str) else value for name, value in event.items()}


def _renderers(settings: Settings, output: TextIO) -> list[Processor]:
    if settings.log.format == "json":
        # structlog's own default adds the local variables of every frame.
        tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        return [tracebacks, redact, structlog.processors.JSONRenderer(default=str)]
    return [
        redact,
        escape,
        structlog.dev.ConsoleRenderer(
            colors=_wants_colour(output),
            exception_formatter=_write_traceback,
        ),
    ]


def _write_traceback(output: TextIO, exc_info: ExcInfo) -> None:
    """The traceback, indented, so that no line that a message brings along can pass for one of the log's own."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    for line in text.getvalue().strip("\n").split("\n"):
        output.write(f"\n  {hide_url_password(escape_control(line))}")


def _wants_colour(output: TextIO) -> bool:
    """The conventions of no-color.org; FORCE_COLOR is how the supervisor passes its terminal on."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or output.isatty()


def _redacted(name: str, value: Any) -> Any:
    if isinstance(value, Secret) or (value and _SECRET_NAME.search(name)):
        return REDACTED
    if isinstance(value, str):
        return hide_url_password(value) if "://" in value else value
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted("", item) for item in value]
    return value
