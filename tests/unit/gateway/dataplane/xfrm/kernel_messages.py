"""What a kernel has sent, and parsers for it, and the children that tests speak of."""

from __future__ import annotations

from collections.abc import Callable

from gateway.dataplane.xfrm.policies import parse_policy
from gateway.dataplane.xfrm.states import parse_deleted_state, parse_expiry, parse_mapping, parse_state
from tests.unit.gateway.dataplane.vectors import text_cases

PARSERS: dict[str, Callable[[bytes], object]] = {
    "state": parse_state,
    "state-out": parse_state,
    "deleted": parse_deleted_state,
    "soft": parse_expiry,
    "hard": parse_expiry,
    "mapping": parse_mapping,
    "policy": parse_policy,
}
MESSAGES = [
    (case["kind"], bytes.fromhex(case["body"]))
    for case in text_cases("linux-6.1.txt", "xfrm")
    if case["kind"] in PARSERS
]


def first(kind: str) -> bytes:
    """The first message of a kind."""
    return next(body for found, body in MESSAGES if found == kind)


def refusal() -> bytes:
    """The acknowledgement that says that there is no such algorithm."""
    return next(
        bytes.fromhex(case["body"]) for case in text_cases("linux-6.1.txt", "xfrm") if case["kind"] == "refusal"
    )
