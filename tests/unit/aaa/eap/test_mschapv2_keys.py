import pytest

from aaa.eap.des import des_encrypt, expand_key
from aaa.eap.md4 import md4
from aaa.eap.mschapv2_keys import (
    authenticator_response,
    challenge_hash,
    master_key,
    nt_password_hash,
    nt_response,
    session_key,
)
from tests.unit.aaa.eap.vectors import named, pairs

RFC_2759 = named("rfc2759.txt")
RFC_3079 = named("rfc3079.txt")


@pytest.mark.parametrize(("key", "with_parity"), pairs("rfc2759-des.txt"))
def test_des_keys_are_expanded_as_rfc_2759_shows(key: bytes, with_parity: bytes) -> None:
    assert expand_key(key) == bytes(byte & 0xFE for byte in with_parity)


def test_des_is_single_des() -> None:
    # The plaintext 0x0123456789ABCDE7 of NBS Special Publication 500-20, under a key without its parity bits.
    key = bytes.fromhex("0123456789abcdef")
    packed = int("".join(f"{byte >> 1:07b}" for byte in key), 2).to_bytes(7, "big")
    assert des_encrypt(packed, bytes.fromhex("0123456789abcde7")).hex() == "c95744256a5ed31d"


def test_nt_hash() -> None:
    assert nt_password_hash("clientPass") == RFC_2759["password_hash"]
    assert md4(RFC_2759["password_unicode"]) == RFC_2759["password_hash"]
    assert md4(RFC_2759["password_hash"]) == RFC_2759["password_hash_hash"]


@pytest.mark.parametrize("name", [b"User", b"BIGCO\\User"])
def test_challenge_hash_leaves_the_domain_out(name: bytes) -> None:
    hashed = challenge_hash(RFC_2759["peer_challenge"], RFC_2759["authenticator_challenge"], name)
    assert hashed == RFC_2759["challenge"]


def test_challenge_hash_keeps_the_realm() -> None:
    hashed = challenge_hash(RFC_2759["peer_challenge"], RFC_2759["authenticator_challenge"], b"User@bigco.example")
    assert hashed != RFC_2759["challenge"]


def test_nt_response() -> None:
    assert nt_response(RFC_2759["password_hash"], RFC_2759["challenge"]) == RFC_2759["nt_response"]


def test_authenticator_response() -> None:
    proof = authenticator_response(RFC_2759["password_hash_hash"], RFC_2759["nt_response"], RFC_2759["challenge"])
    assert proof == RFC_2759["authenticator_response"]


def test_keys_of_rfc_3079() -> None:
    assert master_key(RFC_3079["password_hash_hash"], RFC_3079["nt_response"]) == RFC_3079["master_key"]
    msk = session_key(RFC_3079["password_hash_hash"], RFC_3079["nt_response"])
    assert len(msk) == 64
    assert msk[16:32] == RFC_3079["send_start_key"]
    assert msk[32:] == bytes(32)
    # The receive key is not in the RFC; other implementations derive this one from the same values
    # (the Android Open Source Project tests its peer with it, as the send key).
    assert msk[:16].hex() == "d5f0e9521e3ea9589645e86051c82226"
