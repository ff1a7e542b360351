"""The access rules of this process, ready to decide by, and the circumstances that they ask for."""

from __future__ import annotations

from ipaddress import ip_address

from aaa.decision import Rule
from aaa.interface import Address
from core.settings import RuleSettings
from core.settings.live_rules import LiveRules


class AccessRules:
    """As they are now.

    Args:
        live: those of the process.
    """

    def __init__(self, live: LiveRules) -> None:
        self._live = live
        self._settings: tuple[RuleSettings, ...] = ()
        self._rules: tuple[Rule, ...] = ()

    def current(self) -> tuple[Rule, ...]:
        """In order."""
        settings = self._live.current()
        if settings is not self._settings:
            self._rules = tuple(Rule.from_settings(rule) for rule in settings)
            self._settings = settings
        return self._rules


def address_in(text: str) -> Address | None:
    """The address of `192.0.2.7`, `192.0.2.7:4500`, `2001:db8::7` or `[2001:db8::7]:4500`; None where it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ip_address(text)
    except ValueError:
        return None
