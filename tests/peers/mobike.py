"""An initiator that moves (RFC 4555). It decides which addresses are used, and answers where it is asked to."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.message import Header, Payloads
from gateway.ike.path import Path, nat_detection_hash
from gateway.ike.payloads.notify import Notify, notify_payload
from tests.peers.initiator import Initiator, InitiatorConfig, Phase

Payload = tuple[PayloadType, bytes]


def address_payload(address: str) -> Payload:
    """ADDITIONAL_IP4_ADDRESS or ADDITIONAL_IP6_ADDRESS."""
    packed = ip_address(address).packed
    kind = NotifyType.ADDITIONAL_IP4_ADDRESS if len(packed) == 4 else NotifyType.ADDITIONAL_IP6_ADDRESS
    return notify_payload(kind, packed)


def no_nats_allowed(path: Path) -> Payload:
    """NO_NATS_ALLOWED, of a sender that sees this path."""
    addresses = b"".join(ip_address(address).packed for address in (path.local, path.remote))
    ports = path.local_port.to_bytes(2, "big") + path.remote_port.to_bytes(2, "big")
    return notify_payload(NotifyType.NO_NATS_ALLOWED, addresses + ports)


class MobileInitiator(Initiator):
    """Announces MOBIKE, and answers checks of its address."""

    def __init__(self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes]) -> None:
        super().__init__(config, path, random)
        self.announced: list[Payload] = [notify_payload(NotifyType.MOBIKE_SUPPORTED)]
        """What its first IKE_AUTH request has more than others."""
        self.last_auth_notifies: list[Notify] = []
        """Of the last response of IKE_AUTH."""
        self.answers: list[list[Notify]] = []
        """The notifies of each answer that came since."""
        self.asked: list[list[Notify]] = []
        """The notifies of each request of the gateway."""
        self.answer_to_cookie2: Callable[[bytes], bytes | None] = lambda cookie: cookie
        """What it sends back; None leaves it out."""

    @property
    def speaks_mobike(self) -> bool:
        """Both sides do."""
        return any(notify.type == NotifyType.MOBIKE_SUPPORTED for notify in self.last_auth_notifies)

    def first_auth_payloads(self) -> list[Payload]:
        """With what is announced."""
        return [*super().first_auth_payloads(), *self.announced]

    def receive_answer(self, header: Header, payloads: Payloads) -> None:
        """Note what it says."""
        notifies = [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]
        if header.exchange == ExchangeType.IKE_AUTH:
            if self.phase is Phase.ESTABLISHED:
                self.last_auth_notifies = notifies
        else:
            self.answers.append(notifies)

    def answer_request(self, header: Header) -> list[bytes]:
        """COOKIE2 goes back."""
        assert self.channel is not None
        assert self.gateways_request is not None
        notifies = [Notify.parse(body) for body in self.gateways_request.all(PayloadType.NOTIFY)]
        self.asked.append(notifies)
        answer = [
            notify_payload(NotifyType.COOKIE2, cookie)
            for notify in notifies
            if notify.type == NotifyType.COOKIE2 and (cookie := self.answer_to_cookie2(notify.data)) is not None
        ]
        return self.channel.seal(ExchangeType.INFORMATIONAL, header.message_id, answer, response=True)

    def nat_detection(self) -> list[Payload]:
        """The hashes of the addresses that it takes for its own and the gateway's."""
        return [
            notify_payload(kind, nat_detection_hash(self.spi_i, self.spi_r, host, port))
            for kind, host, port in (
                (NotifyType.NAT_DETECTION_SOURCE_IP, self.path.local, self.path.local_port),
                (NotifyType.NAT_DETECTION_DESTINATION_IP, self.path.remote, self.path.remote_port),
            )
        ]

    def move(self, path: Path, *more: Payload) -> list[bytes]:
        """Be somewhere else, and say so; returns the request."""
        self.path = path
        update = notify_payload(NotifyType.UPDATE_SA_ADDRESSES)
        return self.request(ExchangeType.INFORMATIONAL, [update, *self.nat_detection(), *more])
