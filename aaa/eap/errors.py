"""Errors of the EAP server, and the codes by which a refused sign-in is counted and looked up."""

from __future__ import annotations

from enum import StrEnum


class FailureCode(StrEnum):
    """Why a conversation failed; stable, for audit events, metrics and tests."""

    UNKNOWN_USER = "unknown-user"
    WRONG_CREDENTIAL = "wrong-credential"
    NO_COMMON_METHOD = "no-common-method"
    UNTRUSTED_CERTIFICATE = "untrusted-certificate"
    EXPIRED_CERTIFICATE = "expired-certificate"
    NOT_YET_VALID_CERTIFICATE = "not-yet-valid-certificate"
    WRONG_USAGE = "wrong-usage"
    """The certificate was not issued to authenticate clients."""
    WEAK_KEY = "weak-key"
    NO_CLIENT_CERTIFICATE = "no-client-certificate"
    TLS_VERSION = "tls-version"
    NO_COMMON_CIPHER = "no-common-cipher"
    CLIENT_REFUSED_SERVER = "client-refused-server"
    """The client does not accept our certificate or our proof."""
    PROTOCOL_ERROR = "protocol-error"
    LIMIT_EXCEEDED = "limit-exceeded"


class EapError(Exception):
    """Root of the EAP server's errors; `code` is what the conversation fails with."""

    code: FailureCode = FailureCode.PROTOCOL_ERROR


class MalformedPacket(EapError):
    """A length, count or value that does not fit."""


class LimitExceeded(EapError):
    """The peer sent more, or longer, than anyone needs to."""

    code = FailureCode.LIMIT_EXCEEDED


class WrongState(EapError):
    """The caller asked for what the state of the conversation does not allow: a mistake of ours, not of the peer."""


class SetupError(EapError):
    """The server's own certificate, key, trust anchors or list of methods can't be used."""
