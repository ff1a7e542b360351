"""Each test of a guest is one here, however it ends; one that takes its guest down takes no other test along."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.kernel.machine import CHECKOUT

pytestmark = pytest.mark.interop

CONFTEST = f"""
import os
import sys
from pathlib import Path

sys.path.insert(0, {str(CHECKOUT)!r})
from tests.kernel.relay import GuestReporter, HostRelay

def pytest_configure(config):
    results = os.environ.get("GUEST_RESULTS")
    config.pluginmanager.register(
        GuestReporter(config, Path(results)) if results else HostRelay(config, Path(__file__).parent)
    )
"""
TESTS = """
import platform, time
from pathlib import Path
import pytest

@pytest.fixture
def broken():
    raise ValueError("this fixture fails")

@pytest.mark.parametrize("number", [1, 2])
def test_passes(number):
    assert platform.release().endswith("-ostiary")

def test_fails():
    print("words of the test")
    assert platform.release() == "another"

def test_skips():
    pytest.skip("not today")

def test_errs(broken):
    pass

def test_panics():
    Path("/proc/sysrq-trigger").write_text("c")

def test_passes_after_a_panic():
    pass

@pytest.mark.timeout(1)
def test_hangs():
    time.sleep(100)

@pytest.mark.guest(time_travel=True)
@pytest.mark.timeout(10)
def test_waits_for_a_day():
    time.sleep(86400)

@pytest.mark.guest(time_travel=True)
@pytest.mark.timeout(1)
def test_is_stuck():
    while True:
        pass

@pytest.mark.guest(time_travel=True)
def test_passes_after_one_that_was_stuck():
    pass
"""
SETTINGS = """
[pytest]
markers = guest: kind of the guest
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ElementTree.Element]:
    """Name to what the report says, of a run of its own."""
    folder = tmp_path_factory.mktemp("sample")
    for name, text in {"conftest.py": CONFTEST, "test_sample.py": TESTS, "pytest.ini": SETTINGS}.items():
        (folder / name).write_text(text, encoding="utf-8")
    report = folder / "report.xml"
    options = ("-q", "-p", "no:cacheprovider", f"--junit-xml={report}")
    run = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    return {case.attrib["name"]: case for case in ElementTree.parse(report).iter("testcase")}


def result(case: ElementTree.Element) -> str:
    """Passed, or what happened instead."""
    return next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")


def test_each_is_reported_as_it_ended(outcomes: dict[str, ElementTree.Element]) -> None:
    assert {name: result(case) for name, case in outcomes.items()} == {
        "test_passes[1]": "passed",
        "test_passes[2]": "passed",
        "test_fails": "failure",
        "test_skips": "skipped",
        "test_errs": "error",
        "test_panics": "failure",
        "test_passes_after_a_panic": "passed",
        "test_hangs": "failure",
        "test_waits_for_a_day": "passed",
        "test_is_stuck": "failure",
        "test_passes_after_one_that_was_stuck": "passed",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_fails", "words of the test"),
        ("test_fails", "== 'another'"),
        ("test_errs", "this fixture fails"),
        ("test_panics", "sysrq triggered crash"),
        ("test_hangs", "Timeout"),
        ("test_is_stuck", "The guest was killed after"),
    ],
)
def test_what_was_said_of_a_failure_is_told(outcomes: dict[str, ElementTree.Element], name: str, said: str) -> None:
    assert said in ElementTree.tostring(outcomes[name], encoding="unicode")
