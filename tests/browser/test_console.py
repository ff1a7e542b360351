"""The story of the first day: first run, second factor, a device, its session, revocation, and what the log says."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pyotp
from playwright.sync_api import Browser, BrowserContext, Page, expect

from core.audit import verify_chain
from core.runtime import Runtime
from posture.devices import find
from tests.browser.portal import Portal
from tests.browser.standing_gateway import standing_gateway

PASSWORD = "correct horse battery staple"
SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"


def _picture(page: Page, name: str) -> None:
    """Keep a picture for the documentation, where that is asked for: a test run leaves the tree as it was."""
    if os.environ.get("OSTIARY_SCREENSHOTS") == "1":
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


def _become_administrator(page: Page, portal: Portal) -> tuple[pyotp.TOTP, int]:
    """From the first-run link to the overview; returns the second factor, and the time step that is used up."""
    assert portal.first_run_link is not None
    page.goto(portal.first_run_link)
    expect(page.get_by_role("heading", name="Create the first administrator")).to_be_visible()
    page.get_by_label("Name to sign in with").fill("maria")
    page.get_by_label("Full name").fill("Maria Lind")
    page.get_by_label("Password", exact=True).fill("too short")
    page.get_by_label("Password again").fill("too short")
    _picture(page, "first-run")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Use 12 to 256 characters")).to_be_visible()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    _picture(page, "second-factor")
    totp = pyotp.TOTP(page.locator(".enrol .copyable code").inner_text())
    step = int(time.time()) // totp.interval
    page.get_by_label("Code from your authenticator app").fill(totp.generate_otp(step))
    page.get_by_role("button", name="Finish and sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return totp, step


def _add_user_and_device(page: Page) -> None:
    page.get_by_role("link", name="Users").click()
    page.get_by_role("link", name="Add a user").click()
    page.get_by_label("Name", exact=True).fill("ines")
    page.get_by_label("Full name").fill("Inês Duarte")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("ines was added.")).to_be_visible()
    page.get_by_role("link", name="Devices", exact=True).click()
    page.get_by_role("link", name="Add the first device").click()
    page.get_by_label("Owner").select_option("ines")
    page.get_by_label("Device name").fill("ines-laptop")
    page.get_by_label("Linux").check()
    page.get_by_role("button", name="Add and show the access code").click()
    code = page.locator(".access-code code").inner_text()
    assert re.fullmatch(r"[2-9a-z]{5}(-[2-9a-z]{5}){4}", code)
    _picture(page, "access-code")


def test_from_the_first_run_to_a_revoked_device(page: Page, portal: Portal, portal_runtime: Runtime) -> None:
    """Everything that the security team does with one device, in one browser."""
    _become_administrator(page, portal)
    _add_user_and_device(page)
    with portal_runtime.database.reading() as session:
        device = find(session, "ines-laptop")
    with standing_gateway(portal_runtime) as gateway:
        page.get_by_role("link", name="Sessions").click()
        expect(page.get_by_text("Nobody is connected")).to_be_visible()
        # No reload from here: the page finds the new session by itself.
        session_id = gateway.connect(device)
        row = page.locator(f"#session-{session_id}")
        expect(row).to_contain_text("ines-laptop")
        expect(row).to_contain_text("10.99.0.2")
        expect(row).to_contain_text("198.51.100.2")
        expect(row).to_contain_text("1.3 GB")
        gateway.report(session_id, bytes_in=60_000_000, bytes_out=2_500_000_000)
        expect(row).to_contain_text("2.5 GB")
        expect(page.get_by_role("status")).to_have_text("1 live session")
        _picture(page, "sessions")
        page.emulate_media(color_scheme="dark")
        _picture(page, "sessions-dark")
        page.emulate_media(color_scheme="light")
        page.get_by_role("link", name="Overview").click()
        expect(page.locator(".tile-value").first).to_have_text("1")
        _picture(page, "overview")
        page.get_by_role("link", name="Devices", exact=True).click()
        page.get_by_role("link", name="ines-laptop").click()
        _picture(page, "device")
        page.get_by_role("link", name="Revoke").click()
        expect(page.get_by_text("1 tunnel ends")).to_be_visible()
        page.get_by_label("Lost or stolen").check()
        page.get_by_label("In your words").fill("left on the train")
        _picture(page, "revoke")
        page.get_by_role("button", name="Revoke ines-laptop").click()
        expect(page.get_by_role("heading", name="ines-laptop is revoked")).to_be_visible()
        expect(page.locator(".enforcement .row")).to_contain_text("gateway-1")
        expect(page.locator(".enforcement .timing")).to_have_text(re.compile(r"^\d+(\.\d)? ms$"))
        _picture(page, "revoked")
        assert gateway.sessions == {}
    page.get_by_role("link", name="Audit log", exact=True).first.click()
    expect(page.get_by_text("The chain is whole.")).to_be_visible()
    event = page.get_by_role("row").filter(has_text="device.revoke")
    expect(event).to_contain_text("maria")
    expect(event).to_contain_text("ines-laptop")
    expect(event).to_contain_text("Lost or stolen: left on the train")
    _picture(page, "audit")
    page.emulate_media(color_scheme="dark")
    _picture(page, "audit-dark")
    with portal_runtime.database.reading() as session:
        assert verify_chain(session) > 10


def test_the_first_run_link_works_once(page: Page, portal: Portal, context: BrowserContext) -> None:
    """The link that made an administrator opens nothing any more, for anybody."""
    _become_administrator(page, portal)
    assert portal.first_run_link is not None
    other = context.new_page()
    answer = other.goto(portal.first_run_link)
    assert answer is not None
    assert answer.status == 404
    expect(other.get_by_role("heading", name="This link opens nothing")).to_be_visible()


def test_sign_out_and_in_again_by_keyboard_alone(page: Page, portal: Portal) -> None:
    """Password, then the next code: the one that enrolled is used up, and the page says how long to wait."""
    totp, step = _become_administrator(page, portal)
    page.get_by_role("button", name="Sign out").press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.keyboard.type("maria")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.keyboard.type(totp.generate_otp(step))
    page.keyboard.press("Enter")
    expect(page.get_by_text("has been used already. Wait for the next one")).to_be_visible()
    # The next step's code is accepted early, as a phone whose clock is ahead would send it.
    page.keyboard.type(totp.generate_otp(step + 1))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_the_theme_is_kept(page: Page, portal: Portal) -> None:
    """Light and dark by the system, until a person chooses."""
    page.goto(portal.url)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark != light


def test_pages_fit_a_phone_and_work_without_script(browser: Browser, page: Page, portal: Portal) -> None:
    """No page is wider than a narrow screen; nothing needs script."""
    _become_administrator(page, portal)
    _add_user_and_device(page)
    state = page.context.storage_state()
    with browser.new_context(
        ignore_https_errors=True,
        viewport={"width": 360, "height": 740},
        java_script_enabled=False,
        color_scheme="dark",
        storage_state=state,
    ) as narrow:
        small = narrow.new_page()
        for path in ("/", "/sessions", "/devices", "/devices/add", "/audit", "/users", "/account"):
            small.goto(portal.url + path)
            box = small.locator("main").bounding_box()
            assert box is not None
            widest = max(item["width"] + item["x"] for item in _boxes(small))
            assert widest <= 360, path
            if path in {"/", "/devices"}:
                _picture(small, f"phone-{path.strip('/') or 'overview'}")
        small.get_by_role("link", name="Devices", exact=True).click()
        small.get_by_role("link", name="ines-laptop").click()
        expect(small.get_by_role("heading", name="ines-laptop")).to_be_visible()


def _boxes(page: Page) -> list[dict[str, float]]:
    """Where the parts of a page lie; measured from outside, for the page runs no script."""
    boxes = [part.bounding_box() for part in page.locator("main > *, .card, .tile, h1").all()]
    return [{"x": box["x"], "width": box["width"]} for box in boxes if box is not None]
