"""Initiators that ask for tickets and come back with them (RFC 5723). No client that Debian has does."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from gateway.ike.constants import IKE_HEADER_BYTES, AuthMethod, ExchangeType, Flag, NotifyType, PayloadType
from gateway.ike.crypto.prf import prf
from gateway.ike.keymat import derive_resumed_ike_keys
from gateway.ike.message import Header, Payloads, clear_message, parse_payloads
from gateway.ike.path import Path, nat_detection_hash
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.proposals import IkeSuite
from tests.peers.initiator import Initiator, InitiatorConfig, Phase

Payload = tuple[PayloadType, bytes]


@dataclass(frozen=True, slots=True)
class SavedSession:
    """What a client keeps beside the ticket, which it can't read."""

    ticket: bytes
    lifetime_s: int
    sk_d: bytes
    suite: IkeSuite
    gateway_identity_body: bytes


class TicketInitiator(Initiator):
    """Asks for a ticket when it signs in, or later."""

    def __init__(self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes]) -> None:
        super().__init__(config, path, random)
        self.saved: SavedSession | None = None
        self.refused = 0
        """How often it was told that there is none."""

    def first_auth_payloads(self) -> list[Payload]:
        """With the question."""
        return [*super().first_auth_payloads(), notify_payload(NotifyType.TICKET_REQUEST)]

    def receive_answer(self, header: Header, payloads: Payloads) -> None:
        """Keep the ticket that comes, with the key that goes with it."""
        for notify in map(Notify.parse, payloads.all(PayloadType.NOTIFY)):
            if notify.type == NotifyType.TICKET_NACK:
                self.refused += 1
            elif notify.type == NotifyType.TICKET_LT_OPAQUE:
                lifetime_s = int.from_bytes(notify.data[:4], "big")
                self.saved = SavedSession(
                    notify.data[4:], lifetime_s, self.current_keys.d, self.suite, self.gateway_identity_body
                )

    def ask_for_ticket(self) -> None:
        """A new one, by INFORMATIONAL."""
        self.request(ExchangeType.INFORMATIONAL, [notify_payload(NotifyType.TICKET_REQUEST)])


class ResumingInitiator(TicketInitiator):
    """Comes back with a ticket; where it is refused, it stops and says so."""

    def __init__(
        self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes], saved: SavedSession
    ) -> None:
        super().__init__(config, path, random)
        self.presented = saved
        self.suite = saved.suite
        self.gateway_identity_body = saved.gateway_identity_body

    def start(self) -> None:
        """Send IKE_SESSION_RESUME."""
        self.phase = Phase.INIT
        payloads: list[Payload] = []
        if self._cookie:
            payloads.append(notify_payload(NotifyType.COOKIE, self._cookie))
        payloads += [
            (PayloadType.NONCE, self.nonce_i),
            notify_payload(NotifyType.TICKET_OPAQUE, self.presented.ticket),
            notify_payload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        ]
        for kind, host, port in (
            (NotifyType.NAT_DETECTION_SOURCE_IP, self.path.local, self.path.local_port),
            (NotifyType.NAT_DETECTION_DESTINATION_IP, self.path.remote, self.path.remote_port),
        ):
            payloads.append(notify_payload(kind, nat_detection_hash(self.spi_i, bytes(8), host, port)))
        payloads += self.first_notifies
        self.init_request = clear_message(
            self.spi_i, bytes(8), ExchangeType.IKE_SESSION_RESUME, Flag.INITIATOR, 0, payloads
        )
        self._outgoing.append(self.init_request)

    def _receive_init(self, header: Header, data: bytes) -> None:
        assert header.exchange == ExchangeType.IKE_SESSION_RESUME
        payloads = parse_payloads(header.next_payload, data[IKE_HEADER_BYTES:])
        notifies = {n.type: n.data for n in map(Notify.parse, payloads.all(PayloadType.NOTIFY))}
        if NotifyType.COOKIE in notifies:
            self._cookie = notifies[NotifyType.COOKIE]
            self.start()
            return
        if NotifyType.TICKET_NACK in notifies:
            self.fail("TICKET_NACK")
            return
        self.spi_r, self.init_response = header.spi_r, data
        self.nonce_r = payloads.require(PayloadType.NONCE)
        self._gateway_fragments = NotifyType.IKEV2_FRAGMENTATION_SUPPORTED in notifies
        keys = derive_resumed_ike_keys(
            self.suite, self.presented.sk_d, self.nonce_i, self.nonce_r, self.spi_i, self.spi_r
        )
        self._use_keys(keys)
        self.message_id = 1
        self.phase = Phase.AUTH
        self.request(ExchangeType.IKE_AUTH, self.resumed_auth_payloads())

    def resumed_auth_payloads(self) -> list[Payload]:
        """As when it signs in, without certificate, and with AUTH from SK_pi; tests override it."""
        keys = self.current_keys
        usual = [item for item in self.first_auth_payloads() if item[0] not in (PayloadType.CERT, PayloadType.AUTH)]
        octets = self.init_request + self.nonce_r + prf(self.suite.prf, keys.pi, self.config.identity.to_bytes())
        auth = Auth(AuthMethod.SHARED_KEY_MIC, prf(self.suite.prf, keys.pi, octets))
        return [*usual, (PayloadType.AUTH, auth.to_bytes())]

    def receive_auth(self, payloads: Payloads) -> None:
        """The gateway proves itself in the same way."""
        keys = self.current_keys
        errors = [n for n in map(Notify.parse, payloads.all(PayloadType.NOTIFY)) if n.is_error]
        if errors:
            self.fail(str(errors[0]))
            return
        assert payloads.first(PayloadType.CERT) is None
        identity = payloads.require(PayloadType.IDR)
        assert identity == self.presented.gateway_identity_body
        auth = Auth.parse(payloads.require(PayloadType.AUTH))
        octets = self.init_response + self.nonce_i + prf(self.suite.prf, keys.pr, identity)
        assert auth.method == AuthMethod.SHARED_KEY_MIC
        assert hmac.compare_digest(auth.data, prf(self.suite.prf, keys.pr, octets))
        self.establish(payloads)
