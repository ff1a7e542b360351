"""Which kind of profile a device takes, and the file."""

from __future__ import annotations

from typing import Literal

from aaa.enrolment import apple, windows
from aaa.enrolment.target import Target

ProfileKind = Literal["windows", "apple"]

FILES: dict[ProfileKind, str] = {"windows": "ostiary.ps1", "apple": "ostiary.mobileconfig"}
MEDIA_TYPES: dict[ProfileKind, str] = {"windows": "text/plain", "apple": "application/x-apple-aspen-config"}

_PLATFORMS: dict[str, ProfileKind] = {
    "windows": "windows",
    "macos": "apple",
    "ios": "apple",
    "ipados": "apple",
    "iphone": "apple",
    "ipad": "apple",
}


def profile_kind(platform: str) -> ProfileKind | None:
    """Going by the first word of the device's platform; None where clients are set up by hand."""
    return _PLATFORMS.get(platform.partition(" ")[0].lower())


def make_profile(kind: ProfileKind, target: Target, root_der: bytes) -> bytes:
    """The file's content."""
    return windows.script(target).encode() if kind == "windows" else apple.mobileconfig(target, root_der)
