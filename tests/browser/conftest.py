"""A browser, a running portal, and a browser page that reports whatever goes wrong in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Response, sync_playwright

from core.runtime import Runtime
from tests.browser.chromium import WIDE, running_chromium
from tests.browser.portal import Portal, running_portal
from tests.lab.ostiary import Ostiary

_LOG_TAIL_CHARACTERS = 12_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the browser, and time to start it."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what gateway and portal wrote where a test fails."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            if isinstance(value, Ostiary):
                report.sections.append(("Ostiary's log", value.log()[-_LOG_TAIL_CHARACTERS:]))
    return report


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """What drives browsers; there can be one of it. Its event loop must be gone before other tests run theirs."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Debian's chromium. A module whose portal lives elsewhere defines this fixture anew."""
    with running_chromium(playwright) as browser:
        yield browser


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    """A portal that was just installed."""
    with running_portal(tmp_path / "state") as running:
        yield running


@pytest.fixture
def portal_runtime(portal: Portal) -> Iterator[Runtime]:
    """The same installation, seen from beside the portal."""
    with Runtime.open(portal.settings) as runtime:
        yield runtime


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh browser profile."""
    # The portal's CA is made by the test's own portal; its chain is checked in `test_tls`.
    with browser.new_context(ignore_https_errors=True, viewport=WIDE, color_scheme="light") as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page; at the end the test fails if the browser complained about anything, as a policy violation does."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # A refused form is part of the stories; whatever else fails to load is heard below.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    def look(response: Response) -> None:
        if response.status >= 400 and response.request.resource_type != "document":
            complaints.append(f"{response.status} {response.url}")

    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", look)
    yield page
    assert complaints == []
