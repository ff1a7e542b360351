"""SUPPORTED_AUTH_METHODS (RFC 9593): what a side can verify, said before the other side has to choose.

Each announcement is length 1, AUTH method 1, and where there is more than that: cert link 1, AlgorithmIdentifier. The
cert link is the number of a CA in the CERTREQ payloads of the same message, 0 for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.ike.constants import AuthMethod
from gateway.ike.errors import InvalidSyntax

MAX_ANNOUNCEMENTS = 64


@dataclass(frozen=True, slots=True)
class Announcement:
    """One AUTH method that can be verified."""

    method: int
    algorithm: bytes = b""
    """An AlgorithmIdentifier as DER, with method 14 (RFC 7427) only."""
    cert_link: int = 0
    """For certificates of this CA of the CERTREQ payloads, counted from 1; 0 for those of any."""

    def to_bytes(self) -> bytes:
        """Encode: two bytes for a method without certificates, three and more for the others."""
        body = bytes((self.method,))
        if self.method != AuthMethod.SHARED_KEY_MIC or self.cert_link or self.algorithm:
            body += bytes((self.cert_link,)) + self.algorithm
        return bytes((1 + len(body),)) + body


def parse_announcements(data: bytes) -> tuple[Announcement, ...]:
    """The data of the notify; none at all is an announcement that is still to come.

    Raises:
        InvalidSyntax: a length that does not fit, or far too many.
    """
    found: list[Announcement] = []
    offset = 0
    while offset < len(data):
        length = data[offset]
        if not 2 <= length <= len(data) - offset:
            raise InvalidSyntax("length of an announced authentication method")
        if len(found) == MAX_ANNOUNCEMENTS:
            raise InvalidSyntax("too many announced authentication methods")
        cert_link = data[offset + 2] if length > 2 else 0
        found.append(Announcement(data[offset + 1], bytes(data[offset + 3 : offset + length]), cert_link))
        offset += length
    return tuple(found)


def announcements_to_bytes(announcements: Iterable[Announcement]) -> bytes:
    """The data of the notify."""
    return b"".join(announcement.to_bytes() for announcement in announcements)
