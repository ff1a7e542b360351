"""What a CoA-Request may change of a session: the networks that it reaches, the time that is left to it.

The networks come as NAS-Filter-Rules (RFC 4849), of whose grammar (IPFilterRule, RFC 6733 section 4.3.1) one form is
taken: `permit in ip from assigned to NETWORK`. What no rule permits is denied, so `deny in ip from any to any` alone
says: nothing. Any other rule is refused whole, for half of an access rule is another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

MAX_RULES = 64
MAX_RULE_BYTES = 96
EVERYTHING: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

_PERMIT = re.compile(r"permit in ip from assigned to (\S+)")
_NOTHING = "deny in ip from any to any"


class BadFilterRule(ValueError):
    """Not a rule of the one form, or too many of them."""


@dataclass(frozen=True, slots=True)
class SessionChange:
    """New values; None leaves what is."""

    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    """All that the session may reach; empty for nothing. None with a rule is the gateway's own list."""
    session_timeout_s: int | None = None
    """From now on."""
    rule: str | None = None
    """The name of the access rule that decided (Filter-Id)."""
    reason: str = ""
    """In words, for the log (Reply-Message)."""

    @property
    def is_empty(self) -> bool:
        """It changes nothing."""
        return self.networks is None and self.session_timeout_s is None and self.rule is None


def parse_filter_rules(values: Sequence[bytes]) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks of all NAS-Filter-Rule attributes of a packet: joined, then cut at each NUL.

    Raises:
        BadFilterRule: the message says which rule.
    """
    rules = [rule for rule in b"".join(values).split(b"\0") if rule]
    if not rules or len(rules) > MAX_RULES:
        raise BadFilterRule(f"{len(rules)} filter rules, and 1 to {MAX_RULES} are taken")
    networks: list[IPv4Network | IPv6Network] = []
    for index, rule in enumerate(rules):
        text = rule[:MAX_RULE_BYTES].decode("ascii", "replace")
        if text == _NOTHING and index == len(rules) - 1:
            break
        found = _PERMIT.fullmatch(text)
        if found is None or len(rule) > MAX_RULE_BYTES:
            raise BadFilterRule(f"filter rule {text!r}")
        try:
            networks += EVERYTHING if found[1] == "any" else (ip_network(found[1]),)
        except ValueError:
            raise BadFilterRule(f"filter rule {text!r}") from None
    return tuple(networks)
