"""Post-quantum pre-shared keys (RFC 8784): every combination of what both sides have and insist on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.crypto.prf import prf_plus
from gateway.ike.keymat import derive_child_keys
from gateway.ike.payloads.notify import Notify
from tests.peers.initiator import InitiatorConfig, Phase
from tests.unit.gateway.ike.established import ask
from tests.unit.gateway.ike.test_refusals import assert_refused, run
from tests.unit.gateway.ike.test_sign_in import assert_up, by_certificate
from tests.unit.gateway.ike.test_site_peers import SITES, site
from tests.unit.gateway.ike.test_two_factors import both
from tests.unit.gateway.ike.variants import Corrupted, Listening, first_auth
from tests.unit.gateway.ike.wire import Aaa, Client, Wire, mschapv2, responder_config

NAME, KEY = b"office-2026", b"q" * 32
OURS = {NAME: KEY, b"other": b"o" * 32}
WAYS: dict[str, Callable[[], InitiatorConfig]] = {
    "EAP": mschapv2,
    "certificate": by_certificate,
    "RSA": lambda: by_certificate("rsa"),
    "both": both,
}


def gateway(*, required: bool = False, ppks: dict[bytes, bytes] | None = None, **changes: Any) -> Wire:
    """A gateway with these keys, which it insists on or not."""
    return Wire(responder_config(ppks=OURS if ppks is None else ppks, ppk_required=required, **changes))


def client(way: str = "EAP", name: bytes = NAME, key: bytes = KEY, *, required: bool = False) -> InitiatorConfig:
    """A client with a key that it insists on or not."""
    return replace(WAYS[way](), ppk=(name, key), ppk_required=required)


class Noting(Listening):
    """Keeps SK_d as IKE_SA_INIT alone gave it."""

    sk_d = b""

    def first_auth_payloads(self) -> list[tuple[PayloadType, bytes]]:
        """The usual ones."""
        self.sk_d = self.current_keys.d
        return super().first_auth_payloads()


def connect(wire: Wire, config: InitiatorConfig) -> tuple[Client, Noting]:
    """A client, as far as it gets."""
    made = wire.client(config, initiator=Noting)
    made.initiator.start()
    wire.run()
    assert isinstance(made.initiator, Noting)
    return made, made.initiator


def assert_up_with(wire: Wire, made: Client, initiator: Noting, *, ppk: bool) -> None:
    """Both sides are in, with the same keys, and these have a PPK in them or not."""
    assert_up(wire, made)
    keys = wire.sa.keys
    assert keys is not None
    assert keys == initiator.keys
    assert (keys.d != initiator.sk_d) is ppk


class TestBothHaveIt:
    @pytest.mark.parametrize("client_insists", [True, False])
    @pytest.mark.parametrize("gateway_insists", [True, False])
    @pytest.mark.parametrize("way", WAYS)
    def test_it_is_used(self, way: str, gateway_insists: bool, client_insists: bool) -> None:
        wire = gateway(required=gateway_insists)
        assert_up_with(wire, *connect(wire, client(way, required=client_insists)), ppk=True)

    def test_the_keys_are_those_of_the_rfc(self) -> None:
        wire = gateway()
        _, initiator = connect(wire, client("certificate"))
        keys = wire.sa.keys
        assert keys is not None
        assert keys.d == prf_plus(wire.sa.suite.prf, KEY, initiator.sk_d, 32)
        # The child SA's keys are made of it.
        expected = derive_child_keys(wire.sa.suite, wire.child.suite, keys.d, initiator.nonce_i, initiator.nonce_r)
        assert wire.child.keys == initiator.child_keys == expected

    def test_what_goes_on_after_it(self) -> None:
        """The SK_e and SK_a stay: the channel is the same, and works."""
        wire = gateway()
        _, initiator = connect(wire, client("certificate"))
        assert not ask(wire, initiator, ExchangeType.INFORMATIONAL).bodies

    @pytest.mark.parametrize("way", WAYS)
    def test_the_gateway_says_so_with_its_auth_and_just_once(self, way: str) -> None:
        wire = gateway()
        _, initiator = connect(wire, client(way))
        said = [
            answer
            for answer in initiator.answers
            if any(Notify.parse(n).type == NotifyType.PPK_IDENTITY for n in answer.all(PayloadType.NOTIFY))
        ]
        assert len(said) == 1
        assert PayloadType.AUTH in said[0].bodies

    def test_with_a_pre_shared_key(self) -> None:
        wire = Wire(
            responder_config(site_peers=SITES, ppks=OURS, ppk_required=True),
            aaa=Aaa(peer_networks=(IPv4Network("10.7.0.0/16"),)),
        )
        assert_up_with(wire, *connect(wire, site(ppk=(NAME, KEY), ppk_required=True)), ppk=True)

    def test_the_second_one_of_several(self) -> None:
        wire = gateway()
        made = connect(wire, client(name=b"other", key=b"o" * 32, required=True))
        assert_up_with(wire, *made, ppk=True)


class TestOneSideDoesNotHaveIt:
    @pytest.mark.parametrize("way", WAYS)
    def test_neither_insists(self, way: str) -> None:
        """The gateway does not know the client's key, and takes what NO_PPK_AUTH has instead of AUTH."""
        wire = gateway()
        assert_up_with(wire, *connect(wire, client(way, name=b"unknown")), ppk=False)

    @pytest.mark.parametrize("way", WAYS)
    def test_the_client_insists(self, way: str) -> None:
        wire = gateway()
        assert_refused(wire, run(wire, client(way, name=b"unknown", required=True)), "AUTHENTICATION_FAILED")
        ((code, reason),) = wire.failures
        assert code == "ppk-refused"
        assert "the client insists" in reason

    @pytest.mark.parametrize("way", WAYS)
    def test_the_gateway_insists(self, way: str) -> None:
        wire = gateway(required=True)
        assert_refused(wire, run(wire, client(way, name=b"unknown")), "AUTHENTICATION_FAILED")
        assert wire.failures[0][0] == "ppk-refused"
        assert "one is required" in wire.failures[0][1]

    @pytest.mark.parametrize("way", WAYS)
    def test_the_client_has_none(self, way: str) -> None:
        wire = gateway()
        assert_up_with(wire, *connect(wire, WAYS[way]()), ppk=False)

    @pytest.mark.parametrize("way", WAYS)
    def test_the_client_has_none_and_the_gateway_insists(self, way: str) -> None:
        """It ends before a password is asked for, and before the gateway signs anything."""
        wire = gateway(required=True)
        client_ = run(wire, WAYS[way](), Listening)
        assert_refused(wire, client_, "AUTHENTICATION_FAILED")
        assert wire.failures == [
            ("ppk-refused", "the client uses no post-quantum pre-shared key, and one is required")
        ]
        assert isinstance(client_.initiator, Listening)
        assert PayloadType.AUTH not in client_.initiator.answers[-1].bodies

    @pytest.mark.parametrize("required", [True, False])
    def test_the_gateway_has_none(self, required: bool) -> None:
        wire = gateway(ppks={})
        made, initiator = connect(wire, client(required=required))
        # A client that insists would stop here; ours goes on without.
        assert NotifyType.USE_PPK not in initiator.gateway_announced
        assert_up_with(wire, made, initiator, ppk=False)

    def test_a_ppk_identity_that_was_not_agreed_on_is_not_looked_at(self) -> None:
        wire = gateway(ppks={})
        notify = Notify(NotifyType.PPK_IDENTITY, b"\x02" + NAME).to_bytes()
        variant = first_auth(lambda _, payloads: [*payloads, (PayloadType.NOTIFY, notify)])
        made = run(wire, by_certificate(), variant)
        assert_up(wire, made)


OTHER_KEY = "; the post-quantum pre-shared key may be another than ours"


class TestTheyHaveDifferentOnes:
    @pytest.mark.parametrize("required", [True, False])
    @pytest.mark.parametrize("way", ["certificate", "RSA", "both"])
    def test_a_signature_does_not_verify(self, way: str, required: bool) -> None:
        """The name is the same, the key is not: no falling back to NO_PPK_AUTH, that would be a downgrade."""
        wire = gateway()
        made = run(wire, client(way, key=b"x" * 32, required=required))
        assert_refused(wire, made, "AUTHENTICATION_FAILED")
        assert wire.failures == [("signature-refused", f"signature does not verify{OTHER_KEY}")]

    @pytest.mark.parametrize("required", [True, False])
    def test_nor_does_the_auth_of_eap(self, required: bool) -> None:
        wire = gateway()
        assert_refused(wire, run(wire, client(key=b"x" * 32, required=required)), "AUTHENTICATION_FAILED")
        assert wire.failures == [("authentication-failed", f"AUTH after EAP does not verify{OTHER_KEY}")]


class TestDowngrade:
    def test_somebody_takes_the_answer_of_the_gateway_away(self) -> None:
        """The gateway signs its N(USE_PPK): a client that did not see it does not believe what it sees."""
        wire = gateway()

        def strip(to_gateway: bool, batch: list[bytes]) -> list[bytes]:
            marker = b"\0\0" + NotifyType.USE_PPK.to_bytes(2, "big")
            return batch if to_gateway else [data.replace(marker, b"\0\0\xbf\xff") for data in batch]

        wire.filter = strip
        made, initiator = connect(wire, client("certificate"))
        assert (made.phase, initiator.error) == (Phase.FAILED, "signature does not verify")

    def test_a_no_ppk_auth_that_is_wrong(self) -> None:
        wire = gateway()

        def spoil(_: object, payloads: list[tuple[PayloadType, bytes]]) -> list[tuple[PayloadType, bytes]]:
            marker = b"\0\0" + NotifyType.NO_PPK_AUTH.to_bytes(2, "big")
            return [(t, b[:-1] + bytes((b[-1] ^ 1,)) if b.startswith(marker) else b) for t, b in payloads]

        made = run(wire, client("certificate", name=b"unknown"), first_auth(spoil))
        assert_refused(wire, made, "AUTHENTICATION_FAILED")

    def test_an_empty_no_ppk_auth(self) -> None:
        wire = gateway()

        def empty(_: object, payloads: list[tuple[PayloadType, bytes]]) -> list[tuple[PayloadType, bytes]]:
            marker = b"\0\0" + NotifyType.NO_PPK_AUTH.to_bytes(2, "big")
            return [(t, marker if b.startswith(marker) else b) for t, b in payloads]

        made = run(wire, client("certificate", name=b"unknown"), first_auth(empty))
        assert_refused(wire, made, "AUTHENTICATION_FAILED")
        assert wire.failures[0][0] == "ppk-refused"

    def test_a_good_no_ppk_auth_does_not_help_a_bad_auth(self) -> None:
        wire = gateway()
        assert_refused(wire, run(wire, client("certificate"), Corrupted), "AUTHENTICATION_FAILED")
        assert wire.failures == [("signature-refused", f"signature does not verify{OTHER_KEY}")]
