"""AUTH payload (RFC 7296 section 3.8)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.errors import InvalidSyntax


@dataclass(frozen=True, slots=True)
class Auth:
    """Method 1, reserved 3, data."""

    method: int
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Auth:
        """Decode; raises InvalidSyntax where there is no data."""
        if len(body) < 5:
            raise InvalidSyntax("AUTH payload too short")
        return cls(body[0], bytes(body[4:]))

    def to_bytes(self) -> bytes:
        """Encode."""
        return bytes((self.method, 0, 0, 0)) + self.data
