"""Who may do what: every view declares one permission, and one that declares none is closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeVar, cast
from urllib.parse import urlsplit

from flask import abort, current_app, g, redirect, request, url_for
from flask.typing import ResponseReturnValue

from core.audit import Actor

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])
_ATTRIBUTE = "ostiary_permission"


class Permission(Enum):
    """What a view asks of its visitor."""

    PUBLIC = "public"
    """No sign-in: the sign-in itself, static files, the CA certificate."""
    SEE = "see"
    REVOKE = "revoke"
    """End sessions and revoke devices."""
    ADMINISTER = "administer"
    """Add devices and users, give roles."""


ROLES: dict[str, frozenset[Permission]] = {
    "administrator": frozenset({Permission.SEE, Permission.REVOKE, Permission.ADMINISTER}),
    "security": frozenset({Permission.SEE, Permission.REVOKE}),
    "auditor": frozenset({Permission.SEE}),
}
ROLE_MEANINGS = {
    "administrator": "sees all, revokes, adds users and devices",
    "security": "sees all, ends sessions and revokes devices",
    "auditor": "sees all, changes nothing",
}


@dataclass(frozen=True, slots=True)
class Visitor:
    """The signed-in person behind a request."""

    session_id: int
    user_name: str
    display_name: str
    role: str
    second_factor_at: datetime

    @property
    def actor(self) -> Actor:
        """As the audit log names the person."""
        return Actor("user", self.user_name)

    @property
    def shown_name(self) -> str:
        """The name to greet the person by."""
        return self.display_name or self.user_name

    def may(self, permission: Permission) -> bool:
        """Whether the person's role carries the permission; an unknown role carries none."""
        return permission is Permission.PUBLIC or permission in ROLES.get(self.role, frozenset())


def requires(permission: Permission) -> Callable[[View], View]:
    """Declare what a view asks for; `guard` holds it before the view runs."""

    def declare(view: View) -> View:
        setattr(view, _ATTRIBUTE, permission)
        return view

    return declare


def required_permission(endpoint: str) -> Permission | None:
    """What the endpoint's view declared; None when it declared nothing."""
    return getattr(current_app.view_functions.get(endpoint), _ATTRIBUTE, None)


def visitor() -> Visitor:
    """The signed-in person; only for views that are not public."""
    return cast(Visitor, g.visitor)


def guard() -> ResponseReturnValue | None:
    """Let the request pass, send the visitor to the sign-in, or refuse."""
    if request.endpoint is None:
        return None  # no such page: the router's own 404 or 405 follows
    if "\0" in request.path:
        abort(404)  # nothing is called so, and PostgreSQL would not even look
    permission = required_permission(request.endpoint)
    if permission is Permission.PUBLIC:
        return None
    if g.visitor is None:
        if request.headers.get("X-Fragment"):
            abort(401)
        # Only what was on its way to a page comes back to it: a form would be sent without its content.
        onward = request.full_path.rstrip("?") if request.method == "GET" else ""
        return redirect(url_for("signin.password", next=onward or None))
    if permission is None or not visitor().may(permission):
        abort(403)
    return None


def safe_next(path: str) -> str:
    """`path` where it is a page of ours to come back to, else the overview.

    Anything that a browser could read as another site (`//host`, `/\\host`, control characters, a scheme) is dropped.
    """
    home = url_for("overview.show")
    if not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable():
        return home
    parts = urlsplit(path)
    if parts.scheme or parts.netloc:
        return home
    adapter = current_app.url_map.bind("")
    if not adapter.test(parts.path, "GET"):
        return home
    return path
