"""How a view reaches the runtime that the application was made with."""

from __future__ import annotations

from typing import cast

from flask import Flask, current_app, request
from sqlalchemy.orm import Session

from core.audit import Actor, record
from core.runtime import Runtime

_EXTENSION = "ostiary"


def attach(app: Flask, runtime: Runtime) -> None:
    """Give the application its runtime."""
    app.extensions[_EXTENSION] = runtime


def runtime() -> Runtime:
    """The runtime of the application that is answering now."""
    return cast(Runtime, current_app.extensions[_EXTENSION])


def remote_address() -> str:
    """The address of the peer, as the audit log keeps it."""
    return (request.remote_addr or "unknown")[:45]


def portal_url(of: Runtime) -> str:
    """Scheme, name and port under which the portal is reached, without a slash at the end."""
    web = of.settings.web
    host = f"[{web.public_host}]" if ":" in web.public_host else web.public_host
    return f"https://{host}" if web.port == 443 else f"https://{host}:{web.port}"


def record_sign_in(session: Session, name: str, *, outcome: str, reason: str) -> None:
    """One audit event about somebody who signs in to the console, or tries to.

    The name is what was typed; a refused event's actor is a claim and no more.
    """
    record(
        session,
        Actor("user", name),
        "console.sign-in",
        "console:portal",
        outcome=outcome,
        reason=reason,
        detail={"address": remote_address()},
    )
