"""AUTH payloads: what is signed (RFC 7296 section 2.15) and how (sections 2.16, 3.8; RFC 7427; RFC 8420)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from itertools import product

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gateway.ike.constants import AuthMethod, HashAlgorithm, Prf
from gateway.ike.crypto.prf import prf
from gateway.ike.errors import AuthenticationFailed
from gateway.ike.payloads.auth import Auth

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey

_KEY_PAD = b"Key Pad for IKEv2"
MIN_RSA_BITS = 2048
MIN_RSA_EXPONENT = 65537

SUPPORTED_HASHES: tuple[HashAlgorithm, ...] = (
    HashAlgorithm.SHA2_256,
    HashAlgorithm.SHA2_384,
    HashAlgorithm.SHA2_512,
    HashAlgorithm.IDENTITY,
)
"""Announced in SIGNATURE_HASH_ALGORITHMS; SHA-1 is not among them."""

_HASHES: dict[HashAlgorithm, hashes.HashAlgorithm] = {
    HashAlgorithm.SHA2_256: hashes.SHA256(),
    HashAlgorithm.SHA2_384: hashes.SHA384(),
    HashAlgorithm.SHA2_512: hashes.SHA512(),
}

# AlgorithmIdentifiers as DER (RFC 7427 appendix A, RFC 8420): tag, length, contents.
_RSA_PKCS1: dict[HashAlgorithm, bytes] = {
    HashAlgorithm.SHA2_256: bytes.fromhex("300d06092a864886f70d01010b0500"),
    HashAlgorithm.SHA2_384: bytes.fromhex("300d06092a864886f70d01010c0500"),
    HashAlgorithm.SHA2_512: bytes.fromhex("300d06092a864886f70d01010d0500"),
}
_ECDSA: dict[HashAlgorithm, bytes] = {
    HashAlgorithm.SHA2_256: bytes.fromhex("300a06082a8648ce3d040302"),
    HashAlgorithm.SHA2_384: bytes.fromhex("300a06082a8648ce3d040303"),
    HashAlgorithm.SHA2_512: bytes.fromhex("300a06082a8648ce3d040304"),
}
_ED25519 = bytes.fromhex("300506032b6570")
_CURVE_HASH: dict[str, tuple[HashAlgorithm, AuthMethod]] = {
    "secp256r1": (HashAlgorithm.SHA2_256, AuthMethod.ECDSA_256),
    "secp384r1": (HashAlgorithm.SHA2_384, AuthMethod.ECDSA_384),
    "secp521r1": (HashAlgorithm.SHA2_512, AuthMethod.ECDSA_521),
}


def _der(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    if len(body) > 127:
        raise ValueError("DER longer than one length byte")
    return bytes((tag, len(body))) + body


def _pss_identifiers(algorithm: HashAlgorithm) -> list[bytes]:
    """Every encoding in use of RSASSA-PSS with this hash for message and MGF1, and a salt of the hash's length.

    The hash's NULL parameters and the default trailer field are sent by some and left out by others; to compare
    whole encodings leaves nothing for a parser to be lenient about.
    """
    digest_bytes = _HASHES[algorithm].digest_size
    last = {HashAlgorithm.SHA2_256: 1, HashAlgorithm.SHA2_384: 2, HashAlgorithm.SHA2_512: 3}[algorithm]
    hash_oid = bytes.fromhex("06096086480165030402") + bytes((last,))
    pss_oid = bytes.fromhex("06092a864886f70d01010a")
    mgf1_oid = bytes.fromhex("06092a864886f70d010108")
    found = []
    for null, trailer in product((b"\x05\x00", b""), (b"", _der(0xA3, b"\x02\x01\x01"))):
        hash_id = _der(0x30, hash_oid, null)
        parameters = _der(
            0x30,
            _der(0xA0, hash_id),
            _der(0xA1, _der(0x30, mgf1_oid, hash_id)),
            _der(0xA2, b"\x02\x01" + bytes((digest_bytes,))),
            trailer,
        )
        found.append(_der(0x30, pss_oid, parameters))
    return found


_PSS: dict[bytes, HashAlgorithm] = {
    identifier: algorithm for algorithm in _HASHES for identifier in _pss_identifiers(algorithm)
}
_PKCS1_HASH = {identifier: algorithm for algorithm, identifier in _RSA_PKCS1.items()}
_ECDSA_HASH = {identifier: algorithm for algorithm, identifier in _ECDSA.items()}


def signed_octets(
    message: bytes, peer_nonce: bytes, algorithm: Prf, sk_p: bytes, id_body: bytes, int_auth: bytes = b""
) -> bytes:
    """First message | the peer's nonce | prf(SK_p, body of the ID payload) (RFC 7296 section 2.15) | IntAuth.

    Args:
        message: IKE_SA_INIT's of the side that signs.
        peer_nonce: of the other side.
        algorithm: the SA's PRF.
        sk_p: SK_pi or SK_pr of the side that signs.
        id_body: its ID payload.
        int_auth: for what went in IKE_INTERMEDIATE, the same for both sides (RFC 9242 section 3.3.2).
    """
    return message + peer_nonce + prf(algorithm, sk_p, id_body) + int_auth


def shared_key_auth(algorithm: Prf, msk: bytes, octets: bytes) -> bytes:
    """AUTH data from an EAP method's MSK: prf(prf(MSK, "Key Pad for IKEv2"), octets) (section 2.16)."""
    return prf(algorithm, prf(algorithm, msk, _KEY_PAD), octets)


def verify_shared_key(auth: Auth, algorithm: Prf, msk: bytes, octets: bytes) -> None:
    """Check an AUTH payload made from the MSK; raises AuthenticationFailed."""
    if auth.method != AuthMethod.SHARED_KEY_MIC:
        raise AuthenticationFailed(f"AUTH method {auth.method} after EAP")
    if not hmac.compare_digest(auth.data, shared_key_auth(algorithm, msk, octets)):
        raise AuthenticationFailed("AUTH after EAP does not verify")


def parse_hash_algorithms(data: bytes) -> frozenset[int]:
    """The data of SIGNATURE_HASH_ALGORITHMS; an odd last byte is passed over."""
    return frozenset(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data) - 1, 2))


def hash_algorithms_to_bytes(algorithms: Iterable[int]) -> bytes:
    """The data of SIGNATURE_HASH_ALGORITHMS."""
    return b"".join(int(algorithm).to_bytes(2, "big") for algorithm in algorithms)


def sign(key: PrivateKey, octets: bytes, peer_hashes: frozenset[int]) -> Auth:
    """An AUTH payload by signature.

    Method 14 (RFC 7427) where the peer announced a hash that fits the key; else the method of the key itself.
    RSA signs by PKCS#1 v1.5, the one padding that every stock client takes.

    Raises:
        AuthenticationFailed: the peer can't verify what this key can make.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        for algorithm, digest in _HASHES.items():
            if algorithm in peer_hashes:
                signature = key.sign(octets, padding.PKCS1v15(), digest)
                return _digital_signature(_RSA_PKCS1[algorithm], signature)
        # Method 1 is SHA-1 by RFC 7296 section 3.8; only clients without RFC 7427 come here (Windows).
        return Auth(
            AuthMethod.RSA_SIGNATURE,
            key.sign(octets, padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303
        )
    if isinstance(key, Ed25519PrivateKey):
        if HashAlgorithm.IDENTITY not in peer_hashes:
            raise AuthenticationFailed("the gateway's key is Ed25519 and the client can't verify that")
        return _digital_signature(_ED25519, key.sign(octets))
    algorithm, method = _CURVE_HASH[key.curve.name]
    signature = key.sign(octets, ec.ECDSA(_HASHES[algorithm]))
    if algorithm in peer_hashes:
        return _digital_signature(_ECDSA[algorithm], signature)
    return Auth(method, _ecdsa_der_to_raw(signature, key.curve))


def verify_signature(auth: Auth, key: PublicKeyTypes, octets: bytes, announced_hashes: bool) -> None:
    """Check an AUTH payload by signature against a key whose certificate is trusted already.

    Args:
        auth: the payload.
        key: the end entity's public key.
        octets: what must be signed.
        announced_hashes: whether the peer speaks RFC 7427; then RSA with SHA-1 (method 1) is a downgrade.

    Raises:
        AuthenticationFailed: weak key, unknown or unfit method, or a signature that does not verify.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS or key.public_numbers().e < MIN_RSA_EXPONENT:
            raise AuthenticationFailed("RSA key too weak")
    elif not isinstance(key, ec.EllipticCurvePublicKey | Ed25519PublicKey):
        raise AuthenticationFailed("kind of key not supported")
    try:
        if auth.method == AuthMethod.DIGITAL_SIGNATURE:
            _verify_digital_signature(auth.data, key, octets)
        elif auth.method == AuthMethod.RSA_SIGNATURE and isinstance(key, rsa.RSAPublicKey):
            if announced_hashes:
                raise AuthenticationFailed("RSA with SHA-1 from a client that can do better (RFC 7427)")
            key.verify(auth.data, octets, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
        elif isinstance(key, ec.EllipticCurvePublicKey):
            algorithm, method = _CURVE_HASH.get(key.curve.name, (None, None))
            if algorithm is None or auth.method != method:
                raise AuthenticationFailed(f"AUTH method {auth.method} does not fit the key")
            key.verify(_ecdsa_raw_to_der(auth.data, key.curve), octets, ec.ECDSA(_HASHES[algorithm]))
        else:
            raise AuthenticationFailed(f"AUTH method {auth.method} does not fit the key")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise AuthenticationFailed("signature does not verify") from None


def _digital_signature(identifier: bytes, signature: bytes) -> Auth:
    return Auth(AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature)


def _verify_digital_signature(
    data: bytes, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey, octets: bytes
) -> None:
    end = 1 + data[0]
    identifier, signature = data[1:end], data[end:]
    if isinstance(key, Ed25519PublicKey):
        if identifier != _ED25519:
            raise AuthenticationFailed("signature algorithm does not fit the Ed25519 key")
        key.verify(signature, octets)
    elif isinstance(key, rsa.RSAPublicKey):
        if (algorithm := _PKCS1_HASH.get(identifier)) is not None:
            key.verify(signature, octets, padding.PKCS1v15(), _HASHES[algorithm])
        elif (algorithm := _PSS.get(identifier)) is not None:
            digest = _HASHES[algorithm]
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            key.verify(signature, octets, pss, digest)
        else:
            raise AuthenticationFailed("signature algorithm not allowed for an RSA key")
    else:
        algorithm = _ECDSA_HASH.get(identifier)
        if algorithm is None:
            raise AuthenticationFailed("signature algorithm not allowed for an ECDSA key")
        key.verify(signature, octets, ec.ECDSA(_HASHES[algorithm]))


def _ecdsa_der_to_raw(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """r | s at the curve's size (RFC 4754 section 7)."""
    r, s = decode_dss_signature(signature)
    size = (curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _ecdsa_raw_to_der(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    size = (curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise AuthenticationFailed("ECDSA signature of the wrong length")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))
