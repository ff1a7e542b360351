"""Every code that a sign-in can be refused with is known, has a cause, and comes with advice."""

from __future__ import annotations

import re

from gateway.diagnosis.causes import CATALOGUE, UNAUDITED, Cause
from gateway.diagnosis.situation import Situation
from tests.unit.test_docs import OPERATIONS, refusal_codes

EXPLAINED_BY_THEIR_STORY = {"no-proposal-chosen", "handshake-timeout", "client-gave-up", "client-refused-server"}


def test_each_code_is_in_the_catalogue() -> None:
    assert set(CATALOGUE) == refusal_codes() | UNAUDITED


def test_each_has_advice() -> None:
    assert {code for code, entry in CATALOGUE.items() if not entry.advice} == EXPLAINED_BY_THEIR_STORY
    assert all(step.endswith(".") for entry in CATALOGUE.values() for step in entry.advice)


def test_each_cause_can_be_met() -> None:
    assert {entry.cause for entry in CATALOGUE.values()} | {situation.cause for situation in Situation} == set(Cause)


def test_each_cause_is_in_the_documentation() -> None:
    section = OPERATIONS.partition("\n## Why a handshake failed")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, re.M) == [cause.value for cause in Cause]
    assert all(f"`{code}`" in section for code in UNAUDITED)
