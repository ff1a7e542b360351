"""The application factory of the portal."""

from __future__ import annotations

from flask import Flask, g
from flask_limiter import Limiter
from flask_wtf.csrf import CSRFProtect

from core.runtime import Runtime
from core.secrets import get_or_create_secret
from web import access, browser_sessions, context, cookies, display, errors, headers, second_factor, throttle
from web.console.account import account
from web.console.audit import audit
from web.console.device_changes import device_changes
from web.console.devices import devices
from web.console.handshakes import handshakes
from web.console.overview import overview
from web.console.sessions import sessions
from web.console.users import users
from web.signin.enrolment import enrolment
from web.signin.views import signin
from web.static_files import asset, static_files
from web.trust import trust

LONGEST_BODY_BYTES = 64 * 1024
MOST_FORM_FIELDS = 64
REQUESTS_PER_MINUTE = 600
"""From one address. A page that refreshes itself asks 20 times a minute, and an office may share an address."""


def create_app(runtime: Runtime) -> Flask:
    """The portal and console as a WSGI application.

    Args:
        runtime: stays open for as long as the application lives; the caller closes it.
    """
    app = Flask("web", static_folder=None)
    with runtime.database.transaction() as session:
        key = get_or_create_secret(session, runtime.box, "web:form-key")
    app.config.update(
        SECRET_KEY=key.reveal(),
        MAX_CONTENT_LENGTH=LONGEST_BODY_BYTES,
        MAX_FORM_MEMORY_SIZE=LONGEST_BODY_BYTES,
        MAX_FORM_PARTS=MOST_FORM_FIELDS,
        SESSION_COOKIE_NAME=cookies.FORM_COOKIE,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        # A form is as good as the session it was opened in; the session has its own limits.
        WTF_CSRF_TIME_LIMIT=None,
        PREFERRED_URL_SCHEME="https",
    )
    context.attach(app, runtime)
    headers.protect(app)
    # The cheap limit stands before anything that touches the database; each process counts for itself.
    Limiter(
        lambda: throttle.network(context.remote_address()),
        app=app,
        storage_uri="memory://",
        application_limits=[f"{REQUESTS_PER_MINUTE} per minute"],
        headers_enabled=False,
    )
    app.before_request(browser_sessions.load_visitor)
    CSRFProtect(app)
    app.before_request(access.guard)
    errors.install(app)
    display.install(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.context_processor(_for_templates)
    for blueprint in (
        static_files,
        trust,
        signin,
        enrolment,
        overview,
        sessions,
        handshakes,
        devices,
        device_changes,
        audit,
        users,
        account,
    ):
        app.register_blueprint(blueprint)
    return app


def _for_templates() -> dict[str, object]:
    visitor = g.get("visitor")
    return {
        "visitor": visitor,
        "Permission": access.Permission,
        "asset": asset,
        "theme": cookies.theme(),
        "second_factor_is_fresh": visitor is not None and second_factor.is_fresh(),
    }
