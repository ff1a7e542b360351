"""The state table: every state with every input, and the diagram that is made of it."""

from __future__ import annotations

import re
from itertools import product

import pytest

from gateway.ike.states import TRANSITIONS, UNFINISHED, Input, State, TransitionError, mermaid, transition

EXPECTED = """
half-open        + IKE_AUTH without AUTH         -> EAP in progress
half-open        + IKE_AUTH with CERT and AUTH   -> authorising
half-open        + AUTH by pre-shared key verified -> authorising
half-open        + AUTH by ticket verified       -> authorising
EAP in progress  + AAA accepts with MSK          -> EAP done
EAP done         + AUTH verified                 -> assigning
authorising      + AUTH verified                 -> assigning
authorising      + AUTH verified, another follows -> second authentication
second authentication + IKE_AUTH without AUTH    -> EAP in progress
assigning        + child SA installed            -> established
assigning        + no child SA wanted            -> established
assigning        + no child SA possible          -> closing
established      + close asked for               -> closing
established      + Delete from the peer          -> closed
established      + Delete answered, or peer dead -> closed
established      + rekeyed                       -> replaced
replaced         + close asked for               -> closed
replaced         + Delete from the peer          -> closed
replaced         + Delete answered, or peer dead -> closed
closing          + Delete from the peer          -> closed
closing          + Delete answered, or peer dead -> closed
"""
UNFINISHED_NAMES = (
    "half-open",
    "EAP in progress",
    "EAP done",
    "authorising",
    "second authentication",
    "assigning",
)
ENDINGS = ("refused", "half-open too long", "close asked for", "Delete from the peer")


def expected() -> dict[tuple[State, Input], State]:
    """The table as this test has it, written a second time by hand."""
    table = {}
    for line in EXPECTED.strip().splitlines():
        left, _, after = line.partition("->")
        before, _, given = left.partition("+")
        table[State(before.strip()), Input(given.strip())] = State(after.strip())
    for name, ending in product(UNFINISHED_NAMES, ENDINGS):
        table[State(name), Input(ending)] = State.CLOSED
    return table


@pytest.mark.parametrize(("state", "given"), list(product(State, Input)), ids=lambda value: value.name)
def test_every_state_with_every_input(state: State, given: Input) -> None:
    after = expected().get((state, given))
    if after is None:
        with pytest.raises(TransitionError):
            transition(state, given)
    else:
        assert transition(state, given) is after


def test_nothing_leaves_closed() -> None:
    assert not [key for key in TRANSITIONS if key[0] is State.CLOSED]


def test_established_is_reached_by_authentication_only() -> None:
    """Every way to ESTABLISHED goes through AUTHENTICATED, and is not taken by anything that the peer may send."""
    reached_without = {State.HALF_OPEN}
    while True:
        more = {
            after
            for (before, given), after in TRANSITIONS.items()
            if before in reached_without and given is not Input.AUTHENTICATED
        }
        if more <= reached_without:
            break
        reached_without |= more
    assert State.ESTABLISHED not in reached_without
    assert State.ASSIGNING not in reached_without


def test_unfinished_are_those_that_time_out() -> None:
    assert {state for state in State if (state, Input.TIMEOUT) in TRANSITIONS} == UNFINISHED


def test_the_diagram_has_every_transition() -> None:
    diagram = mermaid()
    assert diagram.startswith("stateDiagram-v2")
    arrows = {
        (before, after): labels.split(" / ")
        for before, after, labels in re.findall(r"^ +(\w+) --> (\w+): (.*)$", diagram, re.MULTILINE)
        if before != "[*]"
    }
    drawn = {(State[b], Input(label)): State[a] for (b, a), labels in arrows.items() for label in labels}
    assert drawn == TRANSITIONS
