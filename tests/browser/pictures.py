"""Pictures for the documentation, with `OSTIARY_SCREENSHOTS=1`: other test runs leave the tree as it was."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page

from tests.browser.chromium import NARROW

DIRECTORY = Path(__file__).parents[2] / "docs" / "screenshots"

# Taken out, for the product under test refuses variables of its prefix that it does not know.
_WANTED = os.environ.pop("OSTIARY_SCREENSHOTS", "") == "1"


def take(page: Page, name: str) -> None:
    """A picture of what a wide screen shows."""
    if _WANTED:
        page.screenshot(path=DIRECTORY / f"{name}.png", animations="disabled")


def take_both(page: Page, name: str) -> None:
    """One in light colours and one in dark."""
    take(page, name)
    if _WANTED:
        page.emulate_media(color_scheme="dark")
        take(page, f"{name}-dark")
        page.emulate_media(color_scheme="light")


def take_on_phone(page: Page, name: str) -> None:
    """The same page on a phone, with the same person signed in."""
    browser = page.context.browser
    if browser is not None and _WANTED:
        state = page.context.storage_state()
        with browser.new_context(
            ignore_https_errors=True, viewport=NARROW, color_scheme="dark", storage_state=state, device_scale_factor=2
        ) as phone:
            small = phone.new_page()
            small.goto(page.url)
            take(small, f"phone-{name}")
