"""NAS-Filter-Rule (RFC 4849): what a session may reach, in the one form that Ostiary writes and reads."""

from __future__ import annotations

from collections.abc import Sequence

from aaa.interface import Network
from aaa.radius.wire import split_value


def filter_rules(networks: Sequence[Network]) -> list[bytes]:
    """The values of the attributes that permit these networks; what is not permitted is denied. The rules are joined
    by NUL and then cut where an attribute is full (RFC 4849 section 2).
    """
    return split_value(b"\0".join(f"permit in ip from assigned to {network}".encode() for network in networks))
