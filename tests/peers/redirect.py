"""An initiator that lets itself be sent to another gateway (RFC 5685)."""

from __future__ import annotations

from collections.abc import Callable

from gateway.ike.constants import IKE_HEADER_BYTES, NotifyType, PayloadType
from gateway.ike.message import Header, Payloads, parse_payloads
from gateway.ike.path import Path
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.redirect import GatewayId
from tests.peers.initiator import Initiator, InitiatorConfig, Phase


class WillingInitiator(Initiator):
    """Announces that it understands REDIRECT, notes where it is sent, and stops there."""

    def __init__(self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes]) -> None:
        super().__init__(config, path, random)
        self.first_notifies = [notify_payload(NotifyType.REDIRECT_SUPPORTED)]
        self.sent_to: GatewayId | None = None
        self.sent_in: str = ""
        """The exchange."""

    def come_from(self, gateway: GatewayId) -> None:
        """It was sent here."""
        self.first_notifies.append(notify_payload(NotifyType.REDIRECTED_FROM, gateway.to_bytes()))

    def receive_datagram(self, data: bytes) -> None:
        """A first answer may be a redirection, which counts only with the nonce of the request."""
        header = Header.parse(data)
        if self.phase is Phase.INIT:
            payloads = parse_payloads(header.next_payload, data[IKE_HEADER_BYTES:])
            if self._is_sent(payloads, "IKE_SA_INIT", self.nonce_i):
                return
        super().receive_datagram(data)

    def receive_auth(self, payloads: Payloads) -> None:
        """The gateway proves itself, and then sends it away."""
        auth = payloads.first(PayloadType.AUTH)
        if auth is not None and self._is_sent(payloads, "IKE_AUTH", b""):
            return
        super().receive_auth(payloads)

    def answer_request(self, header: Header) -> list[bytes]:
        """An empty answer says that it goes."""
        assert self.gateways_request is not None
        self._is_sent(self.gateways_request, "INFORMATIONAL", b"")
        return super().answer_request(header)

    def _is_sent(self, payloads: Payloads, exchange: str, nonce: bytes) -> bool:
        for notify in map(Notify.parse, payloads.all(PayloadType.NOTIFY)):
            if notify.type == NotifyType.REDIRECT:
                self.sent_to, rest = GatewayId.parse(notify.data)
                assert rest == nonce
                self.sent_in = exchange
                return True
        return False
