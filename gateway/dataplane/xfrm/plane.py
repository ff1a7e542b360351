"""The kernel data plane: child SAs as states and policies of the kernel, which carries the packets by itself."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog

from gateway.dataplane.interface import (
    Address,
    ChildSa,
    Counters,
    DataPlaneError,
    DataPlaneEvents,
    Endpoints,
)
from gateway.dataplane.xfrm.explain import explain_policy
from gateway.dataplane.xfrm.lineages import Lineage, Reqids
from gateway.dataplane.xfrm.netlink import MalformedNetlink, Message, Verdict
from gateway.dataplane.xfrm.pair import Pair
from gateway.dataplane.xfrm.policies import Change, PolicyKey, PolicyTable
from gateway.dataplane.xfrm.sockets import EventsLost, KernelSilent, XfrmEvents, XfrmSocket
from gateway.dataplane.xfrm.state_table import StateTable
from gateway.dataplane.xfrm.states import parse_expiry, parse_mapping
from gateway.dataplane.xfrm.structures import Command
from gateway.dataplane.xfrm.waiting import CallsLater, WaitingPairs
from gateway.ike.selectors import TrafficSelector

_log = structlog.get_logger(__name__)


class Loop(CallsLater, Protocol):
    """The event loop, as far as it is needed here."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        """Call back whenever the descriptor has something to read."""

    def remove_reader(self, fd: int, /) -> bool:
        """Stop that."""


class KernelPlane:
    """Implements `gateway.dataplane.interface.DataPlane`.

    Pairs of one lineage share their policies, and so carry what the newest of them may: a pair that is installed with
    narrower selectors narrows the older ones, and a restriction of one holds for all while that one is there. Of two
    lineages with the same selectors the newer one has the policies; the older one carries nothing until that goes.

    Where a pair can't be moved or restricted, it is taken down, and `expired` told, hard, after the exception.

    Args:
        loop: where the kernel's events are watched, from now until `close`.
        xfrm: asks the kernel.
        heard: hears from it.
        events: told of what happens.
        reqids: those that are ours.
        if_id: of the XFRM interface; 0 without one.
        description: why this data plane, one sentence for the operator.
        release: closes the sockets and undoes what was made for the plane, at its close.
        now: monotonic seconds.
        wall: seconds of the wall clock, by which the kernel measures lifetimes.
    """

    name = "kernel"

    def __init__(
        self,
        loop: Loop,
        xfrm: XfrmSocket,
        heard: XfrmEvents,
        events: DataPlaneEvents,
        reqids: Reqids,
        *,
        if_id: int,
        description: str = "ESP in the kernel",
        release: Callable[[], object],
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.description = description
        self._loop = loop
        self._xfrm = xfrm
        self._heard = heard
        self._events = events
        self._reqids = reqids
        self._if_id = if_id
        self._release = release
        self._wall = wall
        self._pairs: dict[int, Pair] = {}
        """By inbound SPI, all that were installed and not removed."""
        self._states = StateTable(xfrm, reqids, now, wall)
        self._lineages: dict[int, Lineage] = {}
        self._policies = PolicyTable(if_id)
        self._waiting = WaitingPairs(loop, self._is_used, self._start_as_peer_did)
        self._collected: deque[Callable[[], object]] = deque()
        """What is to be done about what the kernel told."""
        self._closed = False
        loop.add_reader(heard.fileno(), self._hear)

    # --- DataPlane ------------------------------------------------------------------------------------------

    def install(self, child: ChildSa, *, outbound: bool = True) -> None:
        """See `DataPlane`."""
        if child.spi_in in self._pairs:
            raise DataPlaneError(f"child SA {child.spi_in:08x} exists already")
        lineage = self._lineages.get(child.lineage)
        reqid = lineage.reqid if lineage is not None else self._reqids.take(child.lineage)
        try:
            pair = Pair(child, reqid, self._if_id)
            self._states.make(pair)
        except DataPlaneError:
            if lineage is None:
                self._reqids.give_back(reqid)
            raise
        if lineage is None:
            lineage = self._lineages[child.lineage] = Lineage(child.lineage, reqid)
        lineage.add(pair, sends=outbound)
        try:
            self._apply_policies(lineage)
        except DataPlaneError:
            self._take_down(pair)
            raise
        self._pairs[child.spi_in] = pair
        if not outbound:
            self._waiting.add(child.spi_in)

    def start_outbound(self, spi_in: int) -> None:
        """See `DataPlane`."""
        pair = self._pairs.get(spi_in)
        if pair is None or pair.stopped:
            raise DataPlaneError(f"child SA {spi_in:08x} is gone")
        if spi_in not in self._waiting:
            return
        lineage = self._lineages[pair.sa.lineage]
        lineage.start(pair)
        try:
            self._apply_policies(lineage)
        except DataPlaneError:
            lineage.hold(pair)
            raise
        self._waiting.discard(spi_in)

    def restrict(self, spi_in: int, local_selectors: tuple[TrafficSelector, ...]) -> None:
        """See `DataPlane`; a pair that is not there carries nothing anyway."""
        pair = self._pairs.get(spi_in)
        if pair is None or pair.stopped:
            return
        lineage = self._lineages[pair.sa.lineage]
        pair.restriction = local_selectors
        try:
            self._apply_policies(lineage)
        except DataPlaneError:
            pair.restriction = ()
            for other in list(lineage.pairs):
                self._give_up(other)
            raise

    def remove(self, spi_in: int) -> Counters | None:
        """See `DataPlane`."""
        pair = self._pairs.pop(spi_in, None)
        if pair is None:
            return None
        self._take_down(pair)
        return pair.counters

    def move(self, spi_in: int, endpoints: Endpoints) -> None:
        """See `DataPlane`.

        What the kernel can change in place, the ports, it changes in place. Else the states are deleted and made
        anew between the new addresses. XFRM_MSG_MIGRATE would copy them while the old ones still send: a packet that
        leaves in between takes a number, and so a nonce, that the copy uses again. Once a state is deleted, its last
        number is certain. Packets of the microseconds in between are lost, as on a bad network.
        """
        pair = self._pairs.get(spi_in)
        if pair is None or pair.stopped or pair.endpoints == endpoints:
            return
        ports_and_nat = replace(
            pair.endpoints,
            local_port=endpoints.local_port,
            remote_port=endpoints.remote_port,
            peer_behind_nat=endpoints.peer_behind_nat,
        )
        try:
            if endpoints == ports_and_nat:
                pair.endpoints = endpoints
                if endpoints.udp_encapsulation:
                    self._states.change(pair)
            else:
                self._move_states(pair, endpoints)
        except DataPlaneError:
            self._give_up(pair)
            raise

    def _give_up(self, pair: Pair) -> None:
        self._take_down(pair)
        self._loop.call_later(0.0, partial(self._events.expired, pair.sa.spi_in, hard=True))

    def _move_states(self, pair: Pair, endpoints: Endpoints) -> None:
        inward, outward = self._states.take_away(pair)
        # One without a window is not ours: the kernel put it there for a packet that found none to leave by.
        if inward is None or outward is None or inward.replay is None or outward.replay is None:
            raise DataPlaneError(f"{pair.name}: its states are gone, or the kernel does not say how far they counted")
        pair.move(endpoints)
        self._states.make(pair, (inward, outward))
        self._apply_policies(self._lineages[pair.sa.lineage])

    def counters(self, spi_in: int) -> Counters | None:
        """See `DataPlane`."""
        pair = self._pairs.get(spi_in)
        if pair is None:
            return None
        if not pair.stopped:
            try:
                if not self._states.look(pair):
                    _log.warning("a state is gone without a word", child_sa=pair.name)
                    self._loop.call_later(0.0, partial(self._hard_expired, pair))
            except DataPlaneError as error:
                _log.error("no counters from the kernel", error=str(error))
        return pair.counters

    def close(self) -> None:
        """See `DataPlane`."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._heard.fileno())
        self._waiting.close()
        for spi_in in list(self._pairs):
            self.remove(spi_in)
        self._release()

    # --- Policies -------------------------------------------------------------------------------------------

    def _apply_policies(self, lineage: Lineage) -> None:
        """Have the kernel's policies say what the lineage claims now: all of it, or what was before.

        Raises:
            DataPlaneError: it can't.
        """
        before = self._policies.claim(lineage.number)
        refused = self._tell(self._policies.set(lineage.number, lineage.claim()))
        if refused:
            # What was refused is not undone: it would be another program's policy that goes.
            self._tell([change for change in self._policies.set(lineage.number, before) if change.key not in refused])
            raise DataPlaneError(f"{lineage.pairs[-1].name}: {explain_policy(next(iter(refused.values())))}")

    def _tell(self, changes: Sequence[Change]) -> dict[PolicyKey, Verdict]:
        """Tell the kernel; what it refuses, and why."""
        try:
            verdicts = self._xfrm.execute([(change.command, change.body) for change in changes])
        except KernelSilent as error:
            return {change.key: Verdict(errno.EIO, str(error)) for change in changes}
        return {change.key: verdict for change, verdict in zip(changes, verdicts, strict=True) if verdict.code}

    def _take_down(self, pair: Pair) -> None:
        """Remove all of a pair from the kernel, with its last counters; what fails is logged."""
        if pair.stopped:
            return
        # The last counters of a state that the kernel has just deleted are in what it told.
        self._collect()
        if self._collected and not self._closed:
            self._loop.call_later(0.0, self._serve_collected)
        pair.stopped = True
        self._waiting.discard(pair.sa.spi_in)
        lineage = self._lineages[pair.sa.lineage]
        lineage.remove(pair)
        for verdict in self._tell(self._policies.set(lineage.number, lineage.claim())).values():
            _log.error("a policy that should go", child_sa=pair.name, error=explain_policy(verdict))
        if not lineage.pairs:
            del self._lineages[lineage.number]
            self._reqids.give_back(lineage.reqid)
        try:
            self._states.take_away(pair)
        except DataPlaneError as error:
            _log.critical("states may be left in the kernel", error=str(error))

    # --- What the kernel tells ------------------------------------------------------------------------------

    def _hear(self) -> None:
        if not self._closed:
            self._collect()
            self._serve_collected()

    def _collect(self) -> None:
        """Read what the kernel has told, to the end: while there is something left, it drops what does not fit."""
        lost = False
        while True:
            try:
                messages = self._heard.read()
            except EventsLost:
                lost = True
                continue
            if not messages:
                break
            for message in messages:
                self._take_in(message)
        if lost:
            _log.warning("the kernel's events came too fast; looking at every child SA")
            self._resynchronise()

    def _serve_collected(self) -> None:
        while self._collected and not self._closed:
            self._collected.popleft()()

    def _take_in(self, message: Message) -> None:
        try:
            if message.kind == Command.EXPIRE:
                expiry = parse_expiry(message.body)
                pair = self._states.pair_of(expiry.state.id)
                if pair is not None and expiry.hard:
                    self._states.observe_last(pair, expiry.state)
                    self._collected.append(partial(self._hard_expired, pair))
                elif pair is not None:
                    self._collected.append(partial(self._soft_expired, pair))
            elif message.kind == Command.MAPPING:
                mapping = parse_mapping(message.body)
                pair = self._states.pair_of(mapping.id)
                if pair is not None:
                    self._collected.append(partial(self._moved, pair, mapping.remote, mapping.remote_port))
        except MalformedNetlink as error:
            _log.error("the kernel told something that can't be read", error=str(error))

    def _soft_expired(self, pair: Pair) -> None:
        if not pair.soft_told and not pair.stopped:
            pair.soft_told = True
            self._events.expired(pair.sa.spi_in, hard=False)

    def _hard_expired(self, pair: Pair) -> None:
        if not pair.stopped:
            self._take_down(pair)
            self._events.expired(pair.sa.spi_in, hard=True)

    def _moved(self, pair: Pair, remote: Address, remote_port: int) -> None:
        """RFC 7296 section 2.23: reply to where authentic packets come from."""
        was = pair.endpoints
        follows = was.udp_encapsulation and was.peer_behind_nat and not pair.stopped
        if not follows or (remote, remote_port) == (was.remote, was.remote_port):
            return
        try:
            self.move(pair.sa.spi_in, replace(was, remote=remote, remote_port=remote_port))
        except DataPlaneError as error:
            _log.error("child SA not moved", error=str(error))
            return
        self._events.remote_moved(pair.sa.spi_in, remote, remote_port)

    def _resynchronise(self) -> None:
        """Find out by looking what the kernel's lost events would have said."""
        try:
            present = {state.id: state for state in self._xfrm.dump_states()}
        except KernelSilent as error:
            _log.error("lifetimes may have passed unseen", error=str(error))
            return
        for pair in self._states.pairs():
            states = [present.get(one) for one in pair.ids]
            if None in states:
                self._collected.append(partial(self._hard_expired, pair))
            elif any(state is not None and pair.soft_limit_reached(state, self._wall()) for state in states):
                self._collected.append(partial(self._soft_expired, pair))

    # --- Pairs that we do not send on yet -------------------------------------------------------------------

    def _is_used(self, spi_in: int) -> bool:
        counters = self.counters(spi_in)
        return counters is not None and counters.packets_in > 0

    def _start_as_peer_did(self, spi_in: int) -> None:
        try:
            self.start_outbound(spi_in)
        except DataPlaneError as error:
            _log.error("child SA not used to send", error=str(error))
