"""Errors of the IKEv2 core; each class carries the notify that answers it, where one is answered."""

from __future__ import annotations

from gateway.ike.constants import NotifyType


class IkeError(Exception):
    """Root of the core's errors.

    `notify` is the type to answer with where the message was authentic; an unauthenticated one is dropped.
    """

    notify: NotifyType | None = None
    code: str = ""
    """Of the audit event, where the notify's name would say too little."""
    data: bytes = b""
    protocol: int = 0
    """Of the SA that the notify is about, with `spi`; 0 for the IKE SA itself."""
    spi: bytes = b""


class InvalidSyntax(IkeError):
    """A length, count or value that does not fit (RFC 7296 section 2.21)."""

    notify = NotifyType.INVALID_SYNTAX


class UnsupportedCriticalPayload(IkeError):
    """An unknown payload with its critical bit set (RFC 7296 section 2.5); `data` is its type."""

    notify = NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD

    def __init__(self, payload_type: int) -> None:
        super().__init__(f"unknown critical payload {payload_type}")
        self.data = bytes((payload_type,))


class NoProposalChosen(IkeError):
    """No offered suite is acceptable."""

    notify = NotifyType.NO_PROPOSAL_CHOSEN


class InvalidKePayload(IkeError):
    """The KE payload is of another group than the one chosen; `data` is the wanted group."""

    notify = NotifyType.INVALID_KE_PAYLOAD

    def __init__(self, group: int) -> None:
        super().__init__(f"KE payload of another group, want {group}")
        self.data = group.to_bytes(2, "big")


class AuthenticationFailed(IkeError):
    """The peer did not prove who it is, or may not enter."""

    notify = NotifyType.AUTHENTICATION_FAILED


class ClientGaveUp(AuthenticationFailed):
    """The peer answers with an error of its own, for instance because it does not trust our certificate."""

    code = "client-gave-up"


class PpkRefused(AuthenticationFailed):
    """One side insists on a post-quantum pre-shared key that the other does not have (RFC 8784)."""

    code = "ppk-refused"


class PskRefused(AuthenticationFailed):
    """A pre-shared key that is not accepted, or not the right one; which of the two, the peer is not told."""

    code = "psk-refused"


class SignatureRefused(AuthenticationFailed):
    """The peer's signature is not one by the key of its certificate, or not made as we take it."""

    code = "signature-refused"


class TsUnacceptable(IkeError):
    """Nothing is left of the offered traffic selectors."""

    notify = NotifyType.TS_UNACCEPTABLE


class InternalAddressFailure(IkeError):
    """No virtual address is free."""

    notify = NotifyType.INTERNAL_ADDRESS_FAILURE


class FailedCpRequired(IkeError):
    """The client asked for no virtual address and gets no child SA without one."""

    notify = NotifyType.FAILED_CP_REQUIRED


class TemporaryFailure(IkeError):
    """Not now, for something else is under way; the peer may try again (RFC 7296 section 2.25)."""

    notify = NotifyType.TEMPORARY_FAILURE


class NoAdditionalSas(IkeError):
    """The IKE SA has as many child SAs as it may."""

    notify = NotifyType.NO_ADDITIONAL_SAS


class ChildSaNotFound(IkeError):
    """The peer wants to rekey a child SA that is not there; `spi` is the one that it named."""

    notify = NotifyType.CHILD_SA_NOT_FOUND

    def __init__(self, protocol: int, spi: bytes) -> None:
        super().__init__(f"no child SA with SPI {spi.hex()}")
        self.protocol, self.spi = protocol, spi


class StateNotFound(IkeError):
    """An additional key exchange of a CREATE_CHILD_SA that does not wait for one, or not any more (RFC 9370)."""

    notify = NotifyType.STATE_NOT_FOUND


class UnexpectedNatDetected(IkeError):
    """A peer that allows no NAT sent from other addresses than the message came from (RFC 4555 section 3.9)."""

    notify = NotifyType.UNEXPECTED_NAT_DETECTED


class IntegrityError(IkeError):
    """An encrypted payload did not verify: the message is dropped without an answer."""


def code_of(error: IkeError, otherwise: NotifyType) -> str:
    """As the audit log names it: the error's own code, else `no-proposal-chosen` for NO_PROPOSAL_CHOSEN."""
    return error.code or (error.notify or otherwise).name.lower().replace("_", "-")
