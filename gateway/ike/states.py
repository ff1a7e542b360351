"""The states of a responder's IKE SA and every transition between them. What is not here is an error.

`python -m gateway.ike.states` prints the diagram that the documentation shows.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where an IKE SA stands, seen from the responder."""

    HALF_OPEN = "half-open"
    """IKE_SA_INIT is answered; nothing is known of the peer but that it receives at its address (or not)."""
    EAP = "EAP in progress"
    """The gateway has proved itself; EAP packets go between the peer and AAA."""
    EAP_DONE = "EAP done"
    """AAA said yes and gave the MSK; the peer must still prove with AUTH that it holds it."""
    AUTHORISING = "authorising"
    """The peer's certificate, the site peer's name, or who a ticket is of, is with AAA."""
    SECOND_AUTH = "second authentication"
    """The device has proved itself by its certificate; now its user has to, by EAP (RFC 4739)."""
    ASSIGNING = "assigning"
    """Authenticated; addresses and the child SA are being set up."""
    ESTABLISHED = "established"
    REPLACED = "replaced"
    """Rekeyed: a new IKE SA has taken over children and session; this one waits for its Delete."""
    CLOSING = "closing"
    """Our Delete is out, its answer awaited."""
    CLOSED = "closed"
    """Over; kept a little while to answer retransmissions with the cached response."""


class Input(Enum):
    """What moves an IKE SA."""

    EAP_WANTED = "IKE_AUTH without AUTH"
    CERTIFICATE = "IKE_AUTH with CERT and AUTH"
    SHARED_KEY = "AUTH by pre-shared key verified"
    TICKET = "AUTH by ticket verified"
    EAP_SUCCESS = "AAA accepts with MSK"
    ANOTHER_FOLLOWS = "AUTH verified, another follows"
    AUTHENTICATED = "AUTH verified"
    CHILDLESS = "no child SA wanted"
    CHILD_INSTALLED = "child SA installed"
    CHILD_REFUSED = "no child SA possible"
    REFUSED = "refused"
    REPLACED = "rekeyed"
    CLOSE = "close asked for"
    DELETED = "Delete from the peer"
    GONE = "Delete answered, or peer dead"
    TIMEOUT = "half-open too long"


_REFUSABLE = (
    State.HALF_OPEN,
    State.EAP,
    State.EAP_DONE,
    State.AUTHORISING,
    State.SECOND_AUTH,
    State.ASSIGNING,
)

TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.HALF_OPEN, Input.EAP_WANTED): State.EAP,
    (State.HALF_OPEN, Input.CERTIFICATE): State.AUTHORISING,
    (State.HALF_OPEN, Input.SHARED_KEY): State.AUTHORISING,
    (State.HALF_OPEN, Input.TICKET): State.AUTHORISING,
    (State.AUTHORISING, Input.ANOTHER_FOLLOWS): State.SECOND_AUTH,
    (State.SECOND_AUTH, Input.EAP_WANTED): State.EAP,
    (State.EAP, Input.EAP_SUCCESS): State.EAP_DONE,
    (State.EAP_DONE, Input.AUTHENTICATED): State.ASSIGNING,
    (State.AUTHORISING, Input.AUTHENTICATED): State.ASSIGNING,
    (State.ASSIGNING, Input.CHILD_INSTALLED): State.ESTABLISHED,
    (State.ASSIGNING, Input.CHILDLESS): State.ESTABLISHED,
    (State.ASSIGNING, Input.CHILD_REFUSED): State.CLOSING,
    (State.ESTABLISHED, Input.CLOSE): State.CLOSING,
    (State.ESTABLISHED, Input.DELETED): State.CLOSED,
    (State.ESTABLISHED, Input.GONE): State.CLOSED,
    (State.ESTABLISHED, Input.REPLACED): State.REPLACED,
    (State.REPLACED, Input.CLOSE): State.CLOSED,
    (State.REPLACED, Input.DELETED): State.CLOSED,
    (State.REPLACED, Input.GONE): State.CLOSED,
    (State.CLOSING, Input.DELETED): State.CLOSED,
    (State.CLOSING, Input.GONE): State.CLOSED,
    **{(state, Input.REFUSED): State.CLOSED for state in _REFUSABLE},
    **{(state, Input.TIMEOUT): State.CLOSED for state in _REFUSABLE},
    **{(state, Input.CLOSE): State.CLOSED for state in _REFUSABLE},
    **{(state, Input.DELETED): State.CLOSED for state in _REFUSABLE},
}

UNFINISHED = frozenset(_REFUSABLE)
"""States that count as half-open: the peer is not authenticated, or not served yet."""
ALIVE = frozenset((State.ESTABLISHED, State.REPLACED, State.CLOSING))
"""States in which the peer is authenticated and the keys are there."""


class TransitionError(Exception):
    """A transition that the table does not have: a fault of ours, never of the peer's."""


def transition(state: State, given: Input) -> State:
    """The next state; raises TransitionError where there is none."""
    try:
        return TRANSITIONS[state, given]
    except KeyError:
        raise TransitionError(f"no transition from {state.value!r} on {given.value!r}") from None


def mermaid() -> str:
    """The table as a Mermaid state diagram, one arrow for all that leads from one state to another."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, given), to in TRANSITIONS.items():
        arrows.setdefault((state, to), []).append(given.value)
    lines = ["stateDiagram-v2", "    [*] --> HALF_OPEN: IKE_SA_INIT answered"]
    lines += [f"    {state.name} --> {to.name}: {' / '.join(given)}" for (state, to), given in arrows.items()]
    return "\n".join([*lines, "    CLOSED --> [*]"])


if __name__ == "__main__":
    print(mermaid())
