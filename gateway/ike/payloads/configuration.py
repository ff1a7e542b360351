"""Configuration payload (RFC 7296 section 3.15)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from gateway.ike.errors import InvalidSyntax

MAX_ATTRIBUTES = 64
_ATTRIBUTE = struct.Struct("!HH")
_RESERVED_BIT = 0x8000


class ConfigurationAttribute(NamedTuple):
    """Type 2 (15 bits), length 2, value. Unknown types survive."""

    type: int
    value: bytes = b""


@dataclass(frozen=True, slots=True)
class Configuration:
    """CFG type 1, reserved 3, attributes."""

    cfg_type: int
    attributes: tuple[ConfigurationAttribute, ...]

    @classmethod
    def parse(cls, body: bytes) -> Configuration:
        """Decode; raises InvalidSyntax on lengths that do not fit and on too many attributes."""
        if len(body) < 4:
            raise InvalidSyntax("CP payload too short")
        attributes: list[ConfigurationAttribute] = []
        offset, end = 4, len(body)
        while offset < end:
            if end - offset < 4 or len(attributes) == MAX_ATTRIBUTES:
                raise InvalidSyntax("attributes of a CP payload")
            kind, length = _ATTRIBUTE.unpack_from(body, offset)
            offset += 4
            if length > end - offset:
                raise InvalidSyntax("attribute length in a CP payload")
            attributes.append(ConfigurationAttribute(kind & ~_RESERVED_BIT, bytes(body[offset : offset + length])))
            offset += length
        return cls(body[0], tuple(attributes))

    def to_bytes(self) -> bytes:
        """Encode."""
        return bytes((self.cfg_type, 0, 0, 0)) + b"".join(
            _ATTRIBUTE.pack(attribute.type, len(attribute.value)) + attribute.value for attribute in self.attributes
        )

    def has(self, attribute_type: int) -> bool:
        """Whether an attribute of this type is present."""
        return any(attribute.type == attribute_type for attribute in self.attributes)
