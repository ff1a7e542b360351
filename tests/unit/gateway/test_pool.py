"""Address pools: what is given out, to whom again, and what happens when nothing is left."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import PoolSettings
from gateway.pool import REMEMBERED_DEVICES, AddressPool, Lease, PoolExhausted, Pools

NET4, NET6 = IPv4Network("10.99.0.0/29"), IPv6Network("fd99::/125")


def pool(ipv4: str | None = "10.99.0.0/29", ipv6: str | None = "fd99::/125", name: str = "people") -> AddressPool:
    """A small pool: five addresses of IPv4, six of IPv6."""
    return AddressPool(
        PoolSettings(name=name, ipv4=IPv4Network(ipv4) if ipv4 else None, ipv6=IPv6Network(ipv6) if ipv6 else None)
    )


def take4(source: AddressPool, holder: str) -> Lease:
    """An IPv4 address."""
    return source.lease(holder, wants_ipv4=True, wants_ipv6=False)


class TestAddresses:
    def test_the_first_one_is_the_gateways_and_the_last_one_broadcast(self) -> None:
        source = pool()
        given_out = [take4(source, str(n)).ipv4 for n in range(5)]
        assert given_out == [IPv4Address(f"10.99.0.{n}") for n in range(2, 7)]
        with pytest.raises(PoolExhausted):
            take4(source, "one more")

    def test_ipv6_has_no_broadcast(self) -> None:
        source = pool()
        given_out = [source.lease(str(n), wants_ipv4=False, wants_ipv6=True).ipv6 for n in range(6)]
        assert given_out == [IPv6Address(f"fd99::{n}") for n in range(2, 8)]
        with pytest.raises(PoolExhausted):
            source.lease("one more", wants_ipv4=False, wants_ipv6=True)

    @pytest.mark.parametrize(
        ("wants4", "wants6", "lease"),
        [
            (True, True, Lease("people", IPv4Address("10.99.0.2"), IPv6Address("fd99::2"))),
            (True, False, Lease("people", IPv4Address("10.99.0.2"), None)),
            (False, True, Lease("people", None, IPv6Address("fd99::2"))),
            (False, False, Lease("people", None, None)),
        ],
    )
    def test_the_families_that_are_wanted(self, wants4: bool, wants6: bool, lease: Lease) -> None:
        assert pool().lease("d", wants_ipv4=wants4, wants_ipv6=wants6) == lease

    def test_and_that_the_pool_has(self) -> None:
        assert pool(ipv6=None).lease("d", wants_ipv4=True, wants_ipv6=True).ipv6 is None
        assert pool(ipv4=None).lease("d", wants_ipv4=True, wants_ipv6=True).ipv4 is None

    def test_a_network_of_any_size(self) -> None:
        wide = pool(ipv4="10.0.0.0/8", ipv6="fd99::/64")
        lease = wide.lease("d", wants_ipv4=True, wants_ipv6=True)
        assert (lease.ipv4, lease.ipv6) == (IPv4Address("10.0.0.2"), IPv6Address("fd99::2"))


class TestHabits:
    def test_a_holder_gets_its_address_again(self) -> None:
        source = pool()
        first = take4(source, "laptop")
        take4(source, "phone")
        source.release(first)
        take4(source, "another")
        assert take4(source, "laptop") == first

    def test_unless_somebody_has_it(self) -> None:
        source = pool()
        first = take4(source, "laptop")
        second = take4(source, "laptop")
        assert first.ipv4 != second.ipv4
        source.release(first)
        source.release(second)
        # The one that it had last.
        assert take4(source, "laptop") == second

    def test_what_was_free_longest_goes_first(self) -> None:
        source = pool()
        leases = [take4(source, str(n)) for n in range(5)]
        for index in (3, 0, 4):
            source.release(leases[index])
        assert [take4(source, f"new {n}").ipv4 for n in range(3)] == [leases[n].ipv4 for n in (3, 0, 4)]

    def test_a_fresh_one_before_one_that_is_free_again(self) -> None:
        source = pool()
        source.release(take4(source, "laptop"))
        assert take4(source, "phone").ipv4 == IPv4Address("10.99.0.3")

    def test_returning_again_and_again_takes_no_memory(self) -> None:
        source = pool(ipv4="10.0.0.0/8", ipv6=None)
        for _ in range(1000):
            source.release(take4(source, "laptop"))
        (only,) = [source._ranges4]
        assert only is not None
        assert (len(only._released), len(only._remembered), only.used) == (1, 1, 0)

    def test_so_many_are_remembered_and_no_more(self) -> None:
        source = pool(ipv4="10.0.0.0/8", ipv6=None)
        for number in range(REMEMBERED_DEVICES + 10):
            source.release(take4(source, str(number)))
        assert source._ranges4 is not None
        assert len(source._ranges4._remembered) == REMEMBERED_DEVICES
        assert take4(source, str(REMEMBERED_DEVICES)).ipv4 == IPv4Address("10.0.0.0") + REMEMBERED_DEVICES + 2


class TestGivingBack:
    def test_twice_does_no_harm(self) -> None:
        source = pool()
        lease = take4(source, "laptop")
        source.release(lease)
        source.release(lease)
        assert len({take4(source, str(n)).ipv4 for n in range(5)}) == 5

    def test_nothing_is_taken_when_one_family_has_none_left(self) -> None:
        source = pool(ipv4="10.99.0.0/24", ipv6="fd99::/126")
        for number in range(2):
            source.lease(str(number), wants_ipv4=True, wants_ipv6=True)
        assert source.leased == 2
        with pytest.raises(PoolExhausted):
            source.lease("third", wants_ipv4=True, wants_ipv6=True)
        assert source.leased == 2
        assert take4(source, "fourth").ipv4 == IPv4Address("10.99.0.5")

    def test_leased_counts_sessions(self) -> None:
        source = pool()
        both = source.lease("a", wants_ipv4=True, wants_ipv6=True)
        source.lease("b", wants_ipv4=False, wants_ipv6=True)
        assert source.leased == 2
        source.release(both)
        assert source.leased == 1


class TestPools:
    SETTINGS = (
        PoolSettings(name="people", ipv4=NET4),
        PoolSettings(name="quarantine", ipv4=IPv4Network("10.98.0.0/29")),
    )

    def test_the_first_one_serves_who_names_none(self) -> None:
        pools = Pools(self.SETTINGS)
        assert pools.get(None).name == "people"
        assert pools.get("quarantine").name == "quarantine"

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(PoolExhausted):
            Pools(self.SETTINGS).get("nowhere")
        with pytest.raises(PoolExhausted):
            Pools(()).get(None)

    def test_a_lease_goes_back_to_where_it_is_from(self) -> None:
        pools = Pools(self.SETTINGS)
        lease = take4(pools.get("quarantine"), "laptop")
        pools.release(lease)
        assert pools.get("quarantine").leased == 0
        pools.release(Lease("removed from the configuration", IPv4Address("10.97.0.2"), None))


steps = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), max_size=60)


@given(steps)
def test_no_address_is_given_to_two(actions: list[tuple[int, bool, bool]]) -> None:
    """Holders come and go in any order: what is out is out once, and all of it comes back."""
    source, out = pool(), list[Lease]()
    for holder, comes, wants6 in actions:
        if comes or not out:
            try:
                out.append(source.lease(str(holder), wants_ipv4=True, wants_ipv6=wants6))
            except PoolExhausted:
                assert len(out) >= 5
        else:
            source.release(out.pop(holder % len(out)))
        addresses = [a for lease in out for a in (lease.ipv4, lease.ipv6) if a is not None]
        assert len(set(addresses)) == len(addresses)
        assert all(a in NET4 if isinstance(a, IPv4Address) else a in NET6 for a in addresses)
    for lease in out:
        source.release(lease)
    assert source.leased == 0
    assert len({take4(source, f"fresh {n}").ipv4 for n in range(5)}) == 5
