"""IKE fragmentation: any order and repetition gives the message, a smaller cut replaces a larger, all is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.errors import InvalidSyntax
from gateway.ike.fragments import MAX_FRAGMENTS, MAX_REASSEMBLED_BYTES, Fragment, Reassembly, cut

FIRST_PAYLOAD = 35


def offer(reassembly: Reassembly, number: int, total: int, plain: bytes) -> Fragment | None:
    """A verified fragment, as the channel hands it in."""
    reassembly.check_numbers(number, total)
    if not reassembly.wants(number, total):
        return None
    first = FIRST_PAYLOAD if number == 1 else 0
    return reassembly.add(number, total, Fragment(first, plain, b"datagram %d" % number))


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=12), st.data())
def test_any_order_with_repetitions_gives_the_message_once(pieces: list[bytes], data: st.DataObject) -> None:
    total = len(pieces)
    needed = data.draw(st.permutations(range(total)))
    repeated = data.draw(st.lists(st.integers(0, total - 1), max_size=20))
    # Repetitions anywhere before the last missing one has come.
    arrivals = list(needed)
    for index in repeated:
        arrivals.insert(data.draw(st.integers(0, len(arrivals) - 1)), index)
    reassembly = Reassembly()
    whole = []
    for index in arrivals:
        found = offer(reassembly, index + 1, total, pieces[index])
        if found is not None:
            whole.append(found)
            break
    assert whole == [Fragment(FIRST_PAYLOAD, b"".join(pieces), b"datagram 1")]


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=2, max_size=8), st.data())
def test_nothing_comes_while_one_is_missing(pieces: list[bytes], data: st.DataObject) -> None:
    missing = data.draw(st.integers(0, len(pieces) - 1))
    reassembly = Reassembly()
    for index in data.draw(st.permutations(range(len(pieces)))):
        if index != missing:
            assert offer(reassembly, index + 1, len(pieces), pieces[index]) is None


def test_a_smaller_cut_replaces_the_set() -> None:
    reassembly = Reassembly()
    assert offer(reassembly, 1, 2, b"AAAA") is None
    assert offer(reassembly, 1, 3, b"AA") is None
    assert offer(reassembly, 2, 2, b"BBBB") is None
    assert offer(reassembly, 2, 3, b"AB") is None
    found = offer(reassembly, 3, 3, b"BB")
    assert found is not None
    assert found.plain == b"AAABBB"


def test_a_larger_cut_after_it_is_not_wanted() -> None:
    reassembly = Reassembly()
    offer(reassembly, 1, 3, b"AA")
    assert not reassembly.wants(1, 2)
    assert not reassembly.wants(2, 2)


def test_a_repetition_is_not_decrypted_again() -> None:
    reassembly = Reassembly()
    offer(reassembly, 1, 2, b"x")
    assert not reassembly.wants(1, 2)
    assert reassembly.wants(2, 2)


@pytest.mark.parametrize(
    ("number", "total"), [(0, 0), (0, 3), (4, 3), (1, 0), (1, MAX_FRAGMENTS + 1), (65535, 65535), (1, 65535)]
)
def test_numbers_that_no_honest_sender_makes(number: int, total: int) -> None:
    with pytest.raises(InvalidSyntax):
        Reassembly.check_numbers(number, total)


def test_what_is_collected_has_a_limit() -> None:
    reassembly = Reassembly()
    piece = bytes(MAX_REASSEMBLED_BYTES // 4)
    for number in range(1, 5):
        offer(reassembly, number, 10, piece)
    with pytest.raises(InvalidSyntax, match="too long"):
        offer(reassembly, 5, 10, b"one more")
    # And it is all forgotten.
    assert reassembly.wants(1, 2)


@given(st.binary(max_size=3000), st.integers(40, 1200))
def test_a_cut_message_comes_together_again(plain: bytes, room: int) -> None:
    def sealed(size: int) -> int:
        return 16 + -(-(size + 1) // 16) * 16 + 16

    try:
        pieces = cut(plain, room, sealed)
    except ValueError:
        assert room < 60 or len(plain) > 60 * MAX_FRAGMENTS / 4
        return
    assert b"".join(pieces) == plain
    assert all(sealed(len(piece)) + 4 <= room for piece in pieces)
    assert 1 <= len(pieces) <= MAX_FRAGMENTS


def test_a_message_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        cut(bytes(100_000), 600, lambda size: size + 25)
    with pytest.raises(ValueError, match="does not fit"):
        cut(b"x", 20, lambda size: size + 25)
