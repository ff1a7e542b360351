"""The states of all pairs in the kernel: made both or not at all, changed, and deleted with their last numbers."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from gateway.dataplane.interface import DataPlaneError
from gateway.dataplane.xfrm.explain import explain, explain_state
from gateway.dataplane.xfrm.lineages import Reqids
from gateway.dataplane.xfrm.netlink import Verdict
from gateway.dataplane.xfrm.pair import Pair
from gateway.dataplane.xfrm.sockets import KernelSilent, Request, XfrmSocket
from gateway.dataplane.xfrm.states import State, StateId
from gateway.dataplane.xfrm.structures import Command


class StateTable:
    """Which pair has which states.

    Args:
        xfrm: asks the kernel.
        reqids: those that are ours.
        now: monotonic seconds.
        wall: seconds of the wall clock.
    """

    def __init__(self, xfrm: XfrmSocket, reqids: Reqids, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._xfrm = xfrm
        self._reqids = reqids
        self._now = now
        self._wall = wall
        self._pairs: dict[StateId, Pair] = {}

    def pair_of(self, state: StateId) -> Pair | None:
        """The pair that a state belongs to."""
        return self._pairs.get(state)

    def pairs(self) -> list[Pair]:
        """All pairs that have states."""
        return list(dict.fromkeys(self._pairs.values()))

    def make(self, pair: Pair, carried: tuple[State, State] | None = None) -> None:
        """Make both states of a pair.

        Args:
            pair: whose states are not there.
            carried: the last of the states that these replace.

        Raises:
            DataPlaneError: it can't; neither is there.
        """
        states = pair.states(carried)
        for one in states:
            if one.id in self._pairs:
                raise DataPlaneError(f"{pair.name}: {one.id} is in use")
        verdicts = self._execute(pair, [(Command.NEWSA, one.to_bytes()) for one in states])
        for number, one in enumerate(states):
            if verdicts[number].code == errno.EEXIST and self._remove_stale(pair, one.id):
                verdicts[number] = self._execute(pair, [(Command.NEWSA, one.to_bytes())])[0]
        refused = [number for number, verdict in enumerate(verdicts) if verdict.code]
        if refused:
            made = [(Command.DELSA, one.id.to_bytes()) for n, one in enumerate(states) if n not in refused]
            self._execute(pair, made)
            number = refused[0]
            direction = ("inbound", "outbound")[number]
            why = explain_state(verdicts[number], f"{direction} {states[number].id}", pair.sa.suite)
            raise DataPlaneError(f"{pair.name}: {why}")
        for one in states:
            self._pairs[one.id] = pair

    def _remove_stale(self, pair: Pair, state: StateId) -> bool:
        """Remove a state in the way that has our reqid without being one of ours; whether there was one.

        The kernel makes such a one where a packet is to leave by a state that does not exist, and another IKE daemon
        listens for that.
        """
        (found,) = self._ask(pair, [state])
        if found is None or found.reqid not in self._reqids:
            return False
        return not self._execute(pair, [(Command.DELSA, state.to_bytes())])[0].code

    def change(self, pair: Pair) -> None:
        """Give the states of a pair its present ports and lifetimes.

        Raises:
            DataPlaneError: it can't.
        """
        for verdict in self._execute(pair, [(Command.UPDSA, one.to_bytes()) for one in pair.states()]):
            if verdict.code:
                raise DataPlaneError(f"{pair.name}: {explain(verdict, 'its states')}")

    def look(self, pair: Pair) -> bool:
        """Have a pair observe its states; whether both are there.

        Raises:
            DataPlaneError: the kernel does not say.
        """
        inward, outward = self._ask(pair, pair.ids)
        pair.observe(inward, outward, self._now(), self._wall)
        return inward is not None and outward is not None

    def take_away(self, pair: Pair) -> tuple[State | None, State | None]:
        """Delete the states that are a pair's own, which observes them a last time; what they were then.

        Raises:
            DataPlaneError: the kernel does not say whether it did.
        """
        # Where it could not be made between the addresses that it was to have, a state there is another one's.
        own = [one for one in pair.ids if self._pairs.get(one) is pair]
        try:
            last = dict(zip(own, self._xfrm.delete_states(own), strict=True))
        except KernelSilent as error:
            raise DataPlaneError(f"{pair.name}: {error}") from error
        for one in own:
            del self._pairs[one]
        inward, outward = last.get(pair.id_in), last.get(pair.id_out)
        pair.observe(inward, outward, self._now(), self._wall)
        return inward, outward

    def observe_last(self, pair: Pair, state: State) -> None:
        """The kernel has deleted one of a pair's states, and says what it was last."""
        inward = state.id == pair.id_in
        pair.observe(state if inward else None, None if inward else state, self._now(), self._wall)

    def _ask(self, pair: Pair, ids: Sequence[StateId]) -> list[State | None]:
        try:
            return self._xfrm.states(ids)
        except KernelSilent as error:
            raise DataPlaneError(f"{pair.name}: {error}") from error

    def _execute(self, pair: Pair, requests: Sequence[Request]) -> list[Verdict]:
        try:
            return self._xfrm.execute(requests)
        except KernelSilent as error:
            raise DataPlaneError(f"{pair.name}: {error}") from error
