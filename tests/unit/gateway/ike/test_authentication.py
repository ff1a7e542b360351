"""AUTH payloads: every kind of key both ways, encodings compared byte by byte, and what must never verify."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.authentication import (
    SUPPORTED_HASHES,
    PrivateKey,
    hash_algorithms_to_bytes,
    parse_hash_algorithms,
    shared_key_auth,
    sign,
    signed_octets,
    verify_shared_key,
    verify_signature,
)
from gateway.ike.constants import AuthMethod, HashAlgorithm, Prf
from gateway.ike.crypto.prf import prf
from gateway.ike.errors import AuthenticationFailed
from gateway.ike.payloads.auth import Auth
from tests.unit.gateway.ike.credentials import KEY_KINDS, KeyKind, private_key

OCTETS = b"first message | nonce | prf(SK_p, ID)"
NONE: frozenset[int] = frozenset()
ALL = frozenset(int(algorithm) for algorithm in SUPPORTED_HASHES)
CLASSIC: dict[KeyKind, int] = {
    "rsa": AuthMethod.RSA_SIGNATURE,
    "p256": AuthMethod.ECDSA_256,
    "p384": AuthMethod.ECDSA_384,
    "p521": AuthMethod.ECDSA_521,
}
# RFC 7427 appendix A and RFC 8420 appendix A.
PKCS1_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA512 = bytes.fromhex("300a06082a8648ce3d040304")
ED25519 = bytes.fromhex("300506032b6570")
PSS_SHA256 = bytes.fromhex(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d0609608648016503"
    "0402010500a203020120"
)
IDENTIFIERS = {
    "rsa": PKCS1_SHA256,
    "p256": ECDSA_SHA256,
    "p384": bytes.fromhex("300a06082a8648ce3d040303"),
    "p521": ECDSA_SHA512,
    "ed25519": ED25519,
}


def key(kind: KeyKind) -> PrivateKey:
    """A key of this kind."""
    return private_key(kind, "client")


def rsa_key() -> rsa.RSAPrivateKey:
    made = key("rsa")
    assert isinstance(made, rsa.RSAPrivateKey)
    return made


def ec_key(kind: KeyKind) -> ec.EllipticCurvePrivateKey:
    made = key(kind)
    assert isinstance(made, ec.EllipticCurvePrivateKey)
    return made


def method_14(identifier: bytes, signature: bytes) -> Auth:
    """RFC 7427 section 3: length, AlgorithmIdentifier, signature."""
    return Auth(AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature)


class TestSigning:
    @pytest.mark.parametrize("kind", KEY_KINDS)
    def test_with_rfc_7427(self, kind: KeyKind) -> None:
        auth = sign(key(kind), OCTETS, ALL)
        assert auth.method == AuthMethod.DIGITAL_SIGNATURE
        assert auth.data[1 : 1 + auth.data[0]] == IDENTIFIERS[kind]
        verify_signature(auth, key(kind).public_key(), OCTETS, announced_hashes=True)

    @pytest.mark.parametrize("kind", CLASSIC)
    def test_without(self, kind: KeyKind) -> None:
        auth = sign(key(kind), OCTETS, NONE)
        assert auth.method == CLASSIC[kind]
        verify_signature(auth, key(kind).public_key(), OCTETS, announced_hashes=False)

    @pytest.mark.parametrize(("kind", "size"), [("p256", 64), ("p384", 96), ("p521", 132)])
    def test_classic_ecdsa_is_r_and_s_at_the_curves_size(self, kind: KeyKind, size: int) -> None:
        assert {len(sign(key(kind), OCTETS, NONE).data) for _ in range(20)} == {size}

    def test_rsa_takes_the_first_of_our_hashes_that_the_peer_has(self) -> None:
        auth = sign(key("rsa"), OCTETS, frozenset((HashAlgorithm.SHA1, HashAlgorithm.SHA2_512)))
        assert auth.data[1:16] == bytes.fromhex("300d06092a864886f70d01010d0500")

    @pytest.mark.parametrize("hashes_of_peer", [NONE, frozenset((HashAlgorithm.SHA1, HashAlgorithm.SHA2_256))])
    def test_ed25519_needs_a_peer_that_knows_it(self, hashes_of_peer: frozenset[int]) -> None:
        with pytest.raises(AuthenticationFailed, match="Ed25519"):
            sign(key("ed25519"), OCTETS, hashes_of_peer)

    def test_a_curve_whose_hash_the_peer_has_not_announced(self) -> None:
        auth = sign(key("p384"), OCTETS, frozenset((HashAlgorithm.SHA2_256,)))
        assert auth.method == AuthMethod.ECDSA_384


class TestVerifying:
    @pytest.mark.parametrize("announced", [ALL, NONE])
    @pytest.mark.parametrize("kind", KEY_KINDS)
    def test_another_text(self, kind: KeyKind, announced: frozenset[int]) -> None:
        if kind == "ed25519" and not announced:
            return
        auth = sign(key(kind), OCTETS, announced)
        with pytest.raises(AuthenticationFailed):
            verify_signature(auth, key(kind).public_key(), OCTETS + b"!", announced_hashes=False)

    @pytest.mark.parametrize("kind", KEY_KINDS)
    def test_another_key(self, kind: KeyKind) -> None:
        auth = sign(private_key(kind, "gateway"), OCTETS, ALL)
        with pytest.raises(AuthenticationFailed):
            verify_signature(auth, key(kind).public_key(), OCTETS, announced_hashes=True)

    @pytest.mark.parametrize("signer", KEY_KINDS)
    @pytest.mark.parametrize("verifier", KEY_KINDS)
    def test_another_kind_of_key(self, signer: KeyKind, verifier: KeyKind) -> None:
        if signer == verifier:
            return
        for announced in (ALL, NONE) if signer != "ed25519" else (ALL,):
            auth = sign(key(signer), OCTETS, announced)
            with pytest.raises(AuthenticationFailed):
                verify_signature(auth, key(verifier).public_key(), OCTETS, announced_hashes=False)

    @given(st.sampled_from(KEY_KINDS), st.integers(0, 255), st.binary(min_size=1, max_size=300))
    def test_whatever_comes_nothing_but_the_one_error(self, kind: KeyKind, method: int, data: bytes) -> None:
        with pytest.raises(AuthenticationFailed):
            verify_signature(Auth(method, data), key(kind).public_key(), OCTETS, announced_hashes=False)

    @pytest.mark.parametrize("kind", KEY_KINDS)
    def test_every_truncation(self, kind: KeyKind) -> None:
        data = sign(key(kind), OCTETS, ALL).data
        for size in range(1, len(data)):
            with pytest.raises(AuthenticationFailed):
                verify_signature(Auth(14, data[:size]), key(kind).public_key(), OCTETS, announced_hashes=True)

    def test_an_empty_signature(self) -> None:
        for kind in KEY_KINDS:
            with pytest.raises(AuthenticationFailed):
                verify_signature(
                    method_14(IDENTIFIERS[kind], b""), key(kind).public_key(), OCTETS, announced_hashes=True
                )

    def test_ecdsa_of_zeros(self) -> None:
        with pytest.raises(AuthenticationFailed):
            verify_signature(
                Auth(AuthMethod.ECDSA_256, bytes(64)), key("p256").public_key(), OCTETS, announced_hashes=False
            )

    def test_ecdsa_with_the_hash_of_another_curve_is_fine_by_method_14_only(self) -> None:
        signature = ec_key("p256").sign(OCTETS, ec.ECDSA(hashes.SHA512()))
        verify_signature(method_14(ECDSA_SHA512, signature), key("p256").public_key(), OCTETS, announced_hashes=True)
        with pytest.raises(AuthenticationFailed):
            verify_signature(
                sign(key("p384"), OCTETS, NONE), key("p256").public_key(), OCTETS, announced_hashes=False
            )

    @pytest.mark.parametrize("hashed", [hashes.SHA1(), hashes.MD5(), hashes.SHA224()])
    def test_weak_hashes_by_method_14(self, hashed: hashes.HashAlgorithm) -> None:
        identifiers = {
            "sha1": "300d06092a864886f70d0101050500",
            "md5": "300d06092a864886f70d0101040500",
            "sha224": "300d06092a864886f70d01010e0500",
        }
        signature = rsa_key().sign(OCTETS, padding.PKCS1v15(), hashed)
        auth = method_14(bytes.fromhex(identifiers[hashed.name]), signature)
        with pytest.raises(AuthenticationFailed, match="not allowed"):
            verify_signature(auth, rsa_key().public_key(), OCTETS, announced_hashes=True)

    def test_sha1_from_a_client_that_can_do_better_is_a_downgrade(self) -> None:
        auth = sign(key("rsa"), OCTETS, NONE)
        with pytest.raises(AuthenticationFailed, match="can do better"):
            verify_signature(auth, key("rsa").public_key(), OCTETS, announced_hashes=True)

    def test_a_lenient_identifier(self) -> None:
        # PKCS#1 without its NULL, and with bytes after it: whole encodings are compared.
        signature = rsa_key().sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
        for wrong in (
            bytes.fromhex("300b06092a864886f70d01010b"),
            PKCS1_SHA256 + b"\0",
            b"\x30\x81" + PKCS1_SHA256[1:],
        ):
            with pytest.raises(AuthenticationFailed):
                verify_signature(method_14(wrong, signature), rsa_key().public_key(), OCTETS, announced_hashes=True)


class TestPss:
    @staticmethod
    def signature(salt: int, mgf: hashes.HashAlgorithm | None = None) -> bytes:
        """RSASSA-PSS with SHA2-256."""
        pss = padding.PSS(padding.MGF1(mgf or hashes.SHA256()), salt)
        return rsa_key().sign(OCTETS, pss, hashes.SHA256())

    def check(self, identifier: bytes, signature: bytes) -> None:
        """Verify as method 14."""
        verify_signature(method_14(identifier, signature), rsa_key().public_key(), OCTETS, announced_hashes=True)

    @pytest.mark.parametrize(
        "identifier",
        [
            PSS_SHA256,
            # Without the NULL of the hashes.
            bytes.fromhex(
                "303d06092a864886f70d01010a3030a00d300b0609608648016503040201a11a301806092a864886f70d010108300b060960864801"
                "6503040201a203020120"
            ),
            # With the default trailer field written out.
            bytes.fromhex(
                "304606092a864886f70d01010a3039a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d0609608648"
                "01650304020105 00a203020120a303020101".replace(" ", "")
            ),
        ],
    )
    def test_encodings_in_use(self, identifier: bytes) -> None:
        self.check(identifier, self.signature(32))

    @pytest.mark.parametrize("salt", [0, 20, 31, 64])
    def test_another_salt_length_than_it_says(self, salt: int) -> None:
        with pytest.raises(AuthenticationFailed):
            self.check(PSS_SHA256, self.signature(salt))

    def test_another_mask_generation_hash(self) -> None:
        with pytest.raises(AuthenticationFailed):
            self.check(PSS_SHA256, self.signature(32, hashes.SHA512()))

    def test_pkcs1_under_the_name_of_pss_and_the_other_way_round(self) -> None:
        pkcs1 = rsa_key().sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
        for identifier, signature in ((PSS_SHA256, pkcs1), (PKCS1_SHA256, self.signature(32))):
            with pytest.raises(AuthenticationFailed):
                self.check(identifier, signature)

    @pytest.mark.parametrize("parameters", ["3000", "3034" + "00" * 52, "0500", ""])
    def test_parameters_left_out_or_empty(self, parameters: str) -> None:
        # CVE-2018-6459: the parameters of PSS may be absent in DER, and then mean SHA-1.
        body = bytes.fromhex("06092a864886f70d01010a" + parameters)
        with pytest.raises(AuthenticationFailed):
            self.check(bytes((0x30, len(body))) + body, self.signature(32))


class TestWeakKeys:
    def test_a_short_modulus(self) -> None:
        weak = rsa.generate_private_key(65537, 1024)
        auth = method_14(PKCS1_SHA256, weak.sign(OCTETS, padding.PKCS1v15(), hashes.SHA256()))
        with pytest.raises(AuthenticationFailed, match="weak"):
            verify_signature(auth, weak.public_key(), OCTETS, announced_hashes=True)

    def test_a_small_exponent(self) -> None:
        # With e = 3 a lenient check of the padding would make signatures forgeable (CVE-2018-16151).
        weak = rsa.generate_private_key(3, 2048)
        auth = method_14(PKCS1_SHA256, weak.sign(OCTETS, padding.PKCS1v15(), hashes.SHA256()))
        with pytest.raises(AuthenticationFailed, match="weak"):
            verify_signature(auth, weak.public_key(), OCTETS, announced_hashes=True)

    def test_kinds_that_are_not_supported(self) -> None:
        with pytest.raises(AuthenticationFailed, match="not supported"):
            verify_signature(
                method_14(ED25519, bytes(114)), Ed448PrivateKey.generate().public_key(), OCTETS, announced_hashes=True
            )
        curve = ec.generate_private_key(ec.SECP256K1())
        with pytest.raises(AuthenticationFailed):
            verify_signature(
                Auth(AuthMethod.ECDSA_256, bytes(64)), curve.public_key(), OCTETS, announced_hashes=False
            )


class TestSharedKey:
    def test_is_prf_of_prf_of_the_msk(self) -> None:
        msk = bytes(range(64))
        data = shared_key_auth(Prf.HMAC_SHA2_384, msk, OCTETS)
        assert data == prf(Prf.HMAC_SHA2_384, prf(Prf.HMAC_SHA2_384, msk, b"Key Pad for IKEv2"), OCTETS)
        verify_shared_key(Auth(AuthMethod.SHARED_KEY_MIC, data), Prf.HMAC_SHA2_384, msk, OCTETS)

    @pytest.mark.parametrize("method", [m for m in range(16) if m != AuthMethod.SHARED_KEY_MIC])
    def test_another_method(self, method: int) -> None:
        data = shared_key_auth(Prf.HMAC_SHA2_256, b"m" * 64, OCTETS)
        with pytest.raises(AuthenticationFailed):
            verify_shared_key(Auth(method, data), Prf.HMAC_SHA2_256, b"m" * 64, OCTETS)

    def test_anything_that_differs(self) -> None:
        data = shared_key_auth(Prf.HMAC_SHA2_256, b"m" * 64, OCTETS)
        for wrong, msk, octets in (
            (data[:-1], b"m" * 64, OCTETS),
            (data + b"\0", b"m" * 64, OCTETS),
            (data, b"n" * 64, OCTETS),
            (data, b"m" * 64, OCTETS[:-1]),
        ):
            with pytest.raises(AuthenticationFailed):
                verify_shared_key(Auth(AuthMethod.SHARED_KEY_MIC, wrong), Prf.HMAC_SHA2_256, msk, octets)


def test_signed_octets_end_with_the_prf_of_the_identity() -> None:
    octets = signed_octets(b"message", b"nonce", Prf.HMAC_SHA2_256, b"sk_p", b"id")
    assert octets == b"message" + b"nonce" + prf(Prf.HMAC_SHA2_256, b"sk_p", b"id")


class TestHashAlgorithms:
    @given(st.frozensets(st.integers(0, 65535), max_size=20))
    def test_round_trip(self, algorithms: frozenset[int]) -> None:
        assert parse_hash_algorithms(hash_algorithms_to_bytes(algorithms)) == algorithms

    def test_an_odd_byte_is_passed_over(self) -> None:
        assert parse_hash_algorithms(bytes.fromhex("0002000300")) == {2, 3}
        assert parse_hash_algorithms(b"\x02") == frozenset()

    def test_sha1_is_not_announced(self) -> None:
        assert hash_algorithms_to_bytes(SUPPORTED_HASHES).hex() == "0002000300040005"
