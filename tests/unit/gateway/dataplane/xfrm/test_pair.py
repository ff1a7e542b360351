"""One child SA in the kernel, as it is wanted and as it is observed; lineages and reqids."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.dataplane.interface import ChildSa, Counters, DataPlaneError, EspLifetime
from gateway.dataplane.lifetime import LAST_SEQUENCE, SOFT_SEQUENCE
from gateway.dataplane.xfrm.lineages import Lineage, Reqids
from gateway.dataplane.xfrm.pair import Pair
from gateway.dataplane.xfrm.policies import Claim, Template
from gateway.dataplane.xfrm.states import Replay, State, StateId, Usage
from gateway.dataplane.xfrm.structures import Direction
from tests.unit.gateway.dataplane.sides import CLIENT, CLIENT_SPI, GATEWAY, GATEWAY_SPI, child_sa, selectors

REQID = 0x6F000001
LOCAL, REMOTE = ip_address(GATEWAY[0]), ip_address(CLIENT[0])


def pair(child: ChildSa | None = None) -> Pair:
    return Pair(child or child_sa(), REQID, 0)


def state(
    *,
    packets: int,
    octets: int = 0,
    last_used_at: int | None = None,
    replays: int = 0,
    failures: int = 0,
    added_at: int = 1000,
    replay: Replay | None = None,
) -> State:
    usage = Usage(octets, packets, added_at, added_at)
    return State(StateId(LOCAL, GATEWAY_SPI), REMOTE, REQID, usage, replays, failures, last_used_at, replay, True)


# --- As it is wanted ----------------------------------------------------------------------------------------


def test_states_of_both_directions() -> None:
    inward, outward = pair().states()
    assert (inward.id, inward.source) == (StateId(LOCAL, GATEWAY_SPI), REMOTE)
    assert (outward.id, outward.source) == (StateId(REMOTE, CLIENT_SPI), LOCAL)
    assert (inward.keys, outward.keys) == (child_sa().keys_in, child_sa().keys_out)
    assert (inward.encapsulation, outward.encapsulation) == ((CLIENT[1], GATEWAY[1]), (GATEWAY[1], CLIENT[1]))
    assert (inward.mapping_interval_s, outward.mapping_interval_s) == (1, None)
    assert inward.replay == outward.replay == Replay(64)
    # Without extended numbers a life ends with them.
    assert inward.lifetime == EspLifetime(soft_packets=SOFT_SEQUENCE, hard_packets=LAST_SEQUENCE)
    inward, outward = pair(child_sa(udp=False)).states()
    assert inward.encapsulation is outward.encapsulation is None


def test_states_go_on_where_the_earlier_ones_ended() -> None:
    was_in, was_out = state(packets=5, replay=Replay(64, 0, 9, b"12345678")), state(packets=7, replay=Replay(64, 7))
    inward, outward = pair().states((was_in, was_out))
    assert (inward.replay, inward.usage) == (was_in.replay, was_in.usage)
    assert (outward.replay, outward.usage) == (was_out.replay, was_out.usage)


def test_states_never_begin_anew_under_the_same_keys() -> None:
    known = state(packets=5, replay=Replay(64, 5))
    for carried in ((known, state(packets=5)), (state(packets=5), known)):
        with pytest.raises(ValueError, match="without sequence numbers"):
            pair().states(carried)


def test_a_soft_lifetime_that_was_told_does_not_come_again() -> None:
    one = pair(child_sa(lifetime=EspLifetime(1, 2, 3, 4, 5, 6)))
    assert one.states()[0].lifetime == EspLifetime(1, 2, 3, 4, 5, 6)
    one.soft_told = True
    assert one.states()[0].lifetime == EspLifetime(hard_s=2, hard_packets=4, hard_bytes=6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spi_in": 255}, "SPI 0xff is reserved"),
        ({"spi_out": 0}, "SPI 0x0 is reserved"),
        ({"spi_in": 1 << 32}, "reserved or too large"),
        ({"local_selectors": ()}, "no traffic selectors"),
        ({"remote_selectors": ()}, "no traffic selectors"),
        ({"replay_window_packets": 63}, "a replay window has 64 to 4096 packets"),
        ({"replay_window_packets": 4097}, "a replay window has 64 to 4096 packets"),
    ],
)
def test_what_can_not_work_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(DataPlaneError, match=f"child SA [0-9a-f]+: .*{reason}"):
        pair(replace(child_sa(), **change))  # type: ignore[arg-type]


def test_policies_within_restrictions() -> None:
    one = pair(child_sa(inside=selectors("10.1.0.0/16"), client=selectors("10.99.0.2")))
    everything = pair(child_sa(inside=selectors("10.1.0.0/16"), client=selectors("10.99.0.2"))).policy_keys()
    narrow = pair(child_sa(inside=selectors("10.1.7.0/24"), client=selectors("10.99.0.2"))).policy_keys()
    assert one.policy_keys() == one.policy_keys([selectors("10.0.0.0/8", "10.1.7.0/24")]) == everything
    assert one.policy_keys([selectors("10.1.7.0/24", "10.2.0.0/16")]) == narrow
    assert one.policy_keys([selectors("10.1.0.0/16"), selectors("10.1.7.0/24")]) == narrow
    assert one.policy_keys([selectors("10.2.0.0/16")]) == one.policy_keys([()]) == frozenset()


def test_a_restriction_that_the_kernel_can_not_say_is_refused() -> None:
    one = pair(child_sa(inside=selectors("0.0.0.0/0")))
    networks = selectors(*(f"{number}.0.0.0/8" for number in range(1, 13)))
    ranges = tuple(replace(one, start=one.start + 1, end=one.end - 1) for one in networks)
    with pytest.raises(DataPlaneError, match="more than 1536 kernel policies"):
        one.policy_keys([ranges])


# --- As it is observed --------------------------------------------------------------------------------------


def test_counters_are_the_kernels() -> None:
    one = pair()
    inward, outward = state(packets=3, octets=300, replays=1, failures=2), state(packets=4, octets=400)
    assert one.observe(inward, outward, 50.0, lambda: 1050.0) == Counters(300, 3, 400, 4, 50.0, 1, 2)
    # Where the kernel says nothing, what it said last counts.
    assert one.observe(None, None, 60.0, lambda: 1060.0) == one.counters == Counters(300, 3, 400, 4, 50.0, 1, 2)


def test_a_packet_came_when_the_kernel_says() -> None:
    one = pair()
    assert one.observe(state(packets=1, last_used_at=1040), None, 50.0, lambda: 1050.0).last_in_s == 40.0
    # Not again: the same packets.
    assert one.observe(state(packets=1, last_used_at=1040), None, 70.0, lambda: 1070.0).last_in_s == 40.0


def test_a_wall_clock_that_was_set_moves_no_packet_out_of_its_time() -> None:
    one = pair()
    one.observe(state(packets=1, last_used_at=1000), None, 10.0, lambda: 1000.0)
    assert one.observe(state(packets=2, last_used_at=1005), None, 20.0, lambda: 90_000.0).last_in_s == 10.0
    assert one.observe(state(packets=3, last_used_at=90_000), None, 30.0, lambda: 5.0).last_in_s == 30.0


def test_a_kernel_that_does_not_say_when_is_asked_whether() -> None:
    one = pair()
    assert one.observe(state(packets=0), None, 10.0, lambda: 0.0).last_in_s == 0.0
    assert one.observe(state(packets=2), None, 20.0, lambda: 0.0).last_in_s == 20.0
    assert one.observe(state(packets=2), None, 30.0, lambda: 0.0).last_in_s == 20.0


def test_drops_are_counted_on_over_a_move() -> None:
    one = pair()
    one.observe(state(packets=3, replays=1, failures=2), None, 10.0, lambda: 0.0)
    one.move(replace(child_sa().endpoints, remote=ip_address("203.0.113.1")))
    assert one.id_out == StateId(ip_address("203.0.113.1"), CLIENT_SPI)
    counters = one.observe(state(packets=4, replays=1), None, 20.0, lambda: 0.0)
    assert (counters.packets_in, counters.replays, counters.failures) == (4, 2, 2)


@pytest.mark.parametrize(
    ("lifetime", "beyond"),
    [
        (EspLifetime(soft_s=10), True),
        (EspLifetime(soft_s=11), False),
        (EspLifetime(soft_packets=5), True),
        (EspLifetime(soft_packets=6), False),
        (EspLifetime(soft_bytes=500), True),
        (EspLifetime(soft_bytes=501), False),
        (EspLifetime(), False),
    ],
)
def test_whether_a_state_is_beyond_its_soft_lifetime(lifetime: EspLifetime, beyond: bool) -> None:
    one = pair(child_sa(lifetime=lifetime))
    assert one.soft_limit_reached(state(packets=5, octets=500, added_at=1000), 1010.0) is beyond


# --- Lineages -----------------------------------------------------------------------------------------------


def test_a_lineage_claims_what_its_newest_pair_needs_and_sends_by_the_newest_that_may() -> None:
    old = pair(child_sa(inside=selectors("10.0.0.0/8")))
    new = pair(child_sa(inside=selectors("10.1.0.0/16"), spis=(GATEWAY_SPI + 1, CLIENT_SPI + 1)))
    lineage = Lineage(1, REQID)
    assert lineage.claim() is None
    lineage.add(old, sends=True)
    by_old, by_new = (Template(REQID, LOCAL, REMOTE, spi) for spi in (CLIENT_SPI, CLIENT_SPI + 1))
    assert lineage.claim() == Claim(REQID, old.policy_keys(), by_old)
    lineage.add(new, sends=False)
    assert lineage.claim() == Claim(REQID, new.policy_keys(), by_old)
    lineage.start(new)
    assert lineage.claim() == Claim(REQID, new.policy_keys(), by_new)
    lineage.hold(new)
    assert lineage.claim() == Claim(REQID, new.policy_keys(), by_old)
    lineage.remove(old)
    assert lineage.claim() == Claim(REQID, new.policy_keys(), None)
    lineage.remove(new)
    assert lineage.claim() is None


def test_a_restriction_of_one_holds_for_all_while_that_one_is_there() -> None:
    old = pair(child_sa(inside=selectors("10.0.0.0/8")))
    new = pair(child_sa(inside=selectors("10.0.0.0/8"), spis=(GATEWAY_SPI + 1, CLIENT_SPI + 1)))
    narrow = pair(child_sa(inside=selectors("10.1.0.0/16"))).policy_keys()
    lineage = Lineage(1, REQID)
    lineage.add(old, sends=True)
    old.restriction = selectors("10.1.0.0/16")
    lineage.add(new, sends=True)
    for restriction, keys in (
        (selectors("10.1.0.0/16"), narrow),
        (selectors("10.0.0.0/8"), new.policy_keys()),
        ((), frozenset()),
    ):
        old.restriction = restriction
        claim = lineage.claim()
        assert claim is not None
        assert claim.keys == keys
    lineage.remove(old)
    claim = lineage.claim()
    assert claim is not None
    assert claim.keys == new.policy_keys()


def test_inward_a_claim_demands_its_reqid() -> None:
    claim = Claim(REQID, pair().policy_keys(), None)
    assert claim.template(Direction.IN) == claim.template(Direction.FWD) == Template(REQID)
    assert claim.template(Direction.OUT) is None


def test_reqids_bear_the_gateways_number() -> None:
    reqids = Reqids(111)
    assert reqids.take(5) == 0x6F000005
    assert reqids.take(0x1000005) == 0x6F000006
    assert reqids.take(0x1000000) == 0x6F000001
    reqids.give_back(0x6F000005)
    assert reqids.take(5) == 0x6F000005
    assert 0x6F123456 in reqids
    assert 0x6E123456 not in reqids
    assert 5 not in reqids
    assert None not in reqids
