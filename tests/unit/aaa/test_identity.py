from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.backend.identity import certificate_holder, limiter_key, shown, user_candidates


@pytest.mark.parametrize(
    ("identity", "candidates"),
    [
        ("alice", ("alice",)),
        (" Alice ", ("alice",)),
        ("EXAMPLE\\alice", ("alice",)),
        ("alice@example.org", ("alice@example.org", "alice")),
        ("A\\B\\alice@x@y", ("alice@x@y", "alice")),
        ("", ()),
        ("   ", ()),
        ("EXAMPLE\\", ()),
        ("@example.org", ("@example.org",)),
        ("alice\0", ()),
        ("ali\nce", ()),
        ("\udcff", ()),
        ("a" * 254, ()),
    ],
)
def test_user_candidates(identity: str, candidates: tuple[str, ...]) -> None:
    assert user_candidates(identity) == candidates


def test_all_spellings_have_one_key() -> None:
    spellings = ["alice", "ALICE", "X\\alice", "Y\\Alice@example.org", "alice@other.example"]
    assert {limiter_key(spelling) for spelling in spellings} == {"alice"}
    assert limiter_key("\0") == ""


@given(st.text(max_size=400))
def test_what_is_shown_is_short_and_prints(text: str) -> None:
    result = shown(text, 100)
    assert len(result) <= 100
    assert result.isprintable()
    assert bool(result) == bool(text)
    result.encode()


@given(st.text(max_size=300))
def test_no_identity_raises(identity: str) -> None:
    for candidate in user_candidates(identity):
        assert candidate.isprintable()
        assert candidate
    certificate_holder(identity)


def test_the_name_of_a_windows_machine() -> None:
    assert certificate_holder("host/pc.example.org") == "pc.example.org"
    assert certificate_holder("HOST/pc") == "pc"
    assert certificate_holder(" pc ") == "pc"
