"""Error pages: the same calm page for each, which says what to do and no detail of what went wrong inside."""

from __future__ import annotations

import structlog
from flask import Flask, render_template, request
from flask_limiter import RateLimitExceeded
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from web.second_factor import SignedOutError

log = structlog.get_logger(__name__)

PAGES: dict[int, tuple[str, str]] = {
    400: ("That request makes no sense here", "The address or the form was not what this page expects."),
    403: ("This is not yours to open", "Your role does not carry this. Ask an administrator if it should."),
    404: ("There is nothing behind this door", "The page does not exist, or what it showed is gone."),
    405: ("This page can't be asked like that", "Go back and use the page's own buttons."),
    413: ("That was too much at once", "The form was larger than any form of this portal."),
    429: ("Too fast", "There were too many requests from your address. Wait a minute, then try again."),
    500: ("Something broke on our side", "It has been logged. Try again; if it stays, look at the portal's log."),
}


def install(app: Flask) -> None:
    """Answer every failure with a page of ours."""
    app.register_error_handler(SignedOutError, _signed_out)
    app.register_error_handler(CSRFError, _stale_form)
    app.register_error_handler(RateLimitExceeded, _error_page)
    app.register_error_handler(HTTPException, _error_page)
    app.register_error_handler(Exception, _unexpected)


def _signed_out(_error: SignedOutError) -> tuple[str, int]:
    message = "Too many wrong codes. You have been signed out everywhere."
    return render_template("signin/password.html", next="", message=message), 401


def _stale_form(error: CSRFError) -> tuple[str, int]:
    return (
        render_template(
            "errors/page.html",
            code=400,
            title="This form is no longer fresh",
            text="It was opened before you signed in or out, or in another browser. Open the page again and repeat.",
        ),
        400,
    )


def _error_page(error: HTTPException) -> tuple[str, int]:
    code = error.code or 500
    title, text = PAGES.get(code, PAGES[400] if code < 500 else PAGES[500])
    return render_template("errors/page.html", code=code, title=title, text=text), code


def _unexpected(error: Exception) -> tuple[str, int]:
    log.error("portal request failed", endpoint=request.endpoint, method=request.method, exc_info=error)
    title, text = PAGES[500]
    return render_template("errors/page.html", code=500, title=title, text=text), 500
