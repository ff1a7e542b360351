"""When the sequence numbers of an SA end its life, whatever its lifetime says."""

from __future__ import annotations

from dataclasses import replace

from gateway.dataplane.interface import EspLifetime

LAST_SEQUENCE = (1 << 32) - 1
"""Of an SA without extended sequence numbers (RFC 4303 section 3.3.3). With them, no SA lives to see the last one."""
SOFT_SEQUENCE = 3 << 30
"""Three quarters of it: what is left lasts minutes even at the highest rates, and a rekeying takes a second."""


def bounded(lifetime: EspLifetime, *, esn: bool) -> EspLifetime:
    """The lifetime that a data plane enforces: as asked, and never beyond the last sequence number.

    Args:
        lifetime: what was asked for.
        esn: whether the SA has extended sequence numbers.
    """
    if esn:
        return lifetime
    hard = _least(lifetime.hard_packets, LAST_SEQUENCE)
    return replace(lifetime, soft_packets=_least(lifetime.soft_packets, SOFT_SEQUENCE, hard), hard_packets=hard)


def _least(asked: int | None, *limits: int) -> int:
    return min(limits) if asked is None else min(asked, *limits)
