"""Messages that somebody forges, edits on their way, or sends before they are allowed."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.ike.authentication import verify_signature
from gateway.ike.constants import AuthMethod, ExchangeType, Flag, NotifyType, PayloadType
from gateway.ike.errors import AuthenticationFailed
from gateway.ike.events import SaEstablished
from gateway.ike.message import Header, clear_message, parse_payloads
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.payloads.security_association import parse_proposals, proposals_to_bytes
from gateway.ike.states import State
from tests.peers.initiator import InitiatorConfig, Phase, suite_proposal
from tests.unit.gateway.ike.credentials import client_credential, private_key
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.wire import Client, Wire, mschapv2


def handshake(wire: Wire, state: State, config: InitiatorConfig | None = None) -> Client:
    """A client whose turn it is, with the gateway in some state."""
    client = wire.client(config)
    client.initiator.start()
    wire.run_until(lambda: wire.state is state)
    return client


class TestBeforeOneIsIn:
    @pytest.mark.parametrize("state", [State.HALF_OPEN, State.EAP, State.EAP_DONE])
    @pytest.mark.parametrize(
        "exchange",
        [*sorted(set(ExchangeType) - {ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL}), 0, 33, 240, 255],
    )
    def test_other_exchanges(self, state: State, exchange: int) -> None:
        wire = Wire()
        client = handshake(wire, state)
        channel = client.initiator.channel
        assert channel is not None
        offer = proposals_to_bytes((suite_proposal(client.initiator.suite),))
        payloads = [
            (PayloadType.SA, offer),
            (PayloadType.NONCE, b"n" * 32),
            (PayloadType.KE, KeyExchange(31, bytes(31) + b"\x09").to_bytes()),
        ]
        for datagram in channel.seal(exchange, client.initiator.message_id, payloads, response=False):  # type: ignore[arg-type]
            wire.inject(datagram, client.outer)
        wire.advance(wire.config.half_open_timeout_s + 1)
        assert (wire.established, wire.seen(SaEstablished), wire.children) == ([], [], {})
        assert len(wire.causes) == 1


class TestSignatures:
    DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
    IDENTIFIER = bytes.fromhex("300d06092a864886f70d01010b0500")
    OCTETS = b"what is signed"

    def verify(self, encoded: bytes) -> None:
        """Check a signature that decrypts to this."""
        key = private_key("rsa", "client")
        assert isinstance(key, rsa.RSAPrivateKey)
        numbers = key.private_numbers()
        signature = pow(int.from_bytes(encoded, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")
        data = bytes((len(self.IDENTIFIER),)) + self.IDENTIFIER + signature
        verify_signature(
            Auth(AuthMethod.DIGITAL_SIGNATURE, data), key.public_key(), self.OCTETS, announced_hashes=True
        )

    def test_padding(self) -> None:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.OCTETS)
        info = self.DIGEST_INFO + digest.finalize()
        self.verify(b"\0\1" + b"\xff" * (256 - 3 - len(info)) + b"\0" + info)
        without_null = b"\x30\x2f\x30\x0b" + info[4:15] + info[17:]
        longer = b"\x30\x35" + info[2:] + b"\4\2ab"
        for encoded in (
            b"\0\1" + b"\xff" * 8 + b"\0" + info + bytes(256 - 11 - len(info)),
            b"\0\1" + b"\xff" * 8 + b"\0" + info + b"garbage" * 40,
            b"\0\1" + b"\xff" * 8 + bytes(256 - 10 - len(info)) + info,
            b"\0\1" + b"\xff" * 100 + b"\xfe" + b"\xff" * (256 - 104 - len(info)) + b"\0" + info,
            b"\0\2" + b"\xff" * (256 - 3 - len(info)) + b"\0" + info,
            b"\0\0" + b"\xff" * (256 - 3 - len(info)) + b"\0" + info,
            b"\0\1" + b"\xff" * (256 - 3 - len(without_null)) + b"\0" + without_null,
            b"\0\1" + b"\xff" * (256 - 3 - len(longer)) + b"\0" + longer,
            b"\0\1" + b"\xff" * (256 - 3 - 32) + b"\0" + info[-32:],
            bytes(256),
            bytes(255) + b"\1",
        ):
            with pytest.raises(AuthenticationFailed):
                self.verify(encoded[:256])

    @pytest.mark.parametrize(
        "exponent", ["000000", "000001", "000003", "010000", "00ffff", "7fffff", "ffffff", "800001"]
    )
    def test_exponents(self, exponent: str) -> None:
        """Of a certificate that AAA would have let pass."""
        usual = client_credential("rsa").chain_der
        changed = usual[0].replace(b"\2\3\1\0\1", b"\2\3" + bytes.fromhex(exponent))
        assert changed != usual[0]
        wire, config = Wire(), by_certificate("rsa")
        config.chain_der = (changed, *usual[1:])
        client = wire.connect(config)
        assert (client.phase, client.initiator.error) == (Phase.FAILED, "AUTHENTICATION_FAILED")
        assert wire.seen(SaEstablished) == []


class TestDowngrade:
    """Somebody in between edits IKE_SA_INIT. AUTH covers all of it, so whoever gets the other one's finds out."""

    @pytest.mark.parametrize(
        ("of_gateway", "kind"),
        [
            # The same offer twice; another nonce; no notifies, so that RSA signs with SHA-1, nobody fragments, and
            # there is no NAT; something that nobody looks at.
            (False, PayloadType.SA),
            (False, PayloadType.NONCE),
            (False, PayloadType.NOTIFY),
            (False, PayloadType.VENDOR_ID),
            (True, PayloadType.NONCE),
            (True, PayloadType.NOTIFY),
            (True, PayloadType.VENDOR_ID),
        ],
    )
    def test_the_other_side_saw_something_else(self, kind: PayloadType, of_gateway: bool) -> None:
        def edit(to_gateway: bool, batch: list[bytes]) -> list[bytes]:
            header = Header.parse(batch[0])
            if to_gateway is of_gateway or header.exchange != ExchangeType.IKE_SA_INIT:
                return batch
            bodies = parse_payloads(header.next_payload, batch[0][28:]).bodies
            if kind is PayloadType.SA:
                bodies[kind] = [proposals_to_bytes(parse_proposals(bodies[kind][0]) * 2)]
            elif kind is PayloadType.NONCE:
                bodies[kind] = [bodies[kind][0][:-1] + b"?"]
            elif kind is PayloadType.NOTIFY:
                del bodies[kind]
            else:
                bodies[kind] = [b"who is this"]
            flat = [(PayloadType(number), body) for number, found in bodies.items() for body in found]
            flags = Flag.RESPONSE if of_gateway else Flag.INITIATOR
            return [clear_message(header.spi_i, header.spi_r, header.exchange, flags, 0, flat)]

        wire, config = Wire(), mschapv2()
        # What was edited on its way to the client, its own check of the gateway's AUTH has to find.
        config.verify_gateway = of_gateway
        wire.filter = edit
        client = wire.connect(config)
        assert not client.is_up
        assert wire.seen(SaEstablished) == []


class TestInTheClear:
    ERRORS = tuple(kind for kind in NotifyType if kind < NotifyType.INITIAL_CONTACT)

    @pytest.mark.parametrize("state", [State.HALF_OPEN, State.EAP, State.ESTABLISHED])
    def test_errors(self, state: State) -> None:
        wire = Wire()
        client = handshake(wire, State.HALF_OPEN) if state is State.HALF_OPEN else wire.client()
        if state is State.ESTABLISHED:
            client = wire.connect()
            wire.filter = lambda to_gateway, batch: [] if to_gateway else batch
            wire.advance(wire.config.dpd_interval_s + 1)
        elif state is State.EAP:
            client = handshake(wire, state)
        sa, events, sent = next(sa for sa in wire.responder.sas()), len(wire.events), len(wire.from_gateway)
        for error in self.ERRORS:
            for exchange in (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL):
                for flags in (0, Flag.RESPONSE, Flag.INITIATOR, Flag.INITIATOR | Flag.RESPONSE):
                    for message_id in range(3):
                        told = [notify_payload(error, b"\0\x13")]
                        data = clear_message(sa.spi_i, sa.spi_r, exchange, flags, message_id, told)
                        wire.responder.receive_datagram(data, client.outer, wire.now)
        wire.run()
        assert (sa.state, len(wire.events), len(wire.from_gateway)) == (state, events, sent)
