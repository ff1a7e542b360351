"""PRF, prf+ and the key schedule, against vectors of NIST, the RFCs and NSS, and against the formula itself."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.constants import Encr, Group, Integ, Prf
from gateway.ike.crypto.prf import PRF_BYTES, prf, prf_plus
from gateway.ike.keymat import (
    IkeKeys,
    derive_child_keys,
    derive_ike_keys,
    derive_intermediate_ike_keys,
    derive_rekeyed_ike_keys,
    derive_resumed_ike_keys,
    ike_key_sizes,
    mix_ppk,
)
from gateway.ike.policy import MODERN
from gateway.ike.proposals import ChildSuite, IkeSuite
from tests.unit.gateway.ike.vectors import named

NAMES = {Prf.HMAC_SHA2_256: "sha256", Prf.HMAC_SHA2_384: "sha384", Prf.HMAC_SHA2_512: "sha512"}
CBC = IkeSuite(Encr.AES_CBC, 256, Integ.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, Group.ECP_256)
SHA1 = IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA1, Group.ECP_256)
SHA384 = IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_384, Group.ECP_384)
NI, NR, SPI_I, SPI_R = b"i" * 32, b"r" * 32, b"I" * 8, b"R" * 8


def in_order(keys: IkeKeys) -> bytes:
    """As they are cut from prf+."""
    return b"".join((keys.d, keys.ai, keys.ar, keys.ei, keys.er, keys.pi, keys.pr))


def expanded(suite: IkeSuite, skeyseed: bytes) -> bytes:
    """prf+(SKEYSEED, Ni | Nr | SPIi | SPIr), by the formula."""
    return prf_plus(suite.prf, skeyseed, NI + NR + SPI_I + SPI_R, sum(ike_key_sizes(suite)))


@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("case", ["1", "2", "3"])
def test_prf_rfc_4231(algorithm: Prf, case: str) -> None:
    vectors = named("rfc4231.txt")
    expected = vectors[f"{case}.{NAMES[algorithm]}"]
    assert prf(algorithm, vectors[f"{case}.key"], vectors[f"{case}.data"]) == expected
    assert PRF_BYTES[algorithm] == len(expected)


@pytest.mark.parametrize("algorithm", NAMES)
def test_prf_nss(algorithm: Prf) -> None:
    vectors, name = named("nss-prf.txt"), NAMES[algorithm]
    assert prf(algorithm, vectors[f"{name}.key"], vectors[f"{name}.data"]) == vectors[f"{name}.prf"]


def test_prf_plus_nss() -> None:
    vectors = named("nss-prf.txt")
    output = prf_plus(Prf.HMAC_SHA2_256, vectors["sha256.key"], vectors["sha256.data"], 64)
    assert output == vectors["sha256.prf_plus"]


@given(st.sampled_from(list(NAMES)), st.binary(min_size=1, max_size=70), st.binary(max_size=300), st.integers(1, 600))
def test_prf_plus_is_the_formula_of_section_2_13(algorithm: Prf, key: bytes, seed: bytes, size: int) -> None:
    """T1 = prf(K, S | 1), T2 = prf(K, T1 | S | 2), ..."""
    output, block, counter = b"", b"", 0
    while len(output) < size:
        counter += 1
        block = hmac.digest(key, block + seed + bytes((counter,)), NAMES[algorithm])
        output += block
    assert prf_plus(algorithm, key, seed, size) == output[:size]


def test_prf_plus_has_an_end() -> None:
    most = 255 * 32
    assert len(prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", most)) == most
    with pytest.raises(ValueError, match="8160"):
        prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", most + 1)


class TestIkeKeys:
    def test_nist_cavp(self) -> None:
        v = named("cavp-ikev2-sha1.txt")
        assert prf(Prf.HMAC_SHA1, v["nonce_i"] + v["nonce_r"], v["g_ir"]) == v["skeyseed"]
        keys = derive_ike_keys(SHA1, v["g_ir"], v["nonce_i"], v["nonce_r"], v["spi_i"], v["spi_r"])
        # In the order of section 2.14; this suite happens to need the vector's 132 bytes.
        assert in_order(keys) == v["dkm"]
        assert [len(k) for k in (keys.d, keys.ei, keys.er, keys.pi, keys.pr)] == [20, 36, 36, 20, 20]

    @pytest.mark.parametrize("encr", MODERN.encr)
    @pytest.mark.parametrize("algorithm", MODERN.prf)
    def test_sizes(self, encr: tuple[Encr, int], algorithm: Prf) -> None:
        aead = encr[0] is not Encr.AES_CBC
        suite = IkeSuite(*encr, Integ.NONE if aead else Integ.HMAC_SHA2_384_192, algorithm, Group.ECP_256)
        keys = derive_ike_keys(suite, b"g" * 32, b"i" * 32, b"r" * 32, b"I" * 8, b"R" * 8)
        encryption = (encr[1] or 256) // 8 + (4 if aead else 0)
        assert [len(k) for k in (keys.ei, keys.er)] == [encryption] * 2
        assert [len(k) for k in (keys.ai, keys.ar)] == [0 if aead else 48] * 2
        assert [len(k) for k in (keys.d, keys.pi, keys.pr)] == [PRF_BYTES[algorithm]] * 3

    def test_no_key_in_a_repr(self) -> None:
        keys = derive_ike_keys(CBC, b"g" * 32, b"i" * 32, b"r" * 32, b"I" * 8, b"R" * 8)
        assert repr(keys) == "IkeKeys()"


class TestRekeyedIkeKeys:
    def test_nist_cavp(self) -> None:
        v = named("cavp-ikev2-sha1.txt")
        old = derive_ike_keys(SHA1, v["g_ir"], v["nonce_i"], v["nonce_r"], v["spi_i"], v["spi_r"])
        spis = v["spi_i"], v["spi_r"]
        keys = derive_rekeyed_ike_keys(SHA1, SHA1, old.d, v["g_ir_new"], v["nonce_i"], v["nonce_r"], *spis)
        seed = v["nonce_i"] + v["nonce_r"] + b"".join(spis)
        assert in_order(keys) == prf_plus(Prf.HMAC_SHA1, v["skeyseed_rekey"], seed, 132)

    def test_the_old_prf_makes_the_seed_and_the_new_one_the_keys(self) -> None:
        keys = derive_rekeyed_ike_keys(CBC, SHA384, b"d" * 32, b"g" * 48, NI, NR, SPI_I, SPI_R)
        seed = hmac.digest(b"d" * 32, b"g" * 48 + NI + NR, "sha256")
        assert in_order(keys) == expanded(SHA384, seed)
        assert len(keys.d) == 48

    def test_the_secrets_of_ike_followup_ke_come_last_and_in_order(self) -> None:
        more = (b"1" * 32, b"2" * 32)
        keys = derive_rekeyed_ike_keys(CBC, CBC, b"d" * 32, b"g" * 32, NI, NR, SPI_I, SPI_R, more)
        seed = hmac.digest(b"d" * 32, b"g" * 32 + NI + NR + b"1" * 32 + b"2" * 32, "sha256")
        assert in_order(keys) == expanded(CBC, seed)

    def test_after_ike_intermediate(self) -> None:
        keys = derive_intermediate_ike_keys(CBC, b"d" * 32, b"k" * 32, NI, NR, SPI_I, SPI_R)
        assert in_order(keys) == expanded(CBC, hmac.digest(b"d" * 32, b"k" * 32 + NI + NR, "sha256"))

    def test_resumed(self) -> None:
        keys = derive_resumed_ike_keys(CBC, b"d" * 32, NI, NR, SPI_I, SPI_R)
        assert in_order(keys) == expanded(CBC, hmac.digest(b"d" * 32, b"Resumption" + NI + NR, "sha256"))

    def test_ppk(self) -> None:
        keys = derive_ike_keys(CBC, b"g" * 32, NI, NR, SPI_I, SPI_R)
        mixed = mix_ppk(CBC, keys, b"a post-quantum pre-shared key of any length")

        def with_ppk(key: bytes) -> bytes:
            return hmac.digest(b"a post-quantum pre-shared key of any length", key + b"\x01", "sha256")

        assert (mixed.d, mixed.pi, mixed.pr) == (with_ppk(keys.d), with_ppk(keys.pi), with_ppk(keys.pr))
        # Those that protect the messages stay as they were.
        assert (mixed.ai, mixed.ar, mixed.ei, mixed.er) == (keys.ai, keys.ar, keys.ei, keys.er)


class TestChildKeys:
    @pytest.mark.parametrize(("shared", "expected"), [(None, "dkm_child"), ("g_ir_new", "dkm_child_ke")])
    def test_nist_cavp(self, shared: str | None, expected: str) -> None:
        v = named("cavp-ikev2-sha1.txt")
        child = ChildSuite(Encr.AES_GCM_16, 256, Integ.NONE, False)
        secret = v[shared] if shared else b""
        keys = derive_child_keys(SHA1, child, v["dkm"][:20], v["nonce_i"], v["nonce_r"], secret)
        assert keys.encr_i + keys.encr_r == v[expected][:72]

    def test_the_secrets_of_ike_followup_ke_come_last_and_in_order(self) -> None:
        child = ChildSuite(Encr.AES_GCM_16, 128, Integ.NONE, False, Group.ECP_256, (Group.ML_KEM_768,))
        keys = derive_child_keys(CBC, child, b"d" * 32, NI, NR, b"g" * 32, (b"1" * 32, b"2" * 32))
        seed = b"g" * 32 + NI + NR + b"1" * 32 + b"2" * 32
        assert keys.encr_i + keys.encr_r == HKDFExpand(hashes.SHA256(), 40, seed).derive(b"d" * 32)

    def test_the_initiators_direction_comes_first_and_encryption_before_integrity(self) -> None:
        child = ChildSuite(Encr.AES_CBC, 128, Integ.HMAC_SHA2_256_128, False)
        keys = derive_child_keys(CBC, child, b"d" * 32, b"i" * 32, b"r" * 32)
        material = HKDFExpand(hashes.SHA256(), 2 * (16 + 32), b"i" * 32 + b"r" * 32).derive(b"d" * 32)
        assert keys.encr_i + keys.integ_i + keys.encr_r + keys.integ_r == material
        assert (len(keys.encr_i), len(keys.integ_i)) == (16, 32)

    @pytest.mark.parametrize(
        ("suite", "size"),
        [
            (ChildSuite(Encr.AES_GCM_16, 128, Integ.NONE, True), 20),
            (ChildSuite(Encr.AES_GCM_16, 256, Integ.NONE, True), 36),
            (ChildSuite(Encr.CHACHA20_POLY1305, 0, Integ.NONE, True), 36),
        ],
    )
    def test_an_aeads_key_has_its_salt_at_the_end(self, suite: ChildSuite, size: int) -> None:
        keys = derive_child_keys(CBC, suite, b"d" * 32, b"i" * 32, b"r" * 32)
        assert (len(keys.encr_i), len(keys.encr_r), keys.integ_i, keys.integ_r) == (size, size, b"", b"")

    def test_no_key_in_a_repr(self) -> None:
        child = ChildSuite(Encr.AES_GCM_16, 128, Integ.NONE, False)
        assert repr(derive_child_keys(CBC, child, b"d" * 32, b"i" * 32, b"r" * 32)) == "ChildKeys()"
