"""Traffic selectors: codec, and narrowing as a property: nothing gets in that both sides did not allow."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.errors import InvalidSyntax
from gateway.ike.selectors import (
    MAX_SELECTORS,
    TS_IPV4_ADDR_RANGE,
    TS_IPV6_ADDR_RANGE,
    TrafficSelector,
    narrow,
    parse_selectors,
    selectors_to_bytes,
)

ANY4 = TrafficSelector.from_network(IPv4Network("0.0.0.0/0"))
ANY6 = TrafficSelector.from_network(IPv6Network("::/0"))


def ordered(most: int) -> st.SearchStrategy[list[int]]:
    """Two numbers, the smaller first."""
    return st.lists(st.integers(0, most), min_size=2, max_size=2).map(sorted)


def selector_of(ts_type: int, most: int) -> st.SearchStrategy[TrafficSelector]:
    return st.builds(
        lambda protocol, ports, addresses: TrafficSelector(ts_type, protocol, *ports, *addresses),
        st.sampled_from([0, 1, 6, 17]),
        ordered(65535),
        ordered(most),
    )


# A few addresses only, so that ranges meet often.
small = st.one_of(selector_of(TS_IPV4_ADDR_RANGE, 20), selector_of(TS_IPV6_ADDR_RANGE, 20))
wide = st.one_of(selector_of(TS_IPV4_ADDR_RANGE, 2**32 - 1), selector_of(TS_IPV6_ADDR_RANGE, 2**128 - 1))
several = st.lists(small, min_size=1, max_size=5).map(tuple)

Packet = tuple[int, int, int, int]
packets = st.tuples(
    st.sampled_from([TS_IPV4_ADDR_RANGE, TS_IPV6_ADDR_RANGE]),
    st.sampled_from([1, 6, 17]),
    st.integers(0, 65535),
    st.integers(0, 20),
)


def covers(selectors: tuple[TrafficSelector, ...], packet: Packet) -> bool:
    """Whether one of them lets the packet (address family, protocol, port, address) through."""
    ts_type, protocol, port, address = packet
    return any(
        s.ts_type == ts_type
        and s.protocol in (0, protocol)
        and s.start_port <= port <= s.end_port
        and s.start <= address <= s.end
        for s in selectors
    )


class TestCodec:
    @given(st.lists(wide, min_size=1, max_size=MAX_SELECTORS).map(tuple))
    def test_round_trip(self, selectors: tuple[TrafficSelector, ...]) -> None:
        assert parse_selectors(selectors_to_bytes(selectors)) == selectors

    @given(st.lists(wide, min_size=1, max_size=3).map(tuple))
    def test_every_truncation_is_invalid(self, selectors: tuple[TrafficSelector, ...]) -> None:
        encoded = selectors_to_bytes(selectors)
        for size in range(len(encoded)):
            with pytest.raises(InvalidSyntax):
                parse_selectors(encoded[:size])

    @given(st.binary(max_size=120))
    def test_whatever_comes_it_parses_or_raises_the_one_error(self, data: bytes) -> None:
        try:
            selectors = parse_selectors(data)
        except InvalidSyntax:
            return
        assert len(selectors) <= MAX_SELECTORS

    def test_layout(self) -> None:
        # RFC 7296 section 3.13.1: TCP port 22 of 10.0.0.0 to 10.0.0.255.
        data = bytes.fromhex("0100000007060010001600160a0000000a0000ff")
        (selector,) = parse_selectors(data)
        assert str(selector) == "10.0.0.0-10.0.0.255 protocol 6 port 22-22"

    @pytest.mark.parametrize(
        "text",
        [
            "00000000",  # no selector
            "0200000007000010000000000a0000000a0000ff",  # one less than it says
            "0100000007000010000000000a0000000a0000ff00",  # a byte more
            "0100000007000000000000000a0000000a0000ff",  # length 0
            "0100000007000008000000000a0000000a0000ff",  # no addresses
            "0100000008000010000000000a0000000a0000ff",  # IPv6 with addresses of IPv4
            "0100000007ffffff000000000a0000000a0000ff",
        ],
    )
    def test_what_does_not_fit(self, text: str) -> None:
        with pytest.raises(InvalidSyntax):
            parse_selectors(bytes.fromhex(text))

    def test_too_many(self) -> None:
        with pytest.raises(InvalidSyntax):
            parse_selectors(selectors_to_bytes((ANY4,) * (MAX_SELECTORS + 1)))

    def test_unknown_types_are_left_out(self) -> None:
        unknown = bytes.fromhex("0a00000c00000000deadbeef")
        assert parse_selectors(b"\x02\0\0\0" + unknown + ANY4.to_bytes()) == (ANY4,)

    def test_addresses_and_networks(self) -> None:
        assert str(TrafficSelector.from_address(IPv4Address("192.0.2.1"))) == "192.0.2.1-192.0.2.1"
        assert str(TrafficSelector.from_address(IPv6Address("2001:db8::1"))) == "2001:db8::1-2001:db8::1"
        assert str(TrafficSelector.from_network(IPv4Network("10.0.0.0/8"))) == "10.0.0.0-10.255.255.255"
        assert (ANY4.version, ANY6.version) == (4, 6)


class TestNarrowing:
    @given(several, several, packets)
    def test_lets_through_exactly_what_both_allow(
        self, proposed: tuple[TrafficSelector, ...], allowed: tuple[TrafficSelector, ...], packet: Packet
    ) -> None:
        assert covers(narrow(proposed, allowed), packet) == (covers(proposed, packet) and covers(allowed, packet))

    @given(several, several)
    def test_repeats_nothing(
        self, proposed: tuple[TrafficSelector, ...], allowed: tuple[TrafficSelector, ...]
    ) -> None:
        found = narrow(proposed, allowed)
        for one in found:
            assert not any(other.intersect(one) == one for other in found if other is not one)

    @given(several)
    def test_everything_allowed_changes_nothing_that_matters(self, proposed: tuple[TrafficSelector, ...]) -> None:
        again = narrow(narrow(proposed, (ANY4, ANY6)), (ANY4, ANY6))
        assert set(again) == set(narrow(proposed, (ANY4, ANY6)))

    @given(small, small)
    def test_order_does_not_matter(self, one: TrafficSelector, other: TrafficSelector) -> None:
        assert one.intersect(other) == other.intersect(one)

    def test_a_client_gets_its_own_address_only(self) -> None:
        own = TrafficSelector.from_address(IPv4Address("10.99.0.7"))
        assert narrow((ANY4, ANY6), (own,)) == (own,)
        assert narrow((TrafficSelector.from_address(IPv4Address("10.99.0.8")),), (own,)) == ()

    def test_the_packet_that_started_it_comes_first_and_is_covered(self) -> None:
        # Section 2.9: the first selector of a client may be the one packet that it wants to send.
        packet = TrafficSelector(TS_IPV4_ADDR_RANGE, 6, 443, 443, 10, 10)
        assert narrow((packet, ANY4), (ANY4,)) == (ANY4,)

    def test_opaque_ports_and_backward_ranges_match_nothing(self) -> None:
        opaque = TrafficSelector(TS_IPV4_ADDR_RANGE, 0, 65535, 0, 0, 2**32 - 1)
        backward = TrafficSelector(TS_IPV4_ADDR_RANGE, 0, 0, 65535, 9, 3)
        assert narrow((opaque, backward), (ANY4,)) == ()

    def test_the_answer_has_a_limit(self) -> None:
        one_each = tuple(TrafficSelector.from_address(IPv4Address(n * 2)) for n in range(MAX_SELECTORS))
        networks = (ANY4, TrafficSelector(TS_IPV4_ADDR_RANGE, 6, 0, 65535, 0, 2**32 - 1))
        assert len(narrow(one_each, networks)) == MAX_SELECTORS

    def test_no_client_can_make_the_gateway_compare_for_ever(self) -> None:
        """Many selectors, many networks, nothing that covers anything else: it took a minute for a tenth of this."""
        networks = tuple(TrafficSelector.from_network(IPv4Network((n << 8, 24))) for n in range(3000))
        offers = tuple(TrafficSelector(TS_IPV4_ADDR_RANGE, 0, n, n, 0, 2**32 - 1) for n in range(MAX_SELECTORS))
        assert len(narrow(offers, networks)) == MAX_SELECTORS
