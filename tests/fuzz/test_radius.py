"""A campaign against the RADIUS server, long enough to see a leak."""

from __future__ import annotations

from tests.fuzz.radius import RadiusCampaign

PACKETS = 20_000
MORE_OBJECTS = 500
MORE_MEMORY_KIB = 4096


def test_a_campaign_breaks_nothing_and_leaves_nothing() -> None:
    figures = RadiusCampaign(seed=20_260_101).run(PACKETS)
    assert figures.packets >= PACKETS
    assert figures.by_insiders > PACKETS / 5
    assert figures.signed_in > figures.rounds * 0.7
    # Insiders get as far as each kind of answer.
    assert {2, 3, 5, 11} <= set(figures.answered)
    assert figures.objects_after - figures.objects_before < MORE_OBJECTS, str(figures)
    assert figures.memory_after_kib - figures.memory_before_kib < MORE_MEMORY_KIB, str(figures)
