import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.eap.errors import EapError, LimitExceeded, MalformedPacket
from aaa.eap.tls_fragments import ACKNOWLEDGEMENT, Fragmenter, Reassembler, split_fragment


def reassemble(fragments: list[bytes], max_bytes: int = 65536) -> bytes | None:
    reassembler = Reassembler(max_bytes)
    message = None
    for fragment in fragments:
        assert message is None
        message = reassembler.add(*split_fragment(fragment))
    return message


def cut(message: bytes, size: int) -> list[bytes]:
    fragmenter = Fragmenter(message, size)
    fragments = [fragmenter.next()]
    while not fragmenter.done:
        fragments.append(fragmenter.next())
    return fragments


@pytest.mark.parametrize(
    ("message", "size", "fragments"),
    [
        (b"", 4, ["00"]),
        (b"abcd", 4, ["0061626364"]),
        (b"abcde", 4, ["c00000000561626364", "0065"]),
        (b"abcdefghi", 4, ["c00000000961626364", "4065666768", "0069"]),
        (b"abcdefgh", 4, ["c00000000861626364", "0065666768"]),
    ],
)
def test_fragments_on_the_wire(message: bytes, size: int, fragments: list[str]) -> None:
    assert [fragment.hex() for fragment in cut(message, size)] == fragments
    assert reassemble([bytes.fromhex(fragment) for fragment in fragments]) == message


@given(st.binary(max_size=300), st.integers(1, 64))
def test_round_trip(message: bytes, size: int) -> None:
    fragments = cut(message, size)
    assert all(len(fragment) <= size + 5 for fragment in fragments)
    assert reassemble(fragments) == message


def test_one_reassembler_takes_message_after_message() -> None:
    reassembler = Reassembler(12)
    for message in (b"first", b"", b"second"):
        for fragment in cut(message, 3)[:-1]:
            assert reassembler.add(*split_fragment(fragment)) is None
        assert reassembler.add(*split_fragment(cut(message, 3)[-1])) == message
    with pytest.raises(LimitExceeded):
        reassembler.add(*split_fragment(ACKNOWLEDGEMENT + b"xx"))


def test_the_length_may_be_repeated_and_may_stand_in_a_whole_message() -> None:
    assert reassemble([bytes.fromhex("c0000000026f"), bytes.fromhex("80000000026b")]) == b"ok"
    assert reassemble([bytes.fromhex("80000000026f6b")]) == b"ok"
    assert reassemble([bytes.fromhex("1f6f6b")]) == b"ok"  # reserved bits


@pytest.mark.parametrize(
    "fragments",
    [
        [""],  # no flags
        ["80"],  # no length
        ["80000000"],
        ["406f"],  # the first of several without a length
        ["c000000002"],  # an empty fragment
        ["c0000000026f", "40"],
        ["c0000000026f", "c0000000036b"],  # two lengths
        ["c0000000026f", "006b6b"],  # more than announced
        ["c0000000036f", "006b"],  # less
        ["80000000036f6b"],
        ["80000000016f6b"],
        ["c0000000026f", "406b"],  # announces more when all is there
    ],
)
def test_fragments_that_do_not_fit(fragments: list[str]) -> None:
    with pytest.raises(MalformedPacket):
        reassemble([bytes.fromhex(fragment) for fragment in fragments])


def test_limits() -> None:
    with pytest.raises(LimitExceeded):
        reassemble([bytes.fromhex("c0ffffffff6f")])
    with pytest.raises(LimitExceeded):
        reassemble([b"\0" + bytes(101)], max_bytes=100)
    assert reassemble([b"\0" + bytes(100)], max_bytes=100) == bytes(100)


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_any_fragments_are_bounded_or_refused(fragments: list[bytes]) -> None:
    reassembler = Reassembler(16)
    total = 0
    try:
        for fragment in fragments:
            total += len(reassembler.add(*split_fragment(fragment)) or b"")
    except EapError:
        pass
    assert total <= 16
