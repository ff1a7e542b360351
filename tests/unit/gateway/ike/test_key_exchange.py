"""Diffie-Hellman: vectors of the RFCs, primes compared with OpenSSL's, and public values that must be refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM1024PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.ike.constants import Group
from gateway.ike.crypto import key_exchange, modp
from gateway.ike.errors import InvalidSyntax
from gateway.ike.policy import MODERN
from tests.unit.gateway.ike.vectors import named

CURVES: dict[Group, ec.EllipticCurve] = {
    Group.ECP_256: ec.SECP256R1(),
    Group.ECP_384: ec.SECP384R1(),
    Group.ECP_521: ec.SECP521R1(),
}
MODP_GROUPS = (Group.MODP_2048, Group.MODP_3072, Group.MODP_4096)
SIZES = {14: 256, 15: 384, 16: 512, 19: 64, 20: 96, 21: 132, 31: 32}


def with_private_value(group: Group, value: bytes, monkeypatch: pytest.MonkeyPatch) -> key_exchange.KeyPair:
    """A key pair whose private value is the vector's."""
    pair = key_exchange.generate(group)
    private: X25519PrivateKey | ec.EllipticCurvePrivateKey
    if group is Group.CURVE25519:
        private = X25519PrivateKey.from_private_bytes(value)
    else:
        private = ec.derive_private_key(int.from_bytes(value, "big"), CURVES[group])
    monkeypatch.setattr(pair, "_private", private)
    return pair


@pytest.mark.parametrize("group", [Group.CURVE25519, Group.ECP_256, Group.ECP_384, Group.ECP_521])
@pytest.mark.parametrize(("own", "other"), [("i", "r"), ("r", "i")])
def test_shared_secrets(group: Group, own: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    v = named("rfc7748.txt") | named("rfc5903.txt")
    pair = with_private_value(group, v[f"{int(group)}.{own}"], monkeypatch)
    assert pair.shared_secret(v[f"{int(group)}.public_{other}"]) == v[f"{int(group)}.shared"]


@pytest.mark.parametrize("group", MODP_GROUPS)
def test_primes_are_openssls(group: Group) -> None:
    assert modp.prime(group) == int.from_bytes(named("rfc3526.txt")[str(int(group))], "big")


@pytest.mark.parametrize("group", MODERN.groups)
def test_both_sides_agree(group: Group) -> None:
    one, other = key_exchange.generate(group), key_exchange.generate(group)
    assert len(one.public) == key_exchange.public_value_bytes(group) == SIZES[group]
    assert one.public != other.public
    shared = one.shared_secret(other.public)
    assert shared == other.shared_secret(one.public)
    assert len(shared) == (SIZES[group] // 2 if group in CURVES else SIZES[group])


@pytest.mark.parametrize("group", MODERN.groups)
def test_a_value_of_the_wrong_length(group: Group) -> None:
    pair = key_exchange.generate(group)
    public = key_exchange.generate(group).public
    for wrong in (b"", public[:-1], public + b"\0", b"\0" + public, bytes(2 * len(public))):
        with pytest.raises(InvalidSyntax):
            pair.shared_secret(wrong)


@pytest.mark.parametrize("group", MODP_GROUPS)
def test_modp_values_that_leak_or_fix_the_secret(group: Group) -> None:
    pair, prime = key_exchange.generate(group), modp.prime(group)
    for value in (0, 1, prime - 1, prime, prime + 1, (1 << 8 * SIZES[group]) - 1):
        with pytest.raises(InvalidSyntax):
            pair.shared_secret(value.to_bytes(SIZES[group], "big"))


@pytest.mark.parametrize("group", CURVES)
def test_ecp_values_that_are_not_on_the_curve(group: Group) -> None:
    pair = key_exchange.generate(group)
    good = bytearray(key_exchange.generate(group).public)
    half = len(good) // 2
    off_the_curve = [
        bytes(len(good)),
        b"\xff" * len(good),
        bytes(good[half:] + good[:half]),
        bytes(good[:-1] + bytes((good[-1] ^ 1,))),
    ]
    for public in off_the_curve:
        with pytest.raises(InvalidSyntax):
            pair.shared_secret(public)


@pytest.mark.parametrize(
    "point",
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ],
)
def test_curve25519_points_of_low_order_give_no_secret(point: str) -> None:
    # The seven of the list at cr.yp.to/ecdh.html#validate that fit in 255 bits; the result would be all zero.
    with pytest.raises(InvalidSyntax):
        key_exchange.generate(Group.CURVE25519).shared_secret(bytes.fromhex(point))


def test_a_fresh_key_for_each_sa() -> None:
    assert len({key_exchange.generate(Group.CURVE25519).public for _ in range(50)}) == 50


@pytest.mark.parametrize("group", [Group.MODP_1024, Group.MODP_1536, Group.ML_KEM_512, Group.NONE])
def test_what_is_not_implemented_is_no_key_pair(group: Group) -> None:
    with pytest.raises(KeyError):
        key_exchange.generate(group)
    with pytest.raises(KeyError):
        key_exchange.respond(group, bytes(800))
    with pytest.raises(KeyError):
        key_exchange.public_value_bytes(group)


@pytest.mark.parametrize("group", MODERN.groups + MODERN.additional)
def test_the_responder_in_one_step(group: Group) -> None:
    pair = key_exchange.generate(group)
    answer, shared = key_exchange.respond(group, pair.public)
    assert pair.shared_secret(answer) == shared
    assert len(pair.public) == key_exchange.public_value_bytes(group)
    with pytest.raises(InvalidSyntax):
        key_exchange.respond(group, pair.public[:-1])


ML_KEM: dict[Group, tuple[type[MLKEM768PrivateKey | MLKEM1024PrivateKey], int, int]] = {
    Group.ML_KEM_768: (MLKEM768PrivateKey, 1184, 1088),
    Group.ML_KEM_1024: (MLKEM1024PrivateKey, 1568, 1568),
}


class TestMlKem:
    @pytest.mark.parametrize("group", ML_KEM)
    def test_known_answers(self, group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
        v, number = named("ml-kem.txt"), int(group)
        private = ML_KEM[group][0].from_seed_bytes(v[f"{number}.seed"])
        assert private.public_key().public_bytes_raw() == v[f"{number}.ek"]
        pair = key_exchange.generate(group)
        monkeypatch.setattr(pair, "_private", private)
        assert pair.shared_secret(v[f"{number}.ct"]) == v[f"{number}.ss"]
        assert pair.shared_secret(v[f"{number}.ct_bad"]) == v[f"{number}.ss_bad"]
        # The responder's part is random: what it makes for the vector's key, the vector's key must open.
        answer, shared = key_exchange.respond(group, v[f"{number}.ek"])
        assert pair.shared_secret(answer) == shared

    @pytest.mark.parametrize("group", ML_KEM)
    def test_sizes(self, group: Group) -> None:
        _, key_bytes, ciphertext_bytes = ML_KEM[group]
        pair = key_exchange.generate(group)
        answer, shared = key_exchange.respond(group, pair.public)
        assert (len(pair.public), len(answer), len(shared)) == (key_bytes, ciphertext_bytes, 32)

    @pytest.mark.parametrize("group", ML_KEM)
    def test_no_other_length_is_taken(self, group: Group) -> None:
        pair = key_exchange.generate(group)
        answer, _ = key_exchange.respond(group, pair.public)
        for wrong in (b"", answer[:-1], answer + b"\0", bytes(800), bytes(768)):
            with pytest.raises(InvalidSyntax):
                pair.shared_secret(wrong)
        for wrong in (b"", pair.public[:-1], pair.public + b"\0", bytes(800), bytes(32)):
            with pytest.raises(InvalidSyntax):
                key_exchange.respond(group, wrong)

    @pytest.mark.parametrize("group", ML_KEM)
    def test_a_key_whose_coefficients_are_not_reduced(self, group: Group) -> None:
        # FIPS 203 section 7.2, the modulus check: 12 bits hold up to 4095, the modulus is 3329.
        good = key_exchange.generate(group).public
        with pytest.raises(InvalidSyntax):
            key_exchange.respond(group, b"\xff\xff" + good[2:])

    @pytest.mark.parametrize("group", ML_KEM)
    def test_a_ciphertext_that_was_changed_gives_another_secret(self, group: Group) -> None:
        pair = key_exchange.generate(group)
        answer, shared = key_exchange.respond(group, pair.public)
        other = pair.shared_secret(bytes((answer[0] ^ 1,)) + answer[1:])
        assert len(other) == 32
        assert other != shared
