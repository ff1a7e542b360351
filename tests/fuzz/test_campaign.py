"""A campaign long enough to see a leak."""

from __future__ import annotations

from tests.fuzz.campaign import Campaign
from tests.fuzz.scenarios import SCENARIOS

PACKETS = 20_000
MORE_OBJECTS = 500
"""What caches may still grow by after the warm-up; one leaked SA in each of some 600 rounds would be thousands."""
MORE_MEMORY_KIB = 4096


def test_a_campaign_breaks_nothing_and_leaves_nothing() -> None:
    figures = Campaign(seed=20_260_101).run(PACKETS)
    assert figures.packets >= PACKETS
    assert figures.by_insiders > PACKETS / 20
    assert set(figures.by_scenario) == {scenario.name for scenario in SCENARIOS}
    assert figures.signed_in > 0
    assert figures.objects_after - figures.objects_before < MORE_OBJECTS, str(figures)
    assert figures.memory_after_kib - figures.memory_before_kib < MORE_MEMORY_KIB, str(figures)
