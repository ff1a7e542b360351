"""What every response says to the browser, and which requests are not answered at all."""

from __future__ import annotations

from ipaddress import ip_address

from flask import Flask, Response, abort, request

from web.context import runtime

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HSTS_SECONDS = 365 * 24 * 3600

_FIXED = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Same origin and not none: the CSRF check compares the Referer of a form sent over HTTPS.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


def protect(app: Flask) -> None:
    """Add the headers to every response and refuse hosts that are not ours."""
    app.before_request(_refuse_foreign_host)
    app.after_request(_add_headers)


def _refuse_foreign_host() -> None:
    """Answer under the configured name, under `localhost` and under addresses, and under no other name.

    A page of another site that points its own name at this machine (DNS rebinding) sends that name; an address
    can't be pointed elsewhere.
    """
    host = _host_name(request.host)
    if host not in {runtime().settings.web.public_host.lower(), "localhost"} and not _is_address(host):
        abort(400, "This portal does not answer under that name.")


def _add_headers(response: Response) -> Response:
    for name, value in _FIXED.items():
        response.headers[name] = value
    if _host_name(request.host) != "localhost":
        # On localhost it would force HTTPS on everything else that a developer runs there.
        response.headers["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _host_name(host: str) -> str:
    """The name of a Host header, without port and brackets, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
