"""Every view declares what it asks for, and is closed to whoever has not got it."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from core.runtime import Runtime
from tests.unit.web.visitor import ORIGIN, Person, Visitor
from web import access
from web.access import ROLES, Permission, guard, required_permission, safe_next

PUBLIC = {
    "enrolment.account",
    "enrolment.choose_account",
    "enrolment.confirm",
    "enrolment.second_factor",
    "signin.check_code",
    "signin.check_password",
    "signin.choose_theme",
    "signin.code",
    "signin.password",
    "static_files.serve",
    "trust.certificate",
    "trust.certificate_pem",
}


def _address(rule: Rule) -> str:
    return rule.rule.replace("<string:", "<").translate(str.maketrans("<>", "xx"))


def test_every_view_declares_a_permission(app: Flask) -> None:
    """The url map is walked, so a view that is added without one fails here."""
    with app.app_context():
        declared = {rule.endpoint: required_permission(rule.endpoint) for rule in app.url_map.iter_rules()}
    assert [endpoint for endpoint, permission in declared.items() if permission is None] == []
    assert {endpoint for endpoint, permission in declared.items() if permission is Permission.PUBLIC} == PUBLIC


def test_a_view_without_a_permission_is_closed_even_to_an_administrator(
    runtime: Runtime, app: Flask, maria: Person
) -> None:
    """Forgetting the decorator denies."""
    app.add_url_rule("/forgotten", "forgotten", lambda: "open")
    assert maria.signed_in(app).get("/forgotten").status_code == 403
    assert Visitor(app).get("/forgotten").status_code == 302


def test_nobody_sees_anything_without_signing_in(app: Flask, visitor: Visitor) -> None:
    """Pages lead to the sign-in, forms too, and fragments are refused."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint in PUBLIC:
            continue
        path = _address(rule)
        if "GET" in (rule.methods or ()):
            assert visitor.get(path).location.startswith("/sign-in"), path
            assert visitor.get(path, headers={"X-Fragment": "1"}).status_code == 401, path
        else:
            answer = visitor.post(path)
            assert answer.location == "/sign-in", path


@pytest.mark.parametrize("role", [*ROLES, None, "root"])
def test_a_role_opens_what_it_carries_and_nothing_else(runtime: Runtime, app: Flask, role: str | None) -> None:
    """Auditor sees, security revokes, administrator does all; no role and an unknown one are like nobody."""
    person = Person(runtime, "somebody", role if role in ROLES else None)
    if role == "root":
        from aaa.models import User

        with runtime.database.transaction() as session:
            session.get_one(User, "somebody").role = role
    visitor = person.signed_in(app)
    allowed = ROLES.get(role or "", frozenset())
    with app.app_context():
        views = [(rule, required_permission(rule.endpoint)) for rule in app.url_map.iter_rules()]
    for rule, permission in views:
        if permission is Permission.PUBLIC or "GET" not in (rule.methods or ()):
            continue
        status = visitor.get(_address(rule)).status_code
        if not allowed:
            assert status == 302, rule
        elif permission in allowed:
            assert status in {200, 302, 404}, rule
        else:
            assert status == 403, rule


def test_an_auditor_can_send_no_form_that_changes_others(runtime: Runtime, app: Flask) -> None:
    """Not only are the buttons missing."""
    visitor = Person(runtime, "auditor", "auditor").signed_in(app)
    with app.app_context():
        views = [(rule, required_permission(rule.endpoint)) for rule in app.url_map.iter_rules()]
    forms = [
        rule
        for rule, permission in views
        if "POST" in (rule.methods or ()) and permission in {Permission.REVOKE, Permission.ADMINISTER}
    ]
    assert len(forms) >= 8
    for rule in forms:
        assert visitor.post(_address(rule)).status_code == 403, rule


def test_a_visitor_without_a_known_role_may_nothing() -> None:
    """Denied by default."""
    from core.clock import utc_now

    nobody = access.Visitor(1, "x", "", "root", utc_now())
    assert nobody.may(Permission.PUBLIC)
    assert not any(nobody.may(permission) for permission in Permission if permission is not Permission.PUBLIC)


@pytest.mark.parametrize("path", ["/", "/sessions", "/devices?state=revoked&q=a%2Fb", "/audit?before=12"])
def test_next_keeps_pages_of_ours(app: Flask, path: str) -> None:
    """With their query."""
    with app.test_request_context(base_url=ORIGIN):
        assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "sessions",
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\tevil",
        "/\n/evil.example",
        "javascript:alert(1)",
        "http:evil",
        "/nothing-here",
        "/sign-out",
        "/sessions\x00",
        "/%2f%2fevil.example/",
    ],
)
def test_next_never_leads_elsewhere(app: Flask, path: str) -> None:
    """Not to another site, not to a page that is not there, not to an act."""
    with app.test_request_context(base_url=ORIGIN):
        assert safe_next(path) == "/"


@pytest.mark.parametrize("path", ["/devices/%00", "/users/a%00", "/sessions/%00/disconnect"])
def test_a_name_with_a_nul_is_not_even_looked_up(app: Flask, path: str) -> None:
    """PostgreSQL refuses such a text, which would be an error of ours."""
    with app.test_request_context(path, base_url=ORIGIN), pytest.raises(NotFound):
        guard()
