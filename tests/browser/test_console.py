"""The console in a browser: the link that works once, the keyboard, themes, phones, and pages without script.

What it shows of live tunnels is in `test_live_session`.
"""

from __future__ import annotations

from playwright.sync_api import Browser, BrowserContext, Page, expect

from core.clock import utc_now
from core.runtime import Runtime
from tests.browser.bad_morning import write_bad_morning
from tests.browser.chromium import NARROW
from tests.browser.pictures import take, take_both, take_on_phone
from tests.browser.portal import Portal
from tests.browser.steps import PASSWORD, add_device, add_user, become_administrator


def test_the_first_run_link_works_once(page: Page, portal: Portal, context: BrowserContext) -> None:
    """The link that made an administrator opens nothing any more, for anybody."""
    become_administrator(page, portal.first_run_link)
    other = context.new_page()
    answer = other.goto(portal.first_run_link)
    assert answer is not None
    assert answer.status == 404
    expect(other.get_by_role("heading", name="This link opens nothing")).to_be_visible()


def test_sign_out_and_in_again_by_keyboard_alone(page: Page, portal: Portal) -> None:
    """Password, then the next code: the one that enrolled is used up, and the page says how long to wait."""
    authenticator = become_administrator(page, portal.first_run_link)
    page.get_by_role("button", name="Sign out").press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.keyboard.type("maria")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.keyboard.type(authenticator.last_code)
    page.keyboard.press("Enter")
    expect(page.get_by_text("has been used already. Wait for the next one")).to_be_visible()
    page.keyboard.type(authenticator.next_code())
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


def test_a_failed_handshake_is_explained(page: Page, portal: Portal, portal_runtime: Runtime) -> None:
    """From the counters over the filtered list to one explanation, whose command is copied."""
    write_bad_morning(portal_runtime, utc_now())
    become_administrator(page, portal.first_run_link)
    page.get_by_role("link", name="Handshakes").click()
    expect(page.get_by_role("heading", name="Handshakes")).to_be_visible()
    rows = page.get_by_role("region", name="Explanations").get_by_role("row")
    expect(rows).to_have_count(6)
    take_both(page, "handshakes")
    page.get_by_label("Client").fill("windows")
    page.get_by_role("button", name="Filter").click()
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text("7 times")
    rows.last.get_by_role("link", name="Windows 10 or 11 offers for IKE no key exchange group").click()
    expect(page.get_by_role("heading", name="What to do")).to_be_visible()
    command = page.locator(".copyable code")
    expect(command).to_contain_text("Set-VpnConnectionIPsecConfiguration")
    take(page, "handshake")
    take_on_phone(page, "handshake")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the command").click()
    assert page.evaluate("navigator.clipboard.readText()") == command.inner_text()
    page.get_by_role("link", name="Handshakes").last.click()
    page.get_by_role("link", name="Lost fragment").click()
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text("Fragment 3 of 5 of a message of Apple never came")


def test_pages_fit_a_phone_and_work_without_script(
    browser: Browser, page: Page, portal: Portal, portal_runtime: Runtime
) -> None:
    """No page is wider than a narrow screen; nothing needs script."""
    become_administrator(page, portal.first_run_link)
    add_user(page, "ines", "Inês Duarte")
    add_device(page, "ines", "ines-laptop")
    write_bad_morning(portal_runtime, utc_now())
    state = page.context.storage_state()
    with browser.new_context(
        ignore_https_errors=True,
        viewport=NARROW,
        java_script_enabled=False,
        color_scheme="dark",
        storage_state=state,
    ) as narrow:
        small = narrow.new_page()
        for path in (
            "/",
            "/sessions",
            "/handshakes",
            "/handshakes/1",
            "/devices",
            "/devices/add",
            "/audit",
            "/users",
            "/account",
        ):
            small.goto(portal.url + path)
            box = small.locator("main").bounding_box()
            assert box is not None
            widest = max(item["width"] + item["x"] for item in _boxes(small))
            assert widest <= NARROW["width"], path
        small.get_by_role("link", name="Devices", exact=True).click()
        small.get_by_role("link", name="ines-laptop").click()
        expect(small.get_by_role("heading", name="ines-laptop")).to_be_visible()


def _boxes(page: Page) -> list[dict[str, float]]:
    """Where the parts of a page lie; measured from outside, for the page runs no script."""
    boxes = [part.bounding_box() for part in page.locator("main > *, .card, .tile, h1").all()]
    return [{"x": box["x"], "width": box["width"]} for box in boxes if box is not None]
