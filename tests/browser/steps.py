"""What an administrator does at the console, one step a function."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pyotp
from playwright.sync_api import Page, expect

PASSWORD = "correct horse battery staple"

Camera = Callable[[Page, str], None]
"""Called with a page that is worth a picture, and the picture's name."""


def no_camera(page: Page, name: str) -> None:
    """Most tests leave no pictures."""


class Authenticator:
    """The app on a person's phone, and its owner, who types no code twice."""

    def __init__(self, secret: str) -> None:
        self._totp = pyotp.TOTP(secret)
        self._step = 0

    @property
    def last_code(self) -> str:
        """The code that was typed last."""
        return self._totp.generate_otp(self._step)

    def next_code(self) -> str:
        """The code of now; the one after it where that was typed already, as a clock that is ahead would show it."""
        self._step = max(int(time.time()) // self._totp.interval, self._step + 1)
        return self.last_code


def become_administrator(page: Page, first_run_link: str, camera: Camera = no_camera) -> Authenticator:
    """From the first-run link over a password that is too short to the overview."""
    page.goto(first_run_link)
    expect(page.get_by_role("heading", name="Create the first administrator")).to_be_visible()
    page.get_by_label("Name to sign in with").fill("maria")
    page.get_by_label("Full name").fill("Maria Lind")
    page.get_by_label("Password", exact=True).fill("too short")
    page.get_by_label("Password again").fill("too short")
    camera(page, "first-run")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Use 12 to 256 characters")).to_be_visible()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    camera(page, "second-factor")
    authenticator = Authenticator(page.locator(".enrol .copyable code").inner_text())
    page.get_by_label("Code from your authenticator app").fill(authenticator.next_code())
    page.get_by_role("button", name="Finish and sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return authenticator


def add_user(page: Page, name: str, full_name: str) -> None:
    """Somebody new."""
    page.get_by_role("link", name="Users").click()
    page.get_by_role("link", name="Add a user").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Full name").fill(full_name)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text(f"{name} was added.")).to_be_visible()


def add_device(page: Page, owner: str, name: str, camera: Camera = no_camera) -> str:
    """A Linux laptop; returns the access code that the page shows."""
    page.get_by_role("link", name="Devices", exact=True).click()
    page.get_by_role("link", name=re.compile("^Add (a|the first) device$")).last.click()
    page.get_by_label("Owner").select_option(owner)
    page.get_by_label("Device name").fill(name)
    page.get_by_label("Linux").check()
    page.get_by_role("button", name="Add and show the access code").click()
    code = page.locator(".access-code code").inner_text()
    assert re.fullmatch(r"[2-9a-z]{5}(-[2-9a-z]{5}){4}", code)
    camera(page, "access-code")
    return code
