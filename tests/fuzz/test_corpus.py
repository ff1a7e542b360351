"""Every input that ever reached new code, once more; among them whatever a campaign found to be wrong."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

FEWEST = 30
"""Inputs that the campaign left for each target; fewer means that somebody has lost them."""


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_nothing_in_the_corpus_breaks_an_invariant(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert len(inputs) >= FEWEST
    for file in inputs:
        try:
            TARGETS[target](file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{file.name}: {type(error).__name__}: {error}") from error
