"""Additional key exchanges in IKE_INTERMEDIATE (RFC 9242, RFC 9370): made, demanded, and covered by AUTH."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.ike.constants import (
    IKE_HEADER_BYTES,
    Encr,
    ExchangeType,
    Flag,
    Group,
    Integ,
    NotifyType,
    PayloadType,
    Prf,
)
from gateway.ike.events import CloseCause
from gateway.ike.exchanges.ike_intermediate import Intermediate, covered
from gateway.ike.fragments import Fragment
from gateway.ike.keymat import IkeKeys
from gateway.ike.message import Header, chain, clear_message, parse_payloads
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.security_association import parse_proposals, proposals_to_bytes
from gateway.ike.policy import CNSA2
from gateway.ike.proposals import IkeSuite
from tests.peers.initiator import Initiator, InitiatorConfig, Phase
from tests.unit.gateway.ike.offers import ike_proposal
from tests.unit.gateway.ike.test_key_exchange_choice import with_additional
from tests.unit.gateway.ike.test_refusals import assert_refused, run
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.test_suites import assert_both_ends_agree
from tests.unit.gateway.ike.wire import Client, Wire, mschapv2, responder_config

K768, K1024, NONE = Group.ML_KEM_768, Group.ML_KEM_1024, Group.NONE
GCM = IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_384, Group.ECP_384)
CBC = IkeSuite(Encr.AES_CBC, 256, Integ.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, Group.CURVE25519)
Payload = tuple[PayloadType, bytes]


def hybrid(*methods: Group, suite: IkeSuite = GCM) -> InitiatorConfig:
    """A client that signs in with a password and demands these additional key exchanges."""
    config = mschapv2()
    config.suite = replace(suite, additional=methods)
    return config


def exchanges(wire: Wire) -> list[int]:
    """The exchanges of the gateway's messages, each once for all its fragments."""
    headers = [Header.parse(data) for data, _ in wire.from_gateway]
    return list({header.message_id: header.exchange for header in headers}.values())


def init_notifies(datagram: bytes) -> set[int]:
    """The notifies of an IKE_SA_INIT message."""
    payloads = parse_payloads(Header.parse(datagram).next_payload, datagram[IKE_HEADER_BYTES:])
    return {Notify.parse(body).type for body in payloads.all(PayloadType.NOTIFY)}


def with_intermediate(change: Callable[[Initiator, list[Payload]], list[Payload]]) -> type[Initiator]:
    """An initiator whose IKE_INTERMEDIATE requests are changed before they are encrypted."""

    class Changed(Initiator):
        def intermediate_payloads(self, method: Group) -> list[Payload]:
            return change(self, super().intermediate_payloads(method))

    return Changed


class Impatient(Initiator):
    """Goes on to IKE_AUTH at once."""

    def _begin_next_exchange(self) -> None:
        self._send_first_auth()


class TestHandshake:
    @pytest.mark.parametrize("methods", [(K768,), (K1024,), (K768, K1024), (K1024, K768)])
    @pytest.mark.parametrize("suite", [GCM, CBC], ids=str)
    @pytest.mark.parametrize("fragment_size_bytes", [576, 1280, None])
    def test_with_a_password(self, methods: tuple[Group, ...], suite: IkeSuite, fragment_size_bytes: int) -> None:
        wire, config = Wire(), hybrid(*methods, suite=suite)
        config.fragment_size_bytes = fragment_size_bytes
        client = wire.connect(config)
        assert wire.sa.suite == replace(suite, additional=methods)
        assert exchanges(wire)[1 : 2 + len(methods)] == [*[ExchangeType.IKE_INTERMEDIATE] * len(methods), 35]
        assert_both_ends_agree(wire, client)

    def test_with_a_certificate(self) -> None:
        wire, config = Wire(), by_certificate("p384")
        config.suite = replace(GCM, additional=(K1024,))
        assert_both_ends_agree(wire, wire.connect(config))

    def test_each_exchange_makes_new_keys(self) -> None:
        wire = Wire()
        client = wire.client(hybrid(K768, K1024))
        seen: list[IkeKeys] = []

        def watch(_to_gateway: bool, batch: list[bytes]) -> list[bytes]:
            keys = client.initiator.keys
            if keys is not None and keys not in seen:
                seen.append(keys)
            return batch

        wire.filter = watch
        client.initiator.start()
        wire.run()
        assert len(seen) == 3
        assert len({key for keys in seen for key in (keys.d, keys.ei, keys.er, keys.pi, keys.pr)}) == 15
        assert wire.sa.keys == seen[-1]

    def test_with_a_cookie(self) -> None:
        wire = Wire(responder_config(cookie_threshold=0))
        client = wire.connect(hybrid(K768))
        assert wire.responder.statistics.cookies_sent == 1
        assert_both_ends_agree(wire, client)

    def test_fragments_in_any_order_and_twice(self) -> None:
        wire, config = Wire(), hybrid(K768, K1024)
        config.fragment_size_bytes = 576
        wire.filter = lambda _, batch: [*reversed(batch), *batch]
        assert_both_ends_agree(wire, wire.connect(config))

    def test_an_exchange_that_the_peer_does_not_insist_on(self) -> None:
        wire, config = Wire(), mschapv2()
        config.proposals = (
            with_additional(ike_proposal(1, [(Encr.AES_GCM_16, 256)], [], [GCM.prf], [GCM.group]), [NONE, K1024]),
        )
        config.ke_group, config.announce_intermediate = GCM.group, True
        assert_both_ends_agree(wire, wire.connect(config))
        assert wire.sa.suite.additional == (K1024,)

    def test_nothing_is_announced_where_nothing_was_chosen(self) -> None:
        wire, config = Wire(), mschapv2()
        config.announce_intermediate = True
        assert_both_ends_agree(wire, wire.connect(config))
        assert NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED not in init_notifies(wire.from_gateway[0][0])
        assert ExchangeType.IKE_INTERMEDIATE not in exchanges(wire)

    def test_cnsa2(self) -> None:
        wire = Wire(responder_config(policy=CNSA2))
        config = hybrid(K1024)
        assert_both_ends_agree(wire, wire.connect(config))
        wire = Wire(responder_config(policy=CNSA2))
        client = run(wire, hybrid())
        assert (client.phase, client.initiator.error) == (Phase.FAILED, "NO_PROPOSAL_CHOSEN")

    def test_a_retransmission_gets_the_same_bytes_though_the_keys_have_changed(self) -> None:
        wire, lost = Wire(), list[bytes]()

        def lose_the_first_answer(to_gateway: bool, batch: list[bytes]) -> list[bytes]:
            if to_gateway or lost or Header.parse(batch[0]).exchange != ExchangeType.IKE_INTERMEDIATE:
                return batch
            lost.extend(batch)
            return []

        wire.filter = lose_the_first_answer
        client = wire.connect(hybrid(K1024))
        assert client.phase is Phase.AUTH
        wire.retransmit(client)
        assert len(lost) == 2
        assert [[data for data, _ in wire.from_gateway].count(fragment) for fragment in lost] == [2, 2]
        assert_both_ends_agree(wire, client)


class TestRefusals:
    def test_ike_auth_instead(self) -> None:
        wire = Wire()
        client = run(wire, hybrid(K768), Impatient)
        assert "before the additional key exchanges" in wire.failures[0][1]
        assert_refused(wire, client, "INVALID_SYNTAX")

    def test_ike_auth_after_the_first_of_two(self) -> None:
        class HalfWay(Initiator):
            def _begin_next_exchange(self) -> None:
                if self.message_id == 1:
                    super()._begin_next_exchange()
                else:
                    self._send_first_auth()

        wire = Wire()
        assert_refused(wire, run(wire, hybrid(K768, K1024), HalfWay), "INVALID_SYNTAX")

    @pytest.mark.parametrize(
        "payloads",
        [
            [],
            [(PayloadType.KE, KeyExchange(K1024, bytes(1568)).to_bytes())],
            [(PayloadType.KE, KeyExchange(K768, bytes(1183)).to_bytes())],
            [(PayloadType.KE, KeyExchange(K768, b"\xff" * 1184).to_bytes())],
            [(PayloadType.KE, KeyExchange(NONE, b"x").to_bytes())],
            [(PayloadType.KE, b"")],
            [(PayloadType.KE, KeyExchange(K768, bytes(1184)).to_bytes())] * 2,
            [(PayloadType.NOTIFY, b"\0")],
        ],
    )
    def test_no_proper_key_exchange(self, payloads: list[Payload]) -> None:
        wire = Wire()
        client = run(wire, hybrid(K768), with_intermediate(lambda *_: payloads))
        assert_refused(wire, client, "INVALID_SYNTAX")

    def test_one_more_than_agreed(self) -> None:
        class More(Initiator):
            def _begin_next_exchange(self) -> None:
                if not self.intermediate.pending:
                    self.intermediate.pending.append(K768)
                super()._begin_next_exchange()

        wire = Wire()
        assert_refused(wire, run(wire, hybrid(K768), More), "INVALID_SYNTAX")
        assert "not agreed on" in wire.failures[0][1]

    def test_without_an_agreement(self) -> None:
        class Uninvited(Initiator):
            def _begin_next_exchange(self) -> None:
                self.intermediate.pending.append(K768)
                super()._begin_next_exchange()

        wire = Wire()
        assert_refused(wire, run(wire, None, Uninvited), "INVALID_SYNTAX")

    def test_in_the_middle_of_ike_auth(self) -> None:
        class Late(Initiator):
            def receive_answer(self, header: Header, payloads: object) -> None:
                if header.exchange == ExchangeType.IKE_AUTH and header.message_id == 2:
                    self.request(ExchangeType.IKE_INTERMEDIATE, self.intermediate_payloads(K768))

            def request(self, exchange: ExchangeType, payloads: object) -> list[bytes]:
                if exchange == ExchangeType.IKE_AUTH and self.message_id == 3:
                    return []
                return super().request(exchange, payloads)  # type: ignore[arg-type]

        wire = Wire()
        run(wire, hybrid(K768), Late)
        assert wire.causes == [CloseCause.REFUSED]

    def test_every_truncation_of_the_inner_payloads(self) -> None:
        first, plain = chain([(PayloadType.KE, KeyExchange(K768, bytes(range(256)) * 4 + bytes(160)).to_bytes())])
        for size in (*range(20), 600, len(plain) - 1):
            wire = Wire()
            client = wire.client(hybrid(K768), initiator=Silent)
            client.initiator.start()
            wire.run()
            channel = client.initiator.channel
            assert channel is not None
            sealed = channel.seal_plain(ExchangeType.IKE_INTERMEDIATE, 1, first, plain[:size], response=False)
            client.initiator.send(sealed)
            wire.run()
            assert wire.causes == [CloseCause.REFUSED]

    def test_a_forged_request_changes_nothing(self) -> None:
        wire = Wire()
        client = wire.client(hybrid(K768))

        def forge(to_gateway: bool, batch: list[bytes]) -> list[bytes]:
            if to_gateway and Header.parse(batch[0]).exchange == ExchangeType.IKE_INTERMEDIATE:
                return [bytes((*data[:-1], data[-1] ^ 1)) for data in batch] + batch
            return batch

        wire.filter = forge
        client.initiator.start()
        wire.run()
        assert_both_ends_agree(wire, client)

    def test_who_stops_there_is_forgotten(self) -> None:
        wire = Wire()
        wire.filter = lambda to_gateway, batch: (
            [] if not to_gateway and Header.parse(batch[0]).exchange == ExchangeType.IKE_INTERMEDIATE else batch
        )
        wire.connect(hybrid(K768))
        assert wire.responder.half_open == 1
        wire.advance(wire.config.half_open_timeout_s + 1)
        assert (wire.responder.half_open, wire.causes) == (0, [CloseCause.HALF_OPEN_TIMEOUT])


class Silent(Initiator):
    """Stops after IKE_SA_INIT."""

    def _begin_next_exchange(self) -> None:
        pass


def changed_init(client: Client, change: Callable[[list[Payload]], list[Payload]]) -> Callable[..., list[bytes]]:
    """A filter between the peers that edits the client's IKE_SA_INIT."""

    def edit(to_gateway: bool, batch: list[bytes]) -> list[bytes]:
        header = Header.parse(batch[0])
        if not to_gateway or header.exchange != ExchangeType.IKE_SA_INIT:
            return batch
        payloads = parse_payloads(header.next_payload, batch[0][IKE_HEADER_BYTES:])
        flat = [(PayloadType(kind), body) for kind, bodies in payloads.bodies.items() for body in bodies]
        return [clear_message(header.spi_i, bytes(8), header.exchange, Flag.INITIATOR, 0, change(flat))]

    return edit


class TestDowngrade:
    """Whoever sits in between, and can break classical key exchange, must not get rid of the other one."""

    def test_a_fallback_instead_of_the_first_proposal(self) -> None:
        plain = ike_proposal(2, [(Encr.AES_GCM_16, 256)], [], [GCM.prf], [GCM.group])
        wire, config = Wire(), mschapv2()
        config.proposals = (replace(with_additional(plain, [K768]), number=1), plain)
        config.ke_group, config.announce_intermediate = GCM.group, True
        client = wire.client(config)

        def strip(payloads: list[Payload]) -> list[Payload]:
            return [
                (t, proposals_to_bytes(parse_proposals(b)[1:]) if t == PayloadType.SA else b) for t, b in payloads
            ]

        wire.filter = changed_init(client, strip)
        client.initiator.start()
        wire.run()
        # The client signs what it sent, the gateway knows what it got.
        assert_refused(wire, client, "AUTHENTICATION_FAILED")

    def test_the_announcement_taken_out(self) -> None:
        wire, config = Wire(), mschapv2()
        plain = ike_proposal(1, [(Encr.AES_GCM_16, 256)], [], [GCM.prf], [GCM.group])
        config.proposals = (with_additional(plain, [K768, NONE]),)
        config.ke_group, config.announce_intermediate = GCM.group, True
        client = wire.client(config)
        announcement = notify_payload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)
        wire.filter = changed_init(client, lambda payloads: [item for item in payloads if item != announcement])
        client.initiator.start()
        wire.run()
        assert_refused(wire, client, "AUTHENTICATION_FAILED")

    def test_the_answer_edited(self) -> None:
        wire = Wire()
        client = wire.client(hybrid(K768))

        def strip(to_gateway: bool, batch: list[bytes]) -> list[bytes]:
            header = Header.parse(batch[0])
            if to_gateway or header.exchange != ExchangeType.IKE_SA_INIT:
                return batch
            payloads = parse_payloads(header.next_payload, batch[0][IKE_HEADER_BYTES:])
            (chosen,) = parse_proposals(payloads.require(PayloadType.SA))
            classical = replace(chosen, transforms=chosen.transforms[:-1])
            payloads.bodies[PayloadType.SA] = [proposals_to_bytes((classical,))]
            flat = [(PayloadType(kind), body) for kind, bodies in payloads.bodies.items() for body in bodies]
            return [clear_message(header.spi_i, header.spi_r, header.exchange, Flag.RESPONSE, 0, flat)]

        wire.filter = strip
        client.initiator.start()
        wire.run()
        assert_refused(wire, client, "INVALID_SYNTAX")

    @pytest.mark.parametrize("side", ["_auth_i", "_auth_r"])
    @pytest.mark.parametrize("config", [hybrid(K768), hybrid(K768, K1024)])
    def test_the_client_saw_other_messages_than_the_gateway(self, side: str, config: InitiatorConfig) -> None:
        class Deceived(Initiator):
            def _send_first_auth(self) -> None:
                value = getattr(self.intermediate, side)
                setattr(self.intermediate, side, bytes((value[0] ^ 1,)) + value[1:])
                super()._send_first_auth()

        config.verify_gateway = False
        wire = Wire()
        assert_refused(wire, run(wire, config, Deceived), "AUTHENTICATION_FAILED")

    def test_the_gateways_proof_covers_them_too(self) -> None:
        class Deceived(Initiator):
            def _send_first_auth(self) -> None:
                self.intermediate = Intermediate(self.suite.prf, ())
                super()._send_first_auth()

        wire = Wire()
        client = run(wire, hybrid(K768), Deceived)
        assert (client.phase, client.initiator.error) == (Phase.FAILED, "signature does not verify")


class TestIntAuth:
    KEYS = IkeKeys(*(bytes((number,)) * 32 for number in range(7)))
    PLAIN = b"\0\0\0\x0aabcdef"
    SPIS = b"initiato" + b"responde"

    def message(self, next_payload: int, sk_flags: int = 0) -> bytes:
        """The headers of a request with message id 1."""
        header = Header(self.SPIS[:8], self.SPIS[8:], next_payload, 0x20, 43, 0x08, 1, 999)
        return header.to_bytes() + bytes((34, sk_flags)) + b"\x03\xcb" + b"IV and ciphertext"

    def test_the_chunks_of_a_message(self) -> None:
        # RFC 9242 figure 1: both lengths are without IV, padding and ICV.
        assert covered(Fragment(34, self.PLAIN, self.message(46))) == (
            self.SPIS + bytes((46, 0x20, 43, 0x08)) + b"\0\0\0\x01" + b"\0\0\0\x2a" + b"\x22\0\0\x0e" + self.PLAIN
        )

    def test_a_fragmented_message_is_covered_as_if_it_had_gone_whole(self) -> None:
        whole = covered(Fragment(34, self.PLAIN, self.message(46)))
        assert covered(Fragment(34, self.PLAIN, self.message(53))) == whole

    def test_the_critical_bit_as_it_was_sent(self) -> None:
        assert covered(Fragment(34, self.PLAIN, self.message(46, 0x80)))[29] == 0x80

    @pytest.mark.parametrize("algorithm", [Prf.HMAC_SHA2_256, Prf.HMAC_SHA2_384])
    def test_is_chained(self, algorithm: Prf) -> None:
        name = {Prf.HMAC_SHA2_256: "sha256", Prf.HMAC_SHA2_384: "sha384"}[algorithm]
        intermediate = Intermediate(algorithm, (K768, K1024))
        assert intermediate.int_auth == b""
        message, other = Fragment(34, self.PLAIN, self.message(46)), Fragment(34, b"", self.message(46))
        first, second = self.KEYS, replace(self.KEYS, pi=b"i" * 32, pr=b"r" * 32)
        intermediate.cover_request(first, message)
        intermediate.cover_response(first, other)
        auth_i1 = hmac.digest(first.pi, covered(message), name)
        auth_r1 = hmac.digest(first.pr, covered(other), name)
        assert intermediate.int_auth == auth_i1 + auth_r1 + b"\0\0\0\x02"
        intermediate.cover_request(second, other)
        intermediate.cover_response(second, message)
        auth_i2 = hmac.digest(second.pi, auth_i1 + covered(other), name)
        auth_r2 = hmac.digest(second.pr, auth_r1 + covered(message), name)
        assert intermediate.int_auth == auth_i2 + auth_r2 + b"\0\0\0\x03"
        assert not intermediate.pending

    @pytest.mark.parametrize("fragment_size_bytes", [576, 1280, None])
    def test_is_the_same_for_both_however_the_messages_were_cut(self, fragment_size_bytes: int | None) -> None:
        wire, config = Wire(), hybrid(K768)
        config.fragment_size_bytes = fragment_size_bytes
        seen: list[bytes] = []

        class Watched(Initiator):
            def _send_first_auth(self) -> None:
                intermediate = wire.sa.intermediate
                assert intermediate is not None
                seen.extend((self.intermediate.int_auth, intermediate.int_auth))
                super()._send_first_auth()

        assert run(wire, config, Watched).phase is Phase.ESTABLISHED
        assert len(seen[0]) == 48 + 48 + 4
        assert seen[0] == seen[1]
