"""OCSP (RFC 6960), the client's side: requests, and the check of responses. Pure; hostile bytes are expected."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from pki.names import canonical
from pki.peer_certificate import find_extension
from pki.revocation.evidence import CLOCK_SKEW, Evidence, NotKnown, NotUsable, check_dates

LARGEST_RESPONSE_BYTES = 64 * 1024
MOST_ANSWERS = 32
MOST_CERTIFICATES = 4
"""In one response. A responder needs one to show that it may sign."""
LONGEST_WITHOUT_END = timedelta(hours=1)
"""How long a response counts that has no nextUpdate, which says that there is newer information at any time."""

_SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_MINIMUM_RSA_BITS = 2048
_RESPONSE_EXTENSIONS = frozenset({x509.OCSPNonce.oid})


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """A response that was believed."""

    evidence: Evidence
    unchecked_responder: x509.Certificate | None
    """The delegated certificate that signed it, where the CA wants its revocation looked at as well: it carries no
    id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1)."""


def ocsp_request(certificate: x509.Certificate, issuer: x509.Certificate, nonce: bytes) -> bytes:
    """A request for one certificate.

    The CertID is hashed with SHA-1, the one hash that every responder knows (RFC 5019 section 2.1.1); nothing rests
    on it but which certificate is meant.

    Args:
        certificate: which is meant.
        issuer: who signed it.
        nonce: 1 to 32 random bytes (RFC 8954), which a responder repeats or ignores.
    """
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303
    request = builder.add_extension(x509.OCSPNonce(nonce), critical=False).build()
    return request.public_bytes(Encoding.DER)


def check_ocsp_response(
    der: bytes,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    now: datetime,
    *,
    nonce: bytes | None = None,
) -> OcspAnswer:
    """Decide whether a response says something about a certificate, and what.

    Args:
        der: the response.
        certificate: whose status is asked for.
        issuer: the CA that signed it; its own path was checked.
        now: the time to judge dates by, aware.
        nonce: that of the request. A response without one counts too (most are signed beforehand); one with
            another does not.

    Raises:
        NotUsable: it says nothing that could be believed; and nothing else, whatever the bytes are.
    """
    try:
        return _check(der, certificate, issuer, now, nonce)
    except NotUsable:
        raise
    except Exception as error:
        # The parsers have many ways to refuse hostile DER, some of them undocumented; all mean the same.
        raise NotUsable(f"the OCSP response can't be read: {str(error)[:200]}") from error


def _check(
    der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime, nonce: bytes | None
) -> OcspAnswer:
    if len(der) > LARGEST_RESPONSE_BYTES:
        raise NotUsable("the OCSP response is too large")
    response = ocsp.load_der_ocsp_response(der)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise NotUsable(f"the OCSP responder says {response.response_status.name.lower()}")
    answer = _find_answer(response, certificate, issuer)
    responder = _check_signer(response, issuer, now)
    _check_extensions(response, nonce)
    this_update = answer.this_update_utc
    next_update = answer.next_update_utc or this_update + LONGEST_WITHOUT_END
    check_dates(this_update, next_update, now)
    return OcspAnswer(_evidence(answer, this_update, next_update + CLOCK_SKEW), responder)


def _evidence(answer: ocsp.OCSPSingleResponse, this_update: datetime, expires_at: datetime) -> Evidence:
    match answer.certificate_status:
        case ocsp.OCSPCertStatus.GOOD:
            return Evidence(False, "OCSP", this_update, expires_at)
        case ocsp.OCSPCertStatus.REVOKED:
            return Evidence.of_revoked(
                "OCSP", answer.revocation_time_utc, answer.revocation_reason, this_update, expires_at
            )
    raise NotKnown("the OCSP responder does not know the certificate")


def _find_answer(
    response: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate
) -> ocsp.OCSPSingleResponse:
    for number, answer in enumerate(response.responses):
        if number >= MOST_ANSWERS:
            break
        if answer.serial_number == certificate.serial_number and _is_about(answer, certificate, issuer):
            return answer
    raise NotUsable("the OCSP response is about another certificate")


def _is_about(answer: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    # A request with the answer's own hash algorithm has the CertID that the answer must have.
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, answer.hash_algorithm)
    wanted = builder.build()
    return (answer.issuer_name_hash, answer.issuer_key_hash) == (wanted.issuer_name_hash, wanted.issuer_key_hash)


def _check_signer(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> x509.Certificate | None:
    """The issuer itself signed, or whom it delegated (RFC 6960 section 4.2.2.2); which, see `OcspAnswer`."""
    if _is_responder(response, issuer):
        _check_signature(response, issuer)
        return None
    delegates: Sequence[x509.Certificate] = response.certificates
    for delegate in delegates[:MOST_CERTIFICATES]:
        if _is_responder(response, delegate):
            _check_delegate(delegate, issuer, now)
            _check_signature(response, delegate)
            return None if _has(delegate, x509.OCSPNoCheck) else delegate
    raise NotUsable("neither the CA nor a responder of the CA signed the OCSP response")


def _is_responder(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return canonical(response.responder_name) == canonical(certificate.subject)
    key_hash = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    return response.responder_key_hash == key_hash


def _check_delegate(delegate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    try:
        delegate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise NotUsable("the CA did not issue the OCSP responder's certificate") from None
    if not isinstance(delegate.signature_hash_algorithm, (*_SIGNATURE_HASHES, type(None))):
        raise NotUsable("the OCSP responder's certificate is signed with a weak hash")
    if not delegate.not_valid_before_utc <= now <= delegate.not_valid_after_utc:
        raise NotUsable("the OCSP responder's certificate is out of date")
    purposes = find_extension(delegate.extensions, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
        raise NotUsable("the OCSP responder's certificate is not meant for that (OCSPSigning)")
    usage = find_extension(delegate.extensions, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise NotUsable("the OCSP responder's certificate may not sign (digitalSignature)")


def _has(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    return find_extension(certificate.extensions, kind) is not None


def _check_signature(response: ocsp.OCSPResponse, signer: x509.Certificate) -> None:
    key = signer.public_key()
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        match key:
            case rsa.RSAPublicKey() if key.key_size >= _MINIMUM_RSA_BITS:
                _check_rsa(key, response)
            case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1() | ec.SECP521R1()):
                key.verify(signature, signed, ec.ECDSA(_hash_of(response)))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, signed)
            case _:
                raise NotUsable("the OCSP response is signed with a weak key, or one of an unknown kind")
    except InvalidSignature:
        raise NotUsable("the signature of the OCSP response is wrong") from None


def _check_rsa(key: rsa.RSAPublicKey, response: ocsp.OCSPResponse) -> None:
    signature, signed = response.signature, response.tbs_response_bytes
    if response.signature_algorithm_oid != SignatureAlgorithmOID.RSASSA_PSS:
        algorithm = _hash_of(response)
        key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        return
    # The library does not give out the parameters. All that are in use have the salt as long as the hash.
    for digest in _SIGNATURE_HASHES:
        algorithm = digest()
        try:
            key.verify(signature, signed, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm)
        except InvalidSignature:
            continue
        return
    raise InvalidSignature


def _hash_of(response: ocsp.OCSPResponse) -> hashes.HashAlgorithm:
    algorithm = response.signature_hash_algorithm
    if not isinstance(algorithm, _SIGNATURE_HASHES):
        raise NotUsable("the OCSP response is signed with a weak hash")
    return algorithm


def _check_extensions(response: ocsp.OCSPResponse, nonce: bytes | None) -> None:
    for extension in response.extensions:
        if extension.critical and extension.oid not in _RESPONSE_EXTENSIONS:
            raise NotUsable(f"the OCSP response has a critical extension {extension.oid.dotted_string}")
    repeated = find_extension(response.extensions, x509.OCSPNonce)
    if nonce is not None and repeated is not None and not hmac.compare_digest(repeated.nonce, nonce):
        raise NotUsable("the OCSP response answers another request (nonce)")
