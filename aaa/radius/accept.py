"""What an Access-Accept says of a decision.

User-Name               who it is, for the accounting of the client (RFC 2865 section 5.1)
Session-Timeout         seconds until the next sign-in
Acct-Interim-Interval   seconds between interim records, at least 60 (RFC 2869 section 5.16)
Filter-Id               the rule that decided
Framed-Pool             the address pool, where the rule names one
NAS-Filter-Rule         what is reached, where the rule says that (RFC 4849)
Class                   the sealed grant, to come back with every accounting record
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from aaa.interface import Access
from aaa.radius.constants import Attribute
from aaa.radius.filter_rules import filter_rules
from aaa.radius.wire import MAX_VALUE_BYTES

LEAST_INTERIM_S = 60
_MOST_SECONDS = 0xFFFF_FFFF


def accept_attributes(access: Access, grant: Sequence[bytes]) -> Iterator[tuple[Attribute, bytes]]:
    """The attributes, in order.

    Args:
        access: the decision.
        grant: the values of Class.
    """
    user_name, rule = access.user_name.encode(), access.rule.encode()
    if len(user_name) <= MAX_VALUE_BYTES:
        yield Attribute.USER_NAME, user_name
    yield Attribute.SESSION_TIMEOUT, _seconds(access.session_lifetime_s)
    yield Attribute.ACCT_INTERIM_INTERVAL, _seconds(max(access.interim_interval_s, LEAST_INTERIM_S))
    # Half of a rule's name may be another rule's name: rather none, for which a client has its default.
    if len(rule) <= MAX_VALUE_BYTES:
        yield Attribute.FILTER_ID, rule
    if access.pool is not None:
        yield Attribute.FRAMED_POOL, access.pool.encode()
    if access.networks:
        yield from ((Attribute.NAS_FILTER_RULE, value) for value in filter_rules(access.networks))
    yield from ((Attribute.CLASS, value) for value in grant)


def _seconds(value: float) -> bytes:
    return struct.pack("!I", min(max(1, int(value)), _MOST_SECONDS))
