"""The page between a button and an act that needs a fresh second factor; it carries the form along."""

from __future__ import annotations

from flask import make_response, render_template, request
from flask.typing import ResponseReturnValue

from web.second_factor import CodeRefusedError

_NOT_CARRIED = {"csrf_token", "code"}


def confirmation_page(error: CodeRefusedError, back: str) -> ResponseReturnValue:
    """Ask for the code and then send the same form to the same address.

    Args:
        error: why there is no going on yet; shown only where a code was typed.
        back: where Cancel leads.
    """
    carried = [(name, value) for name, value in request.form.items() if name not in _NOT_CARRIED]
    errors = {"code": error.message} if request.form.get("code") else {}
    page = render_template("console/confirm.html", action=request.path, carried=carried, back=back, errors=errors)
    return make_response(page, 400 if errors else 200)
