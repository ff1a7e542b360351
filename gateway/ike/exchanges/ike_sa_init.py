"""IKE_SA_INIT (RFC 7296 section 1.2): suites, Diffie-Hellman, nonces, NAT detection.

request:  SA, KE, Ni, N(NAT_DETECTION_*), [N(COOKIE)], [N(IKEV2_FRAGMENTATION_SUPPORTED)],
          [N(SIGNATURE_HASH_ALGORITHMS)], [N(USE_PPK)], [N(INTERMEDIATE_EXCHANGE_SUPPORTED)]
response: SA, KE, Nr, N(NAT_DETECTION_*), N(MULTIPLE_AUTH_SUPPORTED), N(CHILDLESS_IKEV2_SUPPORTED), CERTREQ, and each
          of the bracketed ones that the peer sent: N(USE_PPK) where there are such keys, the last where there are
          additional key exchanges; N(SUPPORTED_AUTH_METHODS) to a peer of RFC 7427
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.authentication import (
    SUPPORTED_HASHES,
    hash_algorithms_to_bytes,
    parse_hash_algorithms,
    supported_announcements,
)
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import AuthMethod, CertEncoding, ExchangeType, Flag, Group, NotifyType, PayloadType
from gateway.ike.crypto import key_exchange
from gateway.ike.errors import IkeError, InvalidSyntax
from gateway.ike.exchanges import nat
from gateway.ike.exchanges.child_sa import NONCE_BYTES, checked_nonce
from gateway.ike.exchanges.ike_intermediate import Intermediate
from gateway.ike.fingerprint import from_ike_sa_init
from gateway.ike.message import Header, Payloads, clear_message
from gateway.ike.path import Path
from gateway.ike.payloads.auth_methods import Announcement, announcements_to_bytes
from gateway.ike.payloads.certificate import CertificateRequest
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.proposals import IkeSuite, answer_ike
from gateway.ike.sa import IkeSa
from gateway.ike.timers import Timer
from gateway.ike.trace import Trace


@dataclass(frozen=True, slots=True)
class InitRequest:
    """A parsed request; nothing in it is authenticated yet."""

    sa_body: bytes
    """The SA payload, parsed when the suite is chosen."""
    ke: KeyExchange
    nonce: bytes
    notifies: tuple[Notify, ...]
    client: str

    def notify(self, notify_type: NotifyType) -> Notify | None:
        """The first notify of a type."""
        return next((notify for notify in self.notifies if notify.type == notify_type), None)


def nonce_and_cookie(payloads: Payloads) -> tuple[bytes, bytes]:
    """All that the check of a cookie needs (section 2.6): under load, nothing more is decoded before it.

    Returns:
        The nonce, and the cookie, empty where there is none.

    Raises:
        InvalidSyntax: the nonce's length, or a malformed notify.
    """
    for body in payloads.all(PayloadType.NOTIFY):
        notify = Notify.parse(body)
        if notify.type == NotifyType.COOKIE:
            return checked_nonce(payloads.require(PayloadType.NONCE)), notify.data
    return checked_nonce(payloads.require(PayloadType.NONCE)), b""


def parse_request(payloads: Payloads) -> InitRequest:
    """Decode the admitted payloads; raises InvalidSyntax."""
    nonce = checked_nonce(payloads.require(PayloadType.NONCE))
    notifies = [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]
    return InitRequest(
        payloads.require(PayloadType.SA),
        KeyExchange.parse(payloads.require(PayloadType.KE)),
        nonce,
        tuple(notifies),
        from_ike_sa_init(payloads, notifies),
    )


def choose(request: InitRequest, config: ResponderConfig) -> tuple[IkeSuite, bytes]:
    """The suite for the SA, and the SA payload that answers.

    Raises:
        NoProposalChosen: nothing acceptable.
        InvalidKePayload: the KE payload is of another group than the chosen suite.
        InvalidSyntax: a public value that does not fit the suite.
    """
    intermediate = request.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
    suite, answer = answer_ike(request.sa_body, config.policy, request.ke.group, additional=intermediate)
    if len(request.ke.public) != key_exchange.public_value_bytes(suite.group):
        raise InvalidSyntax("length of the KE payload")
    return suite, answer


def accept(sa: IkeSa, request: InitRequest, answer: bytes, data: bytes, path: Path, now: float) -> bytes:
    """Fill the new SA from the request and return the response."""
    config = sa.config
    sa.client = request.client
    sa.nonce_i, sa.nonce_r = request.nonce, sa.random(NONCE_BYTES)
    sa.key_pair = key_exchange.generate(Group(sa.suite.group))
    sa.peer_public = request.ke.public
    sa.timers.set(Timer.HALF_OPEN, now + config.half_open_timeout_s)
    sa.trace = Trace(now, path.local_port)
    nat.detect(sa, request.notifies, path, bytes(8))
    payloads = [
        (PayloadType.SA, answer),
        (PayloadType.KE, KeyExchange(sa.suite.group, sa.key_pair.public).to_bytes()),
        (PayloadType.NONCE, sa.nonce_r),
        *nat.announcement(sa, path),
    ]
    if request.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None:
        sa.peer_fragments = True
        payloads.append(notify_payload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    payloads += _authentication_offer(sa, request)
    if sa.suite.additional:
        sa.intermediate = Intermediate(sa.suite.prf, sa.suite.additional)
        payloads.append(notify_payload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
    response = clear_message(sa.spi_i, sa.spi_r, ExchangeType.IKE_SA_INIT, Flag.RESPONSE, 0, payloads)
    sa.init_request, sa.init_response = data, response
    sa.peer.begin(0, data)
    sa.peer.answer(0, (response,))
    return response


def _authentication_offer(sa: IkeSa, request: InitRequest) -> list[tuple[PayloadType, bytes]]:
    """How the peer may authenticate itself, as far as it understands that."""
    config = sa.config
    payloads = [
        notify_payload(NotifyType.MULTIPLE_AUTH_SUPPORTED),
        notify_payload(NotifyType.CHILDLESS_IKEV2_SUPPORTED),
    ]
    hashes = request.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    if hashes is not None:
        sa.peer_hashes = parse_hash_algorithms(hashes.data)
        ours = hash_algorithms_to_bytes(SUPPORTED_HASHES)
        payloads.append(notify_payload(NotifyType.SIGNATURE_HASH_ALGORITHMS, ours))
        # RFC 9593 is for those that can choose, and these speak RFC 7427; others need not get the longer answer.
        announced = announcements_to_bytes(_announcements(shared_key=bool(config.site_peers)))
        payloads.append(notify_payload(NotifyType.SUPPORTED_AUTH_METHODS, announced))
    if config.ppks and request.notify(NotifyType.USE_PPK) is not None:
        sa.peer_takes_ppk = True
        payloads.append(notify_payload(NotifyType.USE_PPK))
    if config.authorities:
        wanted = CertificateRequest(CertEncoding.X509_SIGNATURE, config.authorities)
        payloads.append((PayloadType.CERTREQ, wanted.to_bytes()))
    if config.wants_ocsp:
        payloads.append((PayloadType.CERTREQ, CertificateRequest(CertEncoding.OCSP_CONTENT, ()).to_bytes()))
    return payloads


def _announcements(*, shared_key: bool) -> tuple[Announcement, ...]:
    methods = supported_announcements()
    return (*methods, Announcement(AuthMethod.SHARED_KEY_MIC)) if shared_key else methods


def refusal(header: Header, error: IkeError) -> bytes | None:
    """The stateless answer to a request that can't be served; None where it is better dropped."""
    if error.notify is None or error.notify is NotifyType.INVALID_SYNTAX:
        return None
    return stateless_notify(header, error.notify, error.data)


def stateless_notify(header: Header, notify: NotifyType, data: bytes) -> bytes:
    """A response of one notify, without an SA: COOKIE, REDIRECT, INVALID_KE_PAYLOAD, NO_PROPOSAL_CHOSEN."""
    return clear_message(
        header.spi_i,
        bytes(8),
        header.exchange,
        Flag.RESPONSE,
        header.message_id,
        [notify_payload(notify, data)],
    )
