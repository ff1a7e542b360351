"""Known attacks on IKEv2 gateways, most of them on others than this one, and where each is tried here.

Names without a path are of this file, those that begin with `test_` of this directory, others of `tests/unit`.

Floods and resources:
- first messages from forged addresses (RFC 8019): test_half_open::TestCookies, test_cookie,
  test_admitting::TestFastSources
- first messages from many machines, or from all of a network: test_half_open::TestLimits,
  test_half_open::TestTimeout, test_admitting::TestManyOfOneSource
- IKE_AUTH full of garbage, to make the gateway compute: TestFloods::test_garbage_for_a_handshake,
  test_half_open::TestTimeout::test_garbage_does_not_reset_the_clock, test_half_open::TestKeyExchange
- answers that are longer than the question, or repeated, as a weapon against others: TestFloods::test_amplification,
  TestFloods::test_nothing_is_repeated_unasked, test_strays, test_hostile_insiders::Roaming
- SPIs that are guessed, used up or taken: test_responder::TestSpis, TestFloods::test_spis_of_child_sas
- child SAs and rekeyings without end: test_rekeying::TestChildSa::test_never_ends_up_with_more_than_the_limit,
  test_rekeying::TestChildSa::test_too_often_is_put_off,
  test_hostile_insiders::test_child_sas_that_are_rekeyed_and_never_deleted
- message ids out of order, old, or far ahead: test_window::TestPeerRequests, test_window_size,
  test_loss::test_old_requests_are_not_answered
- tickets forged, seen on the wire, used twice, or of somebody revoked: test_resumption::TestRefusals,
  gateway/test_tickets::TestSealing, aaa/test_coming_back
- REDIRECT to somewhere else, or round in circles: test_redirect::TestTarget, test_redirect::TestFirstExchange

Parsing and fragments:
- length fields that lie: test_message::TestChain, test_payloads, test_security_association::test_what_does_not_fit,
  test_selectors::TestCodec, test_half_open::TestFirstMessages, test_refusals::TestMalformedRequests
- fragments that do not fit together (RFC 7383): test_fragments, test_channel::TestUnverified,
  TestFragments::test_of_another_kind
- CVE-2026-12413, unknown payloads beside fragments: TestFragments::test_beside_other_payloads
- CVE-2016-1287, a fragment shorter than its own headers: TestFragments::test_shorter_than_its_headers
- CVE-2015-3991, payload types of IKEv1: test_message::TestChain::test_payload_types_of_ikev1,
  test_channel::TestAuthenticButInvalid::test_a_payload_of_ikev1
- CVE-2014-9221, a key exchange of a private group: TestMalformed::test_a_group_that_nobody_offered
- CVE-2016-5391, CVE-2016-3071, proposals without a key exchange, or with algorithms that hardly anybody has:
  test_proposals::TestIke::test_what_is_no_complete_offer
- CVE-2015-3240, CVE-2023-41913, public values of zero, or of another length: test_key_exchange,
  test_half_open::TestKeyExchange
- CVE-2023-23009, malformed traffic selectors of one who is in: TestMalformed::test_selectors
- CVE-2023-38710, REKEY_SA of another protocol: TestMalformed::test_rekey_sa
- CVE-2022-23094, CVE-2024-3652, CVE-2023-30570, messages of IKEv1: test_half_open::TestFirstMessages::test_silence
- CVE-2024-2357, a handshake that fails half-way and stays: test_closed, test_site_peers::TestNobodyElseGetsIn
- CVE-2023-28771, what a peer says in a shell: TestMalformed::test_nothing_of_it_reaches_a_shell,
  test_payloads::TestIdentificationText,
  gateway/test_handshake_commands::test_what_a_client_wrote_commands_no_terminal
- CVE-2025-9242, CVE-2025-14733, an identity of any length: test_payloads::TestMinimalSizes,
  TestMalformed::test_identities
- CVE-2013-6075, CVE-2017-9023, distinguished names and other DER: pki/test_verification::TestIdentity,
  pki/test_verification::TestMalformed
- payloads that have to be understood: test_message::TestChain::test_unknown_payloads,
  test_lifecycle::TestOutOfStep::test_an_unknown_critical_payload_does_not_end_an_sa
- a fault of ours that stops the gateway: gateway/test_engine::TestFaults, test_fuzz

Authentication and state:
- CVE-2014-2338, other exchanges before the peer is in: test_forgeries::TestBeforeOneIsIn
- an identity that the credential does not have: test_refusals::TestCertificate, pki/test_verification::TestIdentity,
  aaa/test_trusted_authorities::TestUsersOfAnUnknownDevice::test_must_call_themselves_what_the_certificate_says
- CVE-2021-45079, EAP that succeeds too early, or without a key: test_refusals::TestEap, test_eap_only,
  aaa/eap/test_server::test_every_state_and_input
- CVE-2023-26463, a certificate that is used before it is trusted: aaa/eap/test_tls_refusals,
  pki/test_verification::TestPath
- CVE-2022-40617, URLs of certificates that nobody trusts: pki/revocation/test_fetch, pki/revocation/test_checker,
  aaa/test_trusted_authorities::TestOurOwn::test_a_stranger_is_refused
- CVE-2021-41990, CVE-2021-41991, salts and caches: test_authentication::TestPss, pki/revocation/test_cache
- CVE-2018-16151, CVE-2018-16152, signatures of which only a part is looked at:
  test_forgeries::TestSignatures::test_padding
- CVE-2018-17540, CVE-2017-11185, CVE-2026-14957, RSA keys that are none:
  test_forgeries::TestSignatures::test_exponents, test_authentication::TestWeakKeys,
  pki/test_keys::test_refuses_bad_rsa
- CVE-2013-2944, an error taken for success: test_authentication::TestVerifying
- CVE-2026-35331, name constraints in other letters: pki/test_foreign::TestNameConstraints
- paths that are none, and lists of revocation by the wrong one: pki/test_verification::TestPath,
  pki/test_verification::TestUsage, pki/revocation/test_crl
- downgrades: test_forgeries::TestDowngrade, test_intermediate::TestDowngrade,
  test_authentication::TestVerifying::test_sha1_from_a_client_that_can_do_better_is_a_downgrade
- INITIAL_CONTACT, a move, a Delete of somebody else: test_lifecycle::TestInitialContact,
  test_mobike::TestWhatMovesNothing, test_nat::TestMoving
- addresses that are not the client's own: test_selectors::TestNarrowing, gateway/test_pool,
  gateway/dataplane/test_plane::test_lets_no_packet_in_that_the_selectors_do_not_name
- errors in the clear, which anybody can send: test_forgeries::TestInTheClear, test_unauthenticated
- guessing of passwords and keys: aaa/test_failure_limit, test_refusals::TestEap::test_an_unknown_user_looks_the_same,
  gateway/test_shared_keys::TestRefused
- an IV that comes twice: test_snapshot::test_no_iv_comes_twice_after_a_restart,
  test_channel::TestBothWays::test_no_iv_twice
- packets that are played again: gateway/dataplane/test_replay,
  gateway/dataplane/test_plane::test_drops_and_counts_a_replay
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path as File

import pytest

from gateway.ike.constants import ExchangeType, Flag, NotifyType, PayloadType, ProtocolId
from gateway.ike.events import CloseCause, SaEstablished
from gateway.ike.message import Header, clear_message, parse_payloads
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.security_association import proposals_to_bytes
from gateway.ike.sa import FORGED_BURST
from gateway.ike.selectors import TrafficSelector, selectors_to_bytes
from gateway.ike.states import State
from tests.peers.initiator import Initiator, InitiatorConfig, Phase, suite_proposal
from tests.unit.gateway.ike.established import ask, notifies, up
from tests.unit.gateway.ike.offers import WINDOWS_PROFILE_ESP
from tests.unit.gateway.ike.test_half_open import from_address, init_of, notifies_of
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.variants import Listening
from tests.unit.gateway.ike.wire import Client, Wire, everything, responder_config

TESTS = File(__file__).parents[2]
EVERYTHING = (TrafficSelector(7, 0, 0, 65535, 0, 2**32 - 1),)


def handshake(wire: Wire, state: State, config: InitiatorConfig | None = None) -> Client:
    """A client whose turn it is, with the gateway in some state."""
    client = wire.client(config, initiator=Listening)
    client.initiator.start()
    wire.run_until(lambda: wire.state is state)
    return client


class TestTable:
    ROWS = re.findall(r"^- (.*?)(?=^- |^\w|\Z)", __doc__ or "", re.M | re.S)

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.partition(":")[0][:60])
    def test_each_threat_is_tried(self, row: str) -> None:
        _, _, nodes = " ".join(row.split()).partition(": ")
        assert nodes
        for node in nodes.split(", "):
            module, _, name = node.partition("::")
            if module.startswith("Test"):
                module, name = "test_threats", node
            path = module if "/" in module else f"gateway/ike/{module}"
            assert not name or name in names_in(path), node


@cache
def names_in(module: str) -> set[str]:
    """`function`, `Class` and `Class::function` of a module of tests."""
    names: set[str] = set()
    for node in ast.parse((TESTS / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return names


class TestFloods:
    def test_garbage_for_a_handshake(self) -> None:
        wire = Wire()
        client = wire.client()
        wire.filter = lambda to_gateway, batch: (
            [] if to_gateway and Header.parse(batch[0]).exchange == ExchangeType.IKE_AUTH else batch
        )
        client.initiator.start()
        wire.run()
        sa = wire.sa
        header = Header(sa.spi_i, sa.spi_r, PayloadType.SK, 0x20, ExchangeType.IKE_AUTH, Flag.INITIATOR, 1, 128)
        garbage = header.to_bytes() + b"\0\0\0\x64" + bytes(96)
        for _ in range(int(FORGED_BURST) + 1000):
            wire.responder.receive_datagram(garbage, client.outer, wire.now)
        assert sa.trace is not None
        # Diffie-Hellman was made once, and so many were looked at.
        assert (sa.key_pair, sa.trace.damaged) == (None, FORGED_BURST + 1)
        wire.advance(0.1)
        wire.filter = everything
        wire.retransmit(client)
        assert client.phase is Phase.ESTABLISHED

    @pytest.mark.parametrize("state", [State.HALF_OPEN, State.EAP])
    def test_nothing_is_repeated_unasked(self, state: State) -> None:
        wire = Wire()
        handshake(wire, state)
        sent = len(wire.from_gateway)
        wire.advance(wire.config.half_open_timeout_s + wire.config.linger_s + 60)
        assert len(wire.from_gateway) == sent
        assert wire.responder.sas() == []

    def test_amplification(self) -> None:
        """One answer is at most three times as long as a question of the shortest kind; many are shorter together."""
        wire = Wire()
        for port in range(1, 1001):
            payloads = parse_payloads(PayloadType.SA, init_of(wire)[28:]).bodies
            shortest = [(kind, payloads[kind][0]) for kind in (PayloadType.SA, PayloadType.KE)]
            shortest.append((PayloadType.NONCE, wire.random.randbytes(16)))
            spi_i = wire.random.randbytes(8)
            request = clear_message(spi_i, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, shortest)
            wire.inject(request, from_address("203.0.113.1", port))
        answers = [len(data) for data, _ in wire.from_gateway]
        assert len(answers) == 1000
        assert max(answers) <= 3 * len(request)
        assert sum(answers) < 1000 * len(request)

    def test_spis_of_child_sas(self) -> None:
        wire = Wire(responder_config(worker_index=7))
        spis = [wire.responder.new_child_spi() for _ in range(3000)]
        assert len(set(spis)) == len(spis)
        assert all(spi > 255 and spi & 0xFF == 7 for spi in spis)
        for spi in spis:
            wire.responder.free_child_spi(spi)
        assert not wire.responder._child_spis


class TestFragments:
    @staticmethod
    def fragment(initiator: Initiator, length: int | None = None, before: bytes = b"") -> bytes:
        """The first of two fragments, authentic but for what is said."""
        channel = initiator.channel
        assert channel is not None
        channel.set_fragment_size(400, 4)
        padding = [notify_payload(NotifyType.COOKIE2, bytes(60))] * 8
        datagram = channel.seal(ExchangeType.INFORMATIONAL, initiator.message_id, padding, response=False)[0]
        body = datagram[28:]
        if length is not None:
            body = body[:2] + length.to_bytes(2, "big") + body[4:]
        header = Header.parse(datagram)._replace(length=28 + len(before) + len(body))
        if before:
            header = header._replace(next_payload=99)
        return header.to_bytes() + before + body

    @pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
    def test_beside_other_payloads(self, count: int) -> None:
        wire = Wire()
        client, initiator = up(wire)
        unknown = b"\x63\0\0\x04" * (count - 1) + bytes((PayloadType.SKF,)) + b"\0\0\x04"
        sent = len(wire.from_gateway)
        for _ in range(100):
            wire.inject(self.fragment(initiator, before=unknown), client.outer)
        assert (len(wire.from_gateway), wire.state) == (sent, State.ESTABLISHED)
        assert ask(wire, initiator, ExchangeType.INFORMATIONAL).bodies == {}

    @pytest.mark.parametrize("length", [*range(0, 40), 0x7FFF, 0xFFFF])
    def test_shorter_than_its_headers(self, length: int) -> None:
        wire = Wire()
        client, initiator = up(wire)
        sent = len(wire.from_gateway)
        whole = self.fragment(initiator, length)
        wire.inject(whole, client.outer)
        cut = whole[: 28 + length]
        wire.inject(Header.parse(whole)._replace(length=len(cut)).to_bytes() + cut[28:], client.outer)
        assert (len(wire.from_gateway), wire.state) == (sent, State.ESTABLISHED)

    def test_of_another_kind(self) -> None:
        """A fragment of a request that comes whole as well, and fragments where nothing is encrypted yet."""
        wire = Wire()
        client, initiator = up(wire)
        wire.inject(self.fragment(initiator), client.outer)
        (whole,) = initiator.request(ExchangeType.INFORMATIONAL, [])
        initiator.datagrams_to_send()
        wire.inject(whole, client.outer)
        sent = len(wire.from_gateway)
        wire.inject(self.fragment(initiator), client.outer)
        assert (len(wire.from_gateway), wire.state) == (sent, State.ESTABLISHED)
        first = init_of(wire)
        skf = Header.parse(first)._replace(next_payload=PayloadType.SKF, length=len(first) + 8)
        wire.inject(skf.to_bytes() + b"\x21\0\0\x08\0\1\0\1" + first[28:], from_address("203.0.113.1"))
        assert len(wire.responder.sas()) == 1


class TestMalformed:
    @pytest.mark.parametrize("group", [0, 1, 2, 5, 22, 32, 1024, 1025, 65535])
    def test_a_group_that_nobody_offered(self, group: int) -> None:
        wire = Wire()
        request = init_of(wire)
        at = request.index(b"\0\x1f\0\0")
        changed = request[:at] + group.to_bytes(2, "big") + request[at + 2 :]
        wire.inject(changed, from_address("203.0.113.1"))
        (notify,) = notifies_of(wire.from_gateway[0][0])
        assert (notify.type, notify.data) == (NotifyType.INVALID_KE_PAYLOAD, b"\0\x1f")
        assert wire.responder.sas() == []
        # And when one is in.
        _, initiator = up(wire)
        offer = proposals_to_bytes((replace(suite_proposal(initiator.suite), spi=b"new-spi!"),))
        answer = ask(
            wire,
            initiator,
            ExchangeType.CREATE_CHILD_SA,
            (PayloadType.SA, offer),
            (PayloadType.NONCE, b"n" * 32),
            (PayloadType.KE, KeyExchange(group, bytes(32)).to_bytes()),
        )
        assert notifies(answer) == [NotifyType.INVALID_KE_PAYLOAD]
        assert wire.established != []

    @staticmethod
    def child_request(tsi: bytes, tsr: bytes, *first: tuple[PayloadType, bytes]) -> list[tuple[PayloadType, bytes]]:
        """CREATE_CHILD_SA with a good offer."""
        offer = proposals_to_bytes(WINDOWS_PROFILE_ESP)
        return [
            *first,
            (PayloadType.SA, offer),
            (PayloadType.NONCE, b"n" * 32),
            (PayloadType.TSI, tsi),
            (PayloadType.TSR, tsr),
        ]

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "01",
            "00000000",
            "01000000",
            "02000000070000100000ffff0a6300020a630002",
            "01000000070000100000ffff0a6300020a63000200",
            "010000000700",
            "01000000070000080000ffff",
            "010000000700ffff0000ffff0a6300020a630002",
            "01000000080000100000ffff0a6300020a630002",
        ],
    )
    @pytest.mark.parametrize("at_fault", ["i", "r"])
    def test_selectors(self, body: str, at_fault: str) -> None:
        wire = Wire()
        _, initiator = up(wire)
        bad, good = bytes.fromhex(body), selectors_to_bytes(EVERYTHING)
        request = self.child_request(bad, good) if at_fault == "i" else self.child_request(good, bad)
        answer = ask(wire, initiator, ExchangeType.CREATE_CHILD_SA, *request)
        assert notifies(answer) == [NotifyType.INVALID_SYNTAX]
        assert (wire.causes, wire.children, wire.responder._child_spis) == ([CloseCause.PROTOCOL_ERROR], {}, set())

    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize("spi", [b"", b"abcd", b"12345678", bytes(4), None])
    def test_rekey_sa(self, protocol: int, spi: bytes | None) -> None:
        wire = Wire()
        _, initiator = up(wire)
        child = wire.child
        named = initiator.spi_in.to_bytes(4, "big") if spi is None else spi
        body = Notify(NotifyType.REKEY_SA, b"", protocol, named).to_bytes()
        selectors = selectors_to_bytes(EVERYTHING)
        request = self.child_request(selectors, selectors, (PayloadType.NOTIFY, body))
        answer = ask(wire, initiator, ExchangeType.CREATE_CHILD_SA, *request)
        if spi is None and protocol == ProtocolId.ESP:
            assert notifies(answer) == []
            return
        (told,) = [Notify.parse(notify) for notify in answer.all(PayloadType.NOTIFY)]
        assert (told.type, told.protocol, told.spi) == (NotifyType.CHILD_SA_NOT_FOUND, protocol, named)
        assert wire.children == {child.spi_in: child}

    @pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 255, 256, 1025, 5000, 30_000])
    @pytest.mark.parametrize("kind", [0, 1, 2, 3, 5, 9, 10, 11, 255])
    def test_identities(self, kind: int, size: int) -> None:
        class Named(Initiator):
            def first_auth_payloads(self) -> list[tuple[PayloadType, bytes]]:
                body = bytes((kind, 0, 0, 0)) + b"\x30" * size
                return [(t, body if t is PayloadType.IDI else b) for t, b in super().first_auth_payloads()]

        wire, config = Wire(), by_certificate()
        client = wire.client(config, initiator=Named)
        client.initiator.start()
        wire.run()
        assert client.phase in (Phase.FAILED, Phase.AUTH)
        assert wire.seen(SaEstablished) == []

    def test_nothing_of_it_reaches_a_shell(self) -> None:
        forbidden = {"subprocess", "pickle", "marshal", "shelve", "ctypes"}
        for package in ("gateway/ike", "aaa", "pki", "gateway/diagnosis"):
            for file in (TESTS.parents[1] / package).rglob("*.py"):
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                        assert not names & forbidden, file
                    if isinstance(node, ast.Call):
                        assert ast.unparse(node.func) not in ("eval", "exec", "os.system", "os.popen"), file
