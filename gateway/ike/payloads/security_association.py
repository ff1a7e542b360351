"""SA payload (RFC 7296 section 3.3): proposals of transforms."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from gateway.ike.constants import KEY_LENGTH_ATTRIBUTE, TransformType
from gateway.ike.errors import InvalidSyntax

MAX_PROPOSALS = 32
MAX_TRANSFORMS = 64
"""In one proposal. Android offers some 25, strongSwan some 40."""
_SPI_BYTES = frozenset((0, 4, 8))

_PROPOSAL = struct.Struct("!BxHBBBB")
_TRANSFORM = struct.Struct("!BxHBxH")
_ATTRIBUTE = struct.Struct("!HH")
_SHORT_ATTRIBUTE = 0x8000


class Transform(NamedTuple):
    """One transform: last 1, reserved 1, length 2, type 1, reserved 1, id 2, attributes."""

    type: int
    id: int
    key_bits: int = 0
    """The key length attribute; 0 where there is none."""
    understood: bool = True
    """False with an attribute that we do not know: such a transform is never chosen (section 3.3.6)."""

    def to_bytes(self, *, last: bool) -> bytes:
        """Encode."""
        attributes = _ATTRIBUTE.pack(_SHORT_ATTRIBUTE | KEY_LENGTH_ATTRIBUTE, self.key_bits) if self.key_bits else b""
        return _TRANSFORM.pack(0 if last else 3, 8 + len(attributes), self.type, self.id) + attributes


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal: last 1, reserved 1, length 2, number 1, protocol 1, SPI size 1, count 1, SPI, transforms."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def of_type(self, transform_type: TransformType) -> tuple[Transform, ...]:
        """The transforms of one type, in the peer's order of preference."""
        return tuple(transform for transform in self.transforms if transform.type == transform_type)

    def to_bytes(self, *, last: bool) -> bytes:
        """Encode."""
        final = len(self.transforms) - 1
        body = self.spi + b"".join(t.to_bytes(last=i == final) for i, t in enumerate(self.transforms))
        return (
            _PROPOSAL.pack(
                0 if last else 2,
                8 + len(body),
                self.number,
                self.protocol,
                len(self.spi),
                len(self.transforms),
            )
            + body
        )


def parse_proposals(body: bytes) -> tuple[Proposal, ...]:
    """All proposals of an SA payload.

    Raises:
        InvalidSyntax: a length, count or "last" mark that does not fit.
    """
    proposals: list[Proposal] = []
    offset, end = 0, len(body)
    while True:
        if end - offset < _PROPOSAL.size:
            raise InvalidSyntax("proposal too short")
        more, length, number, protocol, spi_size, count = _PROPOSAL.unpack_from(body, offset)
        if length < _PROPOSAL.size + spi_size or length > end - offset:
            raise InvalidSyntax("proposal length")
        if spi_size not in _SPI_BYTES:
            raise InvalidSyntax("SPI size in a proposal")
        if len(proposals) == MAX_PROPOSALS:
            raise InvalidSyntax("too many proposals")
        start = offset + _PROPOSAL.size
        transforms = _parse_transforms(body, start + spi_size, offset + length, count)
        proposals.append(Proposal(number, protocol, bytes(body[start : start + spi_size]), transforms))
        offset += length
        if (more == 0) != (offset == end):
            raise InvalidSyntax("last proposal is not marked, or something follows it")
        if offset == end:
            return tuple(proposals)


def _parse_transforms(body: bytes, offset: int, end: int, count: int) -> tuple[Transform, ...]:
    if count > MAX_TRANSFORMS:
        raise InvalidSyntax("too many transforms")
    transforms: list[Transform] = []
    for index in range(count):
        if end - offset < _TRANSFORM.size:
            raise InvalidSyntax("transform too short")
        more, length, transform_type, transform_id = _TRANSFORM.unpack_from(body, offset)
        if length < _TRANSFORM.size or length > end - offset:
            raise InvalidSyntax("transform length")
        if (more == 0) != (index == count - 1):
            raise InvalidSyntax("last transform is not marked")
        key_bits, understood = _parse_attributes(body, offset + _TRANSFORM.size, offset + length)
        transforms.append(Transform(transform_type, transform_id, key_bits, understood))
        offset += length
    if offset != end:
        raise InvalidSyntax("bytes after the last transform")
    return tuple(transforms)


def _parse_attributes(body: bytes, offset: int, end: int) -> tuple[int, bool]:
    key_bits, understood = 0, True
    while offset < end:
        if end - offset < _ATTRIBUTE.size:
            raise InvalidSyntax("attribute too short")
        kind, value = _ATTRIBUTE.unpack_from(body, offset)
        offset += _ATTRIBUTE.size
        if kind & _SHORT_ATTRIBUTE:
            if kind == _SHORT_ATTRIBUTE | KEY_LENGTH_ATTRIBUTE:
                key_bits = value
            else:
                understood = False
        else:
            understood = False
            if value > end - offset:
                raise InvalidSyntax("attribute length")
            offset += value
    return key_bits, understood


def proposals_to_bytes(proposals: tuple[Proposal, ...]) -> bytes:
    """The body of an SA payload."""
    final = len(proposals) - 1
    return b"".join(proposal.to_bytes(last=i == final) for i, proposal in enumerate(proposals))
