"""What the workers do for AAA: the handlers of its outbox items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aaa import enforcement, rules_change
from core.runtime import Runtime

HANDLERS: dict[str, Callable[[Runtime, dict[str, Any]], None]] = {
    enforcement.DISCONNECT: enforcement.deliver,
    enforcement.CHANGE: enforcement.deliver_change,
    rules_change.APPLY: rules_change.apply,
}
"""By the kind of item."""
