"""An initiator that is up and keeps its SA going: it rekeys its child SA, and moves. For load."""

from __future__ import annotations

from collections.abc import Callable

from gateway.ike.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from gateway.ike.message import Header, Payloads
from gateway.ike.path import Path
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, parse_proposals, proposals_to_bytes
from gateway.ike.proposals import child_transforms
from gateway.ike.selectors import selectors_to_bytes
from tests.peers.initiator import InitiatorConfig
from tests.peers.mobike import MobileInitiator

NONCE_BYTES = 32


class BusyInitiator(MobileInitiator):
    """One task at a time: `rekey_child` or `move`, until `is_idle`."""

    def __init__(self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes]) -> None:
        super().__init__(config, path, random)
        self.is_idle = True
        self.refused = ""
        """What the gateway answered to a task instead of doing it."""
        self._new_spi_in: int | None = None

    def rekey_child(self) -> None:
        """A new child SA for the old one, then the old one is deleted (RFC 7296 section 1.3.3)."""
        self.is_idle = False
        self._new_spi_in = int.from_bytes(self.random(4), "big") | 0x1000
        old = Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, self.spi_in.to_bytes(4, "big"))
        transforms = child_transforms(self.config.child_suite)
        offer = Proposal(1, ProtocolId.ESP, self._new_spi_in.to_bytes(4, "big"), transforms)
        ours, theirs = self.selectors
        self.request(
            ExchangeType.CREATE_CHILD_SA,
            [
                (PayloadType.NOTIFY, old.to_bytes()),
                (PayloadType.SA, proposals_to_bytes((offer,))),
                (PayloadType.NONCE, self.random(NONCE_BYTES)),
                (PayloadType.TSI, selectors_to_bytes(ours)),
                (PayloadType.TSR, selectors_to_bytes(theirs)),
            ],
        )

    def move(self, path: Path, *more: tuple[PayloadType, bytes]) -> list[bytes]:
        """Be somewhere else, and say so."""
        self.is_idle = False
        return super().move(path, *more)

    def receive_answer(self, header: Header, payloads: Payloads) -> None:
        """The next step of the task, or its end."""
        super().receive_answer(header, payloads)
        if header.exchange == ExchangeType.CREATE_CHILD_SA and self._new_spi_in is not None:
            errors = [n for n in map(Notify.parse, payloads.all(PayloadType.NOTIFY)) if n.is_error]
            if errors:
                self.refused = str(errors[0])
                return
            (chosen,) = parse_proposals(payloads.require(PayloadType.SA))
            gone = Delete(ProtocolId.ESP, (self.spi_in.to_bytes(4, "big"),))
            self.spi_in, self.spi_out = self._new_spi_in, int.from_bytes(chosen.spi, "big")
            self._new_spi_in = None
            self.request(ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, gone.to_bytes())])
        elif header.exchange == ExchangeType.INFORMATIONAL:
            self.is_idle = True
