"""The moment between a gateway's answer that sessions are gone and its accounting records that say so."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from aaa.enforcement import Enforcement
from web.context import runtime

PATIENCE_S = 0.5
_LOOK_EVERY_S = 0.01


def await_stops(enforcement: Enforcement, any_open: Callable[[Session], bool]) -> None:
    """Wait until the records have followed, so that the page with the answer shows no session as live that is gone.

    Records that take longer than `PATIENCE_S` are not waited for; nor are those of gateways that gave no answer.

    Args:
        enforcement: what was done.
        any_open: whether the database still has one of the sessions as live.
    """
    if not enforcement.answers or not all(answer.acknowledged for answer in enforcement.answers):
        return
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at:
        with runtime().database.reading() as session:
            if not any_open(session):
                return
        time.sleep(_LOOK_EVERY_S)
