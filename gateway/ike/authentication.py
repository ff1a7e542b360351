"""AUTH payloads: what is signed (RFC 7296 section 2.15) and how (sections 2.16, 3.8; RFC 7427; RFC 8420)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gateway.ike.constants import AuthMethod, HashAlgorithm, Prf
from gateway.ike.crypto.prf import prf
from gateway.ike.errors import AuthenticationFailed, SignatureRefused
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.auth_methods import Announcement

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


@lru_cache(maxsize=8)
def _pss_identifiers(algorithm: HashAlgorithm) -> tuple[bytes, ...]:
    """Every encoding in use of RSASSA-PSS with this hash for message and MGF1, and a salt of the hash's length.

    The first one is that of RFC 7427 appendix A.4. The hash's NULL parameters and the default trailer field are sent
    by some and left out by others; to compare whole encodings leaves nothing for a parser to be lenient about.
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
    return tuple(found)


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


def shared_key_auth(algorithm: Prf, secret: bytes, octets: bytes) -> bytes:
    """AUTH data from a pre-shared key or an EAP method's MSK (sections 2.15 and 2.16).

    It is prf(prf(secret, "Key Pad for IKEv2"), octets).
    """
    return prf(algorithm, prf(algorithm, secret, _KEY_PAD), octets)


def resumption_auth(algorithm: Prf, sk_p: bytes, octets: bytes) -> bytes:
    """AUTH data of a resumed SA: prf(SK_pi or SK_pr, octets), of its own new keys (RFC 5723 section 4.3.3)."""
    return prf(algorithm, sk_p, octets)


def verify_resumption(auth: Auth, algorithm: Prf, sk_p: bytes, octets: bytes) -> None:
    """Check the AUTH payload of a peer that resumes an SA; raises AuthenticationFailed."""
    matches = hmac.compare_digest(auth.data, resumption_auth(algorithm, sk_p, octets))
    if not matches or auth.method != AuthMethod.SHARED_KEY_MIC:
        raise AuthenticationFailed("AUTH of a resumed SA does not verify")


def matches_shared_key(auth: Auth, algorithm: Prf, secret: bytes, octets: bytes) -> bool:
    """Whether an AUTH payload was made from this secret; it takes the same time whatever the payload says."""
    matches = hmac.compare_digest(auth.data, shared_key_auth(algorithm, secret, octets))
    return matches and auth.method == AuthMethod.SHARED_KEY_MIC


def verify_shared_key(auth: Auth, algorithm: Prf, msk: bytes, octets: bytes) -> None:
    """Check an AUTH payload made from the MSK; raises AuthenticationFailed."""
    if auth.method != AuthMethod.SHARED_KEY_MIC:
        raise AuthenticationFailed(f"AUTH method {auth.method} after EAP")
    if not matches_shared_key(auth, algorithm, msk, octets):
        raise AuthenticationFailed("AUTH after EAP does not verify")


def parse_hash_algorithms(data: bytes) -> frozenset[int]:
    """The data of SIGNATURE_HASH_ALGORITHMS; an odd last byte is passed over."""
    return frozenset(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data) - 1, 2))


def hash_algorithms_to_bytes(algorithms: Iterable[int]) -> bytes:
    """The data of SIGNATURE_HASH_ALGORITHMS."""
    return b"".join(int(algorithm).to_bytes(2, "big") for algorithm in algorithms)


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to sign: AUTH method, hash and, for RSA, the padding."""

    method: AuthMethod
    algorithm: HashAlgorithm
    pss: bool = False
    identifier: bytes = field(default=b"", compare=False)
    """The AlgorithmIdentifier as we send it; only with method 14. Others have other encodings for the same."""


_PKCS1_SCHEMES = tuple(
    Scheme(AuthMethod.DIGITAL_SIGNATURE, algorithm, identifier=identifier)
    for algorithm, identifier in _RSA_PKCS1.items()
)
_PSS_SCHEMES = tuple(
    Scheme(AuthMethod.DIGITAL_SIGNATURE, algorithm, True, _pss_identifiers(algorithm)[0]) for algorithm in _HASHES
)
_RSA_SHA1_SCHEME = Scheme(AuthMethod.RSA_SIGNATURE, HashAlgorithm.SHA1)
"""Method 1 is SHA-1 by RFC 7296 section 3.8; only for clients without RFC 7427 (Windows)."""
_ED25519_SCHEME = Scheme(AuthMethod.DIGITAL_SIGNATURE, HashAlgorithm.IDENTITY, identifier=_ED25519)
_ECDSA_SCHEMES = {
    curve: Scheme(AuthMethod.DIGITAL_SIGNATURE, algorithm, identifier=_ECDSA[algorithm])
    for curve, (algorithm, _) in _CURVE_HASH.items()
}
_CLASSIC_ECDSA_SCHEMES = {curve: Scheme(method, algorithm) for curve, (algorithm, method) in _CURVE_HASH.items()}


@lru_cache(maxsize=1)
def supported_announcements() -> tuple[Announcement, ...]:
    """What `verify_signature` takes from a client that speaks RFC 7427, as RFC 9593 announces it.

    Of RSASSA-PSS just one: each takes 70 bytes of a message that can't be fragmented.
    """
    schemes = (*_PKCS1_SCHEMES, _PSS_SCHEMES[0], *_ECDSA_SCHEMES.values(), _ED25519_SCHEME)
    return tuple(Announcement(scheme.method, scheme.identifier) for scheme in schemes)


def is_announced(scheme: Scheme, announcements: Iterable[Announcement]) -> bool:
    """Whether a peer said that it can verify signatures made so."""
    return any(
        announcement.method == scheme.method
        and (not scheme.identifier or announcement.algorithm in _identifiers_of(scheme))
        for announcement in announcements
    )


def _identifiers_of(scheme: Scheme) -> Iterable[bytes]:
    """All encodings of a scheme's AlgorithmIdentifier."""
    return _pss_identifiers(scheme.algorithm) if scheme.pss else (scheme.identifier,)


def choose_scheme(
    key: PrivateKey, peer_hashes: frozenset[int], announcements: Sequence[Announcement] = (), *, pss: bool = False
) -> Scheme | None:
    """How to sign with this key for this peer; None where the peer can't verify anything that the key can make.

    Method 14 (RFC 7427) where the peer named a hash that fits the key; else the method of the key itself. RSA signs
    by PKCS#1 v1.5, the one padding that every stock client takes, unless the peer announced RSASSA-PSS.

    Args:
        key: of ours.
        peer_hashes: its SIGNATURE_HASH_ALGORITHMS, empty where it sent none.
        announcements: its SUPPORTED_AUTH_METHODS (RFC 9593), empty where it sent none.
        pss: use RSASSA-PSS for a peer of RFC 7427 that announced nothing.
    """
    fitting = [scheme for scheme in _schemes_of(key) if scheme.algorithm in peer_hashes] or _classic_schemes_of(key)
    announced = [scheme for scheme in fitting if is_announced(scheme, announcements)]
    if announced:
        return next((scheme for scheme in announced if scheme.pss), announced[0])
    wanted = [scheme for scheme in fitting if scheme.pss is pss] or fitting
    return wanted[0] if wanted else None


def _schemes_of(key: PrivateKey) -> Sequence[Scheme]:
    if isinstance(key, rsa.RSAPrivateKey):
        return (*_PKCS1_SCHEMES, *_PSS_SCHEMES)
    return (_ED25519_SCHEME if isinstance(key, Ed25519PrivateKey) else _ECDSA_SCHEMES[key.curve.name],)


def _classic_schemes_of(key: PrivateKey) -> list[Scheme]:
    if isinstance(key, rsa.RSAPrivateKey):
        return [_RSA_SHA1_SCHEME]
    return [] if isinstance(key, Ed25519PrivateKey) else [_CLASSIC_ECDSA_SCHEMES[key.curve.name]]


def sign(
    key: PrivateKey,
    octets: bytes,
    peer_hashes: frozenset[int],
    announcements: Sequence[Announcement] = (),
    *,
    pss: bool = False,
) -> Auth:
    """An AUTH payload by signature, made as `choose_scheme` says.

    Raises:
        AuthenticationFailed: the peer can't verify what this key can make.
    """
    scheme = choose_scheme(key, peer_hashes, announcements, pss=pss)
    if scheme is None:
        raise AuthenticationFailed("the gateway's key is Ed25519 and the client can't verify that")
    if isinstance(key, Ed25519PrivateKey):
        return _digital_signature(scheme.identifier, key.sign(octets))
    digest = _HASHES.get(scheme.algorithm, hashes.SHA1())  # noqa: S303
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(octets, _pss_padding(digest) if scheme.pss else padding.PKCS1v15(), digest)
    else:
        signature = key.sign(octets, ec.ECDSA(digest))
        if not scheme.identifier:
            signature = _ecdsa_der_to_raw(signature, key.curve)
    if scheme.identifier:
        return _digital_signature(scheme.identifier, signature)
    return Auth(scheme.method, signature)


def _pss_padding(digest: hashes.HashAlgorithm) -> padding.PSS:
    """MGF1 with the same hash, and a salt of its length (RFC 7427 section A.4)."""
    return padding.PSS(padding.MGF1(digest), digest.digest_size)


def verify_signature(auth: Auth, key: PublicKeyTypes, octets: bytes, announced_hashes: bool) -> None:
    """Check an AUTH payload by signature; whether the key is whose it claims to be, is another question.

    Args:
        auth: the payload.
        key: the end entity's public key.
        octets: what must be signed.
        announced_hashes: whether the peer speaks RFC 7427; then RSA with SHA-1 (method 1) is a downgrade.

    Raises:
        SignatureRefused: weak key, unknown or unfit method, or a signature that does not verify.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS or key.public_numbers().e < MIN_RSA_EXPONENT:
            raise SignatureRefused("RSA key too weak")
    elif not isinstance(key, ec.EllipticCurvePublicKey | Ed25519PublicKey):
        raise SignatureRefused("kind of key not supported")
    try:
        if auth.method == AuthMethod.DIGITAL_SIGNATURE:
            _verify_digital_signature(auth.data, key, octets)
        elif auth.method == AuthMethod.RSA_SIGNATURE and isinstance(key, rsa.RSAPublicKey):
            if announced_hashes:
                raise SignatureRefused("RSA with SHA-1 from a client that can do better (RFC 7427)")
            key.verify(auth.data, octets, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
        elif isinstance(key, ec.EllipticCurvePublicKey):
            algorithm, method = _CURVE_HASH.get(key.curve.name, (None, None))
            if algorithm is None or auth.method != method:
                raise SignatureRefused(f"AUTH method {auth.method} does not fit the key")
            key.verify(_ecdsa_raw_to_der(auth.data, key.curve), octets, ec.ECDSA(_HASHES[algorithm]))
        else:
            raise SignatureRefused(f"AUTH method {auth.method} does not fit the key")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise SignatureRefused("signature does not verify") from None


def _digital_signature(identifier: bytes, signature: bytes) -> Auth:
    return Auth(AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature)


def _verify_digital_signature(
    data: bytes, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey, octets: bytes
) -> None:
    end = 1 + data[0]
    identifier, signature = data[1:end], data[end:]
    if isinstance(key, Ed25519PublicKey):
        if identifier != _ED25519:
            raise SignatureRefused("signature algorithm does not fit the Ed25519 key")
        key.verify(signature, octets)
    elif isinstance(key, rsa.RSAPublicKey):
        if (algorithm := _PKCS1_HASH.get(identifier)) is not None:
            key.verify(signature, octets, padding.PKCS1v15(), _HASHES[algorithm])
        elif (algorithm := _PSS.get(identifier)) is not None:
            digest = _HASHES[algorithm]
            key.verify(signature, octets, _pss_padding(digest), digest)
        else:
            raise SignatureRefused("signature algorithm not allowed for an RSA key")
    else:
        algorithm = _ECDSA_HASH.get(identifier)
        if algorithm is None:
            raise SignatureRefused("signature algorithm not allowed for an ECDSA key")
        key.verify(signature, octets, ec.ECDSA(_HASHES[algorithm]))


def _ecdsa_der_to_raw(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """r | s at the curve's size (RFC 4754 section 7)."""
    r, s = decode_dss_signature(signature)
    size = (curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _ecdsa_raw_to_der(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    size = (curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise SignatureRefused("ECDSA signature of the wrong length")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))
