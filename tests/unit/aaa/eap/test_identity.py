import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.eap.errors import LimitExceeded
from aaa.eap.identity import MAX_IDENTITY_BYTES, decode_identity, without_domain


@pytest.mark.parametrize(
    ("data", "identity"),
    [
        (b"alice", "alice"),
        (b"", ""),
        (b"BIGCO\\alice", "BIGCO\\alice"),
        (b"alice@bigco.example", "alice@bigco.example"),
        ("müller".encode(), "müller"),
        ("müller".encode("latin-1"), "müller"),
        (b"alice\0", "alice"),
        (b"al\0ice\r\n", "al\ufffdice\ufffd\ufffd"),
        ("al\u202eice".encode(), "al\ufffdice"),
        (b"first last", "first last"),
    ],
)
def test_identities(data: bytes, identity: str) -> None:
    assert decode_identity(data) == identity


def test_the_longest_identity() -> None:
    assert decode_identity(b"a" * MAX_IDENTITY_BYTES) == "a" * 253
    with pytest.raises(LimitExceeded, match="254 bytes"):
        decode_identity(b"a" * (MAX_IDENTITY_BYTES + 1))


@given(st.binary(max_size=MAX_IDENTITY_BYTES))
def test_every_identity_is_printable(data: bytes) -> None:
    assert decode_identity(data).isprintable()


@pytest.mark.parametrize(
    ("name", "user"),
    [
        (b"alice", b"alice"),
        (b"BIGCO\\alice", b"alice"),
        (b"\\alice", b"alice"),
        (b"A\\B\\alice", b"B\\alice"),
        (b"alice@bigco.example", b"alice@bigco.example"),
        (b"", b""),
    ],
)
def test_without_domain(name: bytes, user: bytes) -> None:
    assert without_domain(name) == user
