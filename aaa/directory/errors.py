"""What can go wrong with a directory as a whole, as opposed to with one person in it."""

from __future__ import annotations

from core.errors import OstiaryError


class DirectoryError(OstiaryError):
    """A directory can't be asked, or its answer can't be used. `code` is that of the refusal."""

    code = "directory-error"


class DirectoryUnavailable(DirectoryError):
    """No server answers, or none can be trusted; the message names each, and why."""

    code = "directory-unavailable"


class DirectoryRefused(DirectoryError):
    """A server answers, but not to us: the service account, or a right that it lacks."""

    code = "directory-refused"


class ReferralRefused(DirectoryError):
    """A server sends us to another one. Passwords go to the servers of the settings and to no others."""

    code = "directory-referral"


class PartialAnswer(DirectoryError):
    """A server gave a part of what was asked for. Who is missing in it may have left, or may just be missing."""

    code = "directory-partial"
