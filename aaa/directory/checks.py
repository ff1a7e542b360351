"""What `ostiary check` says about the directories: each server is asked now."""

from __future__ import annotations

from aaa.directory.directory import Directory
from aaa.directory.errors import DirectoryError
from core.checks import Check
from core.settings import DirectorySettings, Settings


def checks(settings: Settings) -> list[Check]:
    """A line for each server of each directory."""
    return [check for directory in settings.aaa.directories for check in check_directory(directory)]


def check_directory(settings: DirectorySettings) -> list[Check]:
    """A line for each server of one. A server that is down is a warning while another one works."""
    name = f"directory {settings.name}"
    try:
        answers = list(Directory(settings).check())
    except DirectoryError as error:
        return [Check(name, False, error.message, error.fix or "")]
    one_works = any(isinstance(answer, str) for _url, answer in answers)
    return [_check(name, url, answer, one_works) for url, answer in answers]


def _check(directory: str, url: str, answer: str | DirectoryError, one_works: bool) -> Check:
    name = f"{directory}: {url}"
    if isinstance(answer, str):
        return Check(name, True, answer)
    message = answer.message.removeprefix(f"{url}: ")
    return Check(name, None if one_works else False, message, answer.fix or "start it; see the way to it")
