"""Two ends of one established IKE SA, both the product's own, with a network between them that tests hold in hand.

    left (the gateway) <--- to_left --- wire --- to_right ---> right (as a client would be)

Both run the same code after IKE_AUTH, each in its role, so whatever one side begins, the other one answers; every
order in which datagrams may cross can be had.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Any

from gateway.ike import child_lifecycle, events
from gateway.ike.child import Assignment, Child
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import Encr, Group, Integ, Prf
from gateway.ike.errors import IkeError
from gateway.ike.events import Event
from gateway.ike.keymat import derive_child_keys, derive_ike_keys
from gateway.ike.path import Path
from gateway.ike.proposals import ChildSuite, IkeSuite
from gateway.ike.responder import Responder
from gateway.ike.sa import IkeSa
from gateway.ike.selectors import TrafficSelector
from gateway.ike.states import State
from tests.unit.gateway.ike.wire import responder_config

SUITE = IkeSuite(Encr.AES_GCM_16, 128, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519)
CHILD_SUITE = ChildSuite(Encr.AES_GCM_16, 128, Integ.NONE, True)
LEFT, RIGHT = IPv4Address("10.1.0.1"), IPv4Address("10.99.0.2")
MAX_TURNS = 500


class End:
    """One side: its responder, and what its data plane carries."""

    def __init__(self, config: ResponderConfig, random: Random, now: float) -> None:
        self.responder = Responder(config, random.randbytes, now)
        self.events: list[Event] = []
        self.carried: dict[int, Child] = {}
        self.sending_on: list[int] = []
        """Inbound SPIs of the pairs whose outbound side was started, in that order."""
        self.refuse: IkeError | None = None
        """Why its data plane takes no child SA."""
        self._of: dict[IkeSa, set[int]] = {}

    def serve(self, now: float) -> bool:
        """Be the shell."""
        moved = False
        while (event := self.responder.next_event()) is not None:
            moved = True
            self.events.append(event)
            self._serve(event, now)
            if not isinstance(event, events.FirstRequestRefused):
                self.responder.touch(event.sa)
        return moved

    def _serve(self, event: Event, now: float) -> None:
        match event:
            case events.ChildReady(sa, child, outbound):
                if self.refuse is not None:
                    child_lifecycle.failed(sa, child.spi_in, self.refuse, now)
                    return
                self.carry(sa, child, outbound=outbound)
                child_lifecycle.installed(sa, child.spi_in, now)
            case events.ChildStarted(_, spi_in):
                assert spi_in in self.carried
                self.sending_on.append(spi_in)
            case events.SaRekeyed(old, new):
                self._of[new] = self._of.pop(old, set())
            case events.ChildDeleted(_, spi_in):
                self._drop(spi_in)
            case events.SaClosed(sa):
                for spi_in in self._of.pop(sa, set()):
                    self._drop(spi_in)
            case _:
                pass

    def carry(self, sa: IkeSa, child: Child, *, outbound: bool) -> None:
        """Install a child SA."""
        self.carried[child.spi_in] = child
        self._of.setdefault(sa, set()).add(child.spi_in)
        if outbound:
            self.sending_on.append(child.spi_in)

    def _drop(self, spi_in: int) -> None:
        self.carried.pop(spi_in, None)
        self.sending_on = [other for other in self.sending_on if other != spi_in]

    @property
    def sa(self) -> IkeSa:
        """The one IKE SA that is established."""
        (only,) = [sa for sa in self.responder.sas() if sa.state is State.ESTABLISHED]
        return only

    @property
    def live(self) -> list[Child]:
        """The child SAs of the established IKE SA that are neither deleted nor replaced."""
        return [child for child in self.sa.children.values() if child.is_live]

    def seen(self, kind: type[Any]) -> list[Any]:
        """All events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """Both ends, established, with one child SA, and the datagrams that are on their way."""

    def __init__(
        self, seed: int = 1, *, pfs: Group | None = None, additional: tuple[Group, ...] = (), **changes: Any
    ) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        config = responder_config(ike_rekey_s=1e9, dpd_interval_s=1e9, **changes)
        self.left, self.right = End(config, self.random, self.now), End(config, self.random, self.now)
        self.to_left: list[bytes] = []
        self.to_right: list[bytes] = []
        self._join(replace(SUITE, additional=additional), replace(CHILD_SUITE, group=pfs, additional=additional))

    def _join(self, ike_suite: IkeSuite, suite: ChildSuite) -> None:
        nonce_i, nonce_r = self.random.randbytes(32), self.random.randbytes(32)
        spi_i, spi_r = self.right.responder.new_ike_spi(), self.left.responder.new_ike_spi()
        keys = derive_ike_keys(ike_suite, self.random.randbytes(32), nonce_i, nonce_r, spi_i, spi_r)
        child_keys = derive_child_keys(ike_suite, suite, keys.d, nonce_i, nonce_r)
        spis = self.left.responder.new_child_spi(), self.right.responder.new_child_spi()
        paths = Path("192.0.2.1", 4500, "198.51.100.1", 4500), Path("198.51.100.1", 4500, "192.0.2.1", 4500)
        for end, own, other, path in (
            (self.left, LEFT, RIGHT, paths[0]),
            (self.right, RIGHT, LEFT, paths[1]),
        ):
            is_initiator = end is self.right
            sa = IkeSa(
                end.responder,
                end.responder.config,
                self.random.randbytes,
                spi_i=spi_i,
                spi_r=spi_r,
                suite=ike_suite,
                path=path,
                is_initiator=is_initiator,
            )
            sa.use_keys(keys)
            sa.assignment = Assignment(other, None, (IPv4Network(own),), ())
            child = Child(
                spi_in=spis[1] if is_initiator else spis[0],
                spi_out=spis[0] if is_initiator else spis[1],
                suite=suite,
                keys=child_keys,
                local_selectors=(TrafficSelector.from_address(own),),
                remote_selectors=(TrafficSelector.from_address(other),),
                lineage=end.responder.new_lineage(),
                initiated=is_initiator,
            )
            sa.children[child.spi_in] = child
            end.carry(sa, child, outbound=True)
            sa.resume(self.now, None, self.now)
            end.responder.adopt(sa)

    # --- The network ----------------------------------------------------------------------------------------

    def collect(self) -> bool:
        """Serve both shells and take up what they want sent."""
        moved = self.left.serve(self.now) | self.right.serve(self.now)
        for end, queue in ((self.left, self.to_right), (self.right, self.to_left)):
            queue += [datagram for datagram, _ in end.responder.datagrams_to_send()]
        return moved

    def deliver(self, end: End, index: int = 0) -> None:
        """Let one of the datagrams arrive that are on their way to an end."""
        queue = self.to_left if end is self.left else self.to_right
        self.arrive(end, queue.pop(index))

    def arrive(self, end: End, datagram: bytes) -> None:
        """Let this datagram arrive, again if need be."""
        path = (
            Path("192.0.2.1", 4500, "198.51.100.1", 4500)
            if end is self.left
            else Path("198.51.100.1", 4500, "192.0.2.1", 4500)
        )
        end.responder.receive_datagram(datagram, path, self.now)
        self.collect()

    def run(self) -> None:
        """Deliver everything, in order, until nothing is on its way."""
        self.collect()
        for _ in range(MAX_TURNS):
            if self.to_left:
                self.deliver(self.left)
            if self.to_right:
                self.deliver(self.right)
            if not self.to_left and not self.to_right:
                return
        raise AssertionError("the ends go on for ever")

    def advance(self, seconds: float, *, running: bool = True) -> None:
        """Let time pass, serving each timer at its moment."""
        until = self.now + seconds
        for _ in range(10 * MAX_TURNS):
            due = [t for t in (self.left.responder.get_timer(), self.right.responder.get_timer()) if t is not None]
            if not due or min(due) > until:
                self.now = until
                return
            self.now = max(self.now, min(due))
            for end in (self.left, self.right):
                end.responder.handle_timer(self.now)
            self.collect()
            if running:
                self.run()
        raise AssertionError("timers without an end")

    def do(self, end: End, what: Any) -> None:
        """Have one end begin an exchange; nothing is delivered."""
        sa = end.sa
        sa.initiate(what, self.now)
        end.responder.touch(sa)
        self.collect()

    # --- What must hold -------------------------------------------------------------------------------------

    def assert_agreed(self, children: int = 1) -> None:
        """Both ends have the same IKE SA and child SAs, with keys that fit, and send on what the other has."""
        left, right = self.left.sa, self.right.sa
        assert (left.spi_i, left.spi_r, left.keys, left.suite) == (right.spi_i, right.spi_r, right.keys, right.suite)
        assert left.is_initiator is not right.is_initiator
        mine, theirs = self.left.live, self.right.live
        assert len(mine) == len(theirs) == children
        for child in mine:
            (twin,) = [other for other in theirs if other.spi_in == child.spi_out]
            assert twin.spi_out == child.spi_in
            assert (twin.keys, twin.suite, twin.initiated) == (child.keys, child.suite, not child.initiated)
            assert twin.local_selectors == child.remote_selectors
            assert twin.remote_selectors == child.local_selectors
        for end in (self.left, self.right):
            assert set(end.carried) == {child.spi_in for child in end.live}
            assert set(end.sending_on) == set(end.carried)
            assert len(end.responder.sas()) == 1
            assert end.sa.waiting == ()
