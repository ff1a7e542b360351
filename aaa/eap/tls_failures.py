"""What a failed TLS handshake means, in a code and in words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from OpenSSL import SSL

from aaa.eap.errors import FailureCode
from aaa.eap.method import MethodFailure

_MAX_SUBJECT_CHARACTERS = 128


@dataclass(slots=True)
class VerifyRecord:
    """The first objection of OpenSSL to the client's certificate chain; the handshake error does not name it."""

    error: int = SSL.X509VerificationCodes.OK
    """X509_V_ERR_..., of OpenSSL's x509_vfy.h."""
    depth: int = 0
    """0 is the client's own certificate, 1 its issuer."""
    certificate_der: bytes = b""


_Codes = SSL.X509VerificationCodes
# These have no name in pyOpenSSL; the numbers are part of OpenSSL's stable interface.
_EE_KEY_TOO_SMALL = 66
_CA_KEY_TOO_SMALL = 67
_CA_MD_TOO_WEAK = 68

_VERIFY_FAILURES: dict[int, tuple[FailureCode, str]] = {
    _Codes.ERR_CERT_HAS_EXPIRED: (FailureCode.EXPIRED_CERTIFICATE, "has expired"),
    _Codes.ERR_CERT_NOT_YET_VALID: (FailureCode.NOT_YET_VALID_CERTIFICATE, "is not valid yet"),
    _Codes.ERR_INVALID_PURPOSE: (FailureCode.WRONG_USAGE, "is not meant to authenticate clients"),
    _EE_KEY_TOO_SMALL: (FailureCode.WEAK_KEY, "has a key that is too weak"),
    _CA_KEY_TOO_SMALL: (FailureCode.WEAK_KEY, "has a key that is too weak"),
    _CA_MD_TOO_WEAK: (FailureCode.WEAK_KEY, "is signed with a hash that is too weak"),
    _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: (
        FailureCode.UNTRUSTED_CERTIFICATE,
        "is of an issuer that is not trusted here",
    ),
    _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT: (
        FailureCode.UNTRUSTED_CERTIFICATE,
        "is of an issuer that is not trusted here",
    ),
    _Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: (
        FailureCode.UNTRUSTED_CERTIFICATE,
        "is of an issuer that is not trusted here",
    ),
    _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: (FailureCode.UNTRUSTED_CERTIFICATE, "is self-signed"),
    _Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN: (FailureCode.UNTRUSTED_CERTIFICATE, "is a root that is not trusted here"),
    _Codes.ERR_CERT_SIGNATURE_FAILURE: (FailureCode.UNTRUSTED_CERTIFICATE, "has a signature that does not verify"),
    _Codes.ERR_CERT_CHAIN_TOO_LONG: (FailureCode.UNTRUSTED_CERTIFICATE, "ends a chain that is too long"),
    _Codes.ERR_INVALID_CA: (FailureCode.UNTRUSTED_CERTIFICATE, "issued a certificate, but is not a CA's"),
}

_REASONS: dict[str, tuple[FailureCode, str]] = {
    "peer did not return a certificate": (FailureCode.NO_CLIENT_CERTIFICATE, "the client sent no certificate"),
    "unsupported protocol": (FailureCode.TLS_VERSION, "the client offers no TLS version that is allowed here"),
    "version too low": (FailureCode.TLS_VERSION, "the client offers no TLS version that is allowed here"),
    "inappropriate fallback": (FailureCode.TLS_VERSION, "the client fell back to an older TLS version"),
    "no shared cipher": (FailureCode.NO_COMMON_CIPHER, "the client offers no TLS cipher suite that is allowed here"),
    "no suitable key share": (FailureCode.NO_COMMON_CIPHER, "the client offers no TLS group that is allowed here"),
    "no suitable groups": (FailureCode.NO_COMMON_CIPHER, "the client offers no TLS group that is allowed here"),
    "no suitable signature algorithm": (
        FailureCode.NO_COMMON_CIPHER,
        "the client accepts no signature that the server's key can make",
    ),
}

_ALERT = re.compile(r"\balert (?P<name>[a-z ]+)$")
_ALERTS_ABOUT_OUR_CERTIFICATE = frozenset(
    {
        "access denied",
        "bad certificate",
        "certificate expired",
        "certificate revoked",
        "certificate unknown",
        "decrypt error",
        "unknown ca",
        "unsupported certificate",
    }
)


def explain(error: SSL.Error, record: VerifyRecord) -> MethodFailure:
    """The code and the words for a handshake that ended with `error`.

    Args:
        error: what pyOpenSSL raised; its argument is OpenSSL's error queue.
        record: what the certificate check objected to, if it did.
    """
    reason = _last_reason(error)
    if record.error != _Codes.OK and reason == "certificate verify failed":
        return _explain_certificate(record)
    if reason in _REASONS:
        code, words = _REASONS[reason]
        return MethodFailure(code, words)
    alert = _ALERT.search(reason)
    if alert is None:
        return MethodFailure(FailureCode.PROTOCOL_ERROR, f"TLS: {reason}")
    name = alert["name"]
    if name in _ALERTS_ABOUT_OUR_CERTIFICATE:
        return MethodFailure(
            FailureCode.CLIENT_REFUSED_SERVER, f"the client refused the server's certificate: TLS alert {name}"
        )
    if name == "protocol version":
        return MethodFailure(FailureCode.TLS_VERSION, "the client refused the TLS version")
    return MethodFailure(FailureCode.PROTOCOL_ERROR, f"the client ended the handshake: TLS alert {name}")


def _last_reason(error: SSL.Error) -> str:
    """The reason of the newest entry of the error queue: [(library, function, reason), ...]."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[-1][-1])
    return "the handshake ended early"


def _explain_certificate(record: VerifyRecord) -> MethodFailure:
    code, words = _VERIFY_FAILURES.get(
        record.error, (FailureCode.UNTRUSTED_CERTIFICATE, f"does not verify (OpenSSL error {record.error})")
    )
    which = "the client's certificate" if record.depth == 0 else "a certificate in the client's chain"
    return MethodFailure(code, f"{which} ({_subject(record.certificate_der)}) {words}")


def _subject(certificate_der: bytes) -> str:
    """The subject as the client wrote it, printable and short: nobody has vouched for it."""
    try:
        text = x509.load_der_x509_certificate(certificate_der).subject.rfc4514_string()
    except ValueError:
        return "unreadable subject"
    printable = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return printable[:_MAX_SUBJECT_CHARACTERS] or "no subject"
