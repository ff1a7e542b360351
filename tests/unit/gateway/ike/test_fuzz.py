"""A short campaign of `python -m tests.fuzz` with every run of the unit tests."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import Campaign


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_short_campaign(seed: int) -> None:
    figures = Campaign(seed).run(1000)
    assert figures.packets >= 1000
    assert sum(figures.by_scenario.values()) == figures.rounds
    assert sum(figures.causes.values()) >= figures.rounds
