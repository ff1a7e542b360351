"""What every answer says to the browser, and what is not answered."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from core.runtime import Runtime
from tests.unit.web.visitor import ORIGIN, Person, Visitor
from web.app import LONGEST_BODY_BYTES

PAGES = (
    "/",
    "/sessions",
    "/devices",
    "/devices/add",
    "/audit",
    "/users",
    "/add-user",
    "/users/maria",
    "/account",
    "/overview/live",
    "/sessions/live",
    "/nothing-here",
)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def test_every_answer_carries_the_policy(administrator: Visitor) -> None:
    """Errors and downloads too."""
    for path in (*PAGES, "/sign-in", "/first-run/none", "/ca.pem"):
        headers = administrator.get(path).headers
        assert headers["Content-Security-Policy"] == _POLICY, path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["Referrer-Policy"] == "same-origin", path
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin", path
        assert headers["Cache-Control"] == "no-store", path


def test_no_page_has_what_the_policy_forbids(administrator: Visitor) -> None:
    """No inline script, no inline style, nothing from elsewhere."""
    for path in (*PAGES, "/sign-in", "/first-run/none"):
        page = administrator.get(path).text
        assert not re.search(r"<[^>]+\sstyle\s*=", page), path
        assert not re.search(r"<[^>]+\son[a-z]+\s*=", page), path
        assert "<style" not in page, path
        assert "javascript:" not in page, path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page)), path
        for address in re.findall(r'(?:src|href|action)="([^"]*)"', page):
            assert re.match(r"/(?!/)|#|$", address), (path, address)


def test_strict_transport_security_except_on_localhost(visitor: Visitor) -> None:
    """On localhost it would bind other things that a developer runs there."""
    assert "Strict-Transport-Security" not in visitor.get("/sign-in").headers
    answer = visitor.client.get("/sign-in", base_url="https://127.0.0.1:8443")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_answers_under_its_names_and_addresses(visitor: Visitor) -> None:
    """An address can't be pointed elsewhere."""
    for host in ("localhost", "localhost:8443", "192.0.2.1", "[2001:db8::1]:8443", "127.0.0.1"):
        assert visitor.client.get("/sign-in", base_url=f"https://{host}").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:8443", "portal", "[x]", "", "a b"]
)
def test_answers_under_no_other_name(visitor: Visitor, host: str) -> None:
    """DNS rebinding sends the attacker's name."""
    answer = visitor.get("/sign-in", headers={"Host": host})
    assert answer.status_code == 400
    assert "Sign in" not in answer.text


def test_forms_without_their_token_are_refused(app: Flask, administrator: Visitor) -> None:
    """And without a Referer of ours, even with the token."""
    bare = administrator.client.post("/sign-out", base_url=ORIGIN, headers={"Referer": f"{ORIGIN}/"})
    assert bare.status_code == 400
    assert "This form is no longer fresh" in bare.text
    page = administrator.get("/account").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    for referer in ("https://evil.example/", ""):
        answer = administrator.client.post(
            "/sign-out", base_url=ORIGIN, data={"csrf_token": token[1]}, headers={"Referer": referer}
        )
        assert answer.status_code == 400
    assert administrator.get("/").status_code == 200


def test_another_browsers_token_is_refused(app: Flask, administrator: Visitor) -> None:
    """It is bound to the cookie beside it."""
    stranger = Visitor(app)
    token = re.search(r'name="csrf_token" value="([^"]+)"', stranger.get("/sign-in").text)
    assert token is not None
    answer = administrator.client.post(
        "/sign-out", base_url=ORIGIN, data={"csrf_token": token[1]}, headers={"Referer": f"{ORIGIN}/"}
    )
    assert answer.status_code == 400


def test_bodies_have_a_limit(visitor: Visitor) -> None:
    """Refused by its size, whatever it holds."""
    visitor.get("/sign-in")
    answer = visitor.client.post(
        "/sign-in",
        base_url=ORIGIN,
        data={"name": "x" * (LONGEST_BODY_BYTES + 1)},
        headers={"Referer": f"{ORIGIN}/"},
    )
    assert answer.status_code == 413
    assert "That was too much at once" in answer.text


def test_forms_have_few_fields(visitor: Visitor) -> None:
    """Thousands of small parts are work too."""
    answer = visitor.client.post(
        "/sign-in",
        base_url=ORIGIN,
        data={f"f{number}": (None, "x") for number in range(500)},
        content_type="multipart/form-data",
        headers={"Referer": f"{ORIGIN}/"},
    )
    assert answer.status_code in {400, 413}


def test_floods_are_told_to_wait(visitor: Visitor, monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> None:
    """By address, before the database is asked."""
    monkeypatch.setattr("web.app.REQUESTS_PER_MINUTE", 3)
    from web.app import create_app

    flooded = Visitor(create_app(runtime))
    statuses = [flooded.get("/sign-in").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert "Too fast" in flooded.get("/sign-in").text
    other = Visitor(flooded.app, address="192.0.2.99")
    assert other.get("/sign-in").status_code == 200


def test_what_breaks_inside_stays_inside(app: Flask, maria: Person) -> None:
    """The page says that something broke; what it was is in the log alone."""
    from web.access import Permission, requires

    @app.get("/broken")
    @requires(Permission.PUBLIC)
    def broken() -> str:
        raise RuntimeError("the password of the database is swordfish")

    answer = Visitor(app).get("/broken")
    assert answer.status_code == 500
    assert "Something broke on our side" in answer.text
    assert "swordfish" not in answer.text
    assert "Traceback" not in answer.text


def test_static_files_are_kept_by_the_browser_as_long_as_they_are_right(visitor: Visitor) -> None:
    """Their address has a hash of their content."""
    found = re.search(r'href="(/static/[0-9a-f]{12}/tokens\.css)"', visitor.get("/sign-in").text)
    assert found is not None
    answer = visitor.get(found[1])
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    answer.close()
    with visitor.get("/static/000000000000/tokens.css") as stale:
        assert "immutable" not in stale.headers["Cache-Control"]
    assert visitor.get(f"{found[1]}/../../../models.py").status_code == 404
    assert visitor.get("/static/000000000000/..%2fmodels.py").status_code == 404
