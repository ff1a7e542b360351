"""KE payload (RFC 7296 section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.errors import InvalidSyntax


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """Group 2, reserved 2, public value."""

    group: int
    public: bytes

    @classmethod
    def parse(cls, body: bytes) -> KeyExchange:
        """Decode; raises InvalidSyntax where there is no public value."""
        if len(body) <= 4:
            raise InvalidSyntax("KE payload too short")
        return cls(int.from_bytes(body[:2], "big"), bytes(body[4:]))

    def to_bytes(self) -> bytes:
        """Encode."""
        return self.group.to_bytes(2, "big") + b"\0\0" + self.public
