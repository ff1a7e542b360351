"""Whole sign-ins through the RADIUS server: every method, what the client is told, what is written down."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from aaa.radius.constants import Code
from aaa.radius.grant import GrantSealer
from core.audit import SYSTEM
from core.runtime import Runtime
from core.settings import RuleSettings
from posture import devices as inventory
from tests.peers.eap import EapPeer, MsChapV2Peer
from tests.peers.radius import (
    ACCEPT,
    ACCESS_REQUEST,
    CALLING_STATION,
    CLASS,
    EAP,
    FILTER_ID,
    FILTER_RULE,
    FRAMED_POOL,
    INTERIM,
    PROXY_STATE,
    REJECT,
    SESSION_TIMEOUT,
    USER_NAME,
    USER_PASSWORD,
    Answer,
    packet,
    read_answer,
)
from tests.unit.aaa.driver import Driver
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import certify, enrol, tls_peer
from tests.unit.aaa.radius.house import GRANT_KEY, WIFI, House

SECRET = WIFI.secret.reveal()
SUCCESS, FAILURE = 3, 4


@pytest.fixture
def house(runtime: Runtime) -> Iterator[House]:
    with Driver(runtime, hello=False) as driver:
        yield House(driver)


def number(answer: Answer, kind: int) -> int:
    [value] = answer.values(kind)
    return int.from_bytes(value, "big")


class TestMethods:
    @pytest.mark.parametrize("asked", [True, False], ids=["the client asked for the identity", "the server asks"])
    def test_mschapv2(self, house: House, asked: bool) -> None:
        laptop = enrol(house.driver.runtime)
        peer = MsChapV2Peer("alice", laptop.code)
        answer = house.sign_in(peer, asked=asked)
        assert answer.code == ACCEPT
        assert answer.eap[0] == SUCCESS
        assert peer.succeeded
        assert answer.msk == peer.msk

    def test_tls(self, house: House) -> None:
        laptop = enrol(house.driver.runtime)
        issued, authority = certify(house.driver.runtime, laptop.id)
        peer = tls_peer(f"{laptop.name}.devices.ostiary.internal", issued, authority)
        answer = house.sign_in(peer)
        assert answer.code == ACCEPT, house.driver.events("sign-in.refuse")
        assert answer.msk == peer.msk

    def test_a_method_that_is_not_spoken(self, house: House) -> None:
        class Md5(EapPeer):
            eap_type = 4  # type: ignore[assignment]

        answer = house.sign_in(Md5("alice"))
        assert (answer.code, answer.eap[0], answer.msk) == (REJECT, FAILURE, b"")


class TestDecision:
    def test_what_the_client_is_told(self, tmp_path: Path) -> None:
        rule = RuleSettings(
            name="office",
            pool="staff",
            networks=(ip_network("10.1.0.0/16"), ip_network("fd01::/48")),
            session_lifetime_s=3600.0,
        )
        with open_runtime(tmp_path / "state", rules=(rule,)) as runtime, Driver(runtime, hello=False) as driver:
            laptop = enrol(runtime)
            answer = House(driver).sign_in(MsChapV2Peer("EXAMPLE\\Alice", laptop.code))
        assert answer.code == ACCEPT
        assert answer.values(USER_NAME) == [b"alice"]
        assert number(answer, SESSION_TIMEOUT) == 3600
        assert number(answer, INTERIM) == 60
        assert answer.values(FILTER_ID) == [b"office"]
        assert answer.values(FRAMED_POOL) == [b"staff"]
        rules = b"permit in ip from assigned to 10.1.0.0/16\0permit in ip from assigned to fd01::/48"
        assert answer.values(FILTER_RULE) == [rules]
        grant = GrantSealer(GRANT_KEY).open(answer.values(CLASS), "wifi")
        assert grant is not None
        assert (grant.user_name, grant.device_id, grant.rule) == ("alice", laptop.id, "office")

    def test_the_audit_log_names_client_and_rule(self, house: House) -> None:
        laptop = enrol(house.driver.runtime)
        house.sign_in(MsChapV2Peer("alice", laptop.code))
        [event] = house.driver.events("sign-in.accept")
        assert event["target"] == "gateway:wifi"
        assert event["rule"] == "trusted-devices"
        assert event["gateway"] == "wifi"
        assert event["remote_address"] == "02-00-00-00-00-01"
        assert event["client"] == "Wi-Fi (RADIUS)"
        assert event["ike_identity"] == "alice"

    def test_a_rule_can_name_the_client(self, tmp_path: Path) -> None:
        rules = (
            RuleSettings(name="no-wifi", effect="deny", gateways=("WIFI",), reason="by cable only"),
            RuleSettings(name="rest"),
        )
        with open_runtime(tmp_path / "state", rules=rules) as runtime, Driver(runtime, hello=False) as driver:
            laptop = enrol(runtime)
            house = House(driver)
            answer = house.sign_in(MsChapV2Peer("alice", laptop.code))
            [event] = driver.events("sign-in.refuse")
        assert answer.code == REJECT
        assert (event["code"], event["rule"], event["target"]) == ("denied-by-rule", "no-wifi", "gateway:wifi")

    @pytest.mark.parametrize("cause", ["revoked", "wrong code", "nobody"])
    def test_refused(self, house: House, cause: str) -> None:
        laptop = enrol(house.driver.runtime)
        if cause == "revoked":
            with house.driver.runtime.database.transaction() as session:
                inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "stolen", SYSTEM)
        name = "mallory" if cause == "nobody" else "alice"
        answer = house.sign_in(MsChapV2Peer(name, "wrong" if cause == "wrong code" else laptop.code))
        assert (answer.code, answer.eap[0], answer.msk) == (REJECT, FAILURE, b"")
        # Nothing about why: that is for the audit log (RFC 3579 section 2.6.5).
        assert {kind for kind, _ in answer.items} == {80, EAP}
        [event] = house.driver.events("sign-in.refuse")
        wanted = {"revoked": "revoked-device", "wrong code": "wrong-credential", "nobody": "unknown-user"}
        assert event["code"] == wanted[cause]


class TestWithoutEap:
    def test_a_password_is_refused_and_the_event_says_so(self, house: House) -> None:
        asked = packet(ACCESS_REQUEST, SECRET, [(USER_NAME, b"alice"), (USER_PASSWORD, bytes(16))])
        answer = house.ask(asked)
        assert answer is not None
        assert read_answer(asked, answer, SECRET).code == Code.ACCESS_REJECT
        [event] = house.driver.events("sign-in.refuse")
        assert (event["code"], event["actor"]) == ("no-common-method", "user:alice")

    def test_a_password_beside_eap_is_nothing(self, house: House) -> None:
        nas = house.nas()
        asked = nas.request(b"\x02\x01\x00\x0a\x01alice", (USER_PASSWORD, bytes(16)))
        assert house.ask(asked) is None
        assert house.dropped[-1].reason == "a password beside EAP"


class TestAbuse:
    def test_failures_of_one_machine_block_that_machine_alone(self, house: House) -> None:
        laptop = enrol(house.driver.runtime)
        for _ in range(10):
            assert house.sign_in(MsChapV2Peer("alice", "wrong"), mac_address="02-66-66-66-66-66").code == REJECT
        blocked = house.sign_in(MsChapV2Peer("alice", laptop.code), mac_address="02-66-66-66-66-66")
        assert blocked.code == REJECT
        assert house.driver.events("sign-in.refuse")[-1]["code"] == "too-many-failures"
        assert house.sign_in(MsChapV2Peer("alice", laptop.code)).code == ACCEPT

    def test_a_client_that_does_not_say_whose_failures_blocks_nobody_else(self, house: House) -> None:
        laptop = enrol(house.driver.runtime)
        nas = house.nas()
        for _ in range(11):
            peer = MsChapV2Peer("mallory", "wrong")
            assert nas.sign_in(peer.receive(b"\x01\x01\x00\x05\x01") or b"", peer.receive).code == REJECT
        good = MsChapV2Peer("alice", laptop.code)
        assert nas.sign_in(good.receive(b"\x01\x01\x00\x05\x01") or b"", good.receive).code == ACCEPT


def test_proxies_find_their_way_back(house: House) -> None:
    """`read_answer` compares; a proxy's own State comes back with every kind of answer (RFC 2865 section 5.33)."""
    laptop = enrol(house.driver.runtime)
    answer = house.sign_in(MsChapV2Peer("alice", laptop.code), (PROXY_STATE, b"one"), (PROXY_STATE, b"two"))
    assert answer.values(PROXY_STATE) == [b"one", b"two"]


def test_strongswan_s_way_to_say_who_calls(house: House) -> None:
    laptop = enrol(house.driver.runtime)
    peer = MsChapV2Peer("alice", laptop.code)
    nas = house.nas([(CALLING_STATION, b"198.51.100.2[4500]")])
    assert nas.sign_in(peer.receive(b"\x01\x01\x00\x05\x01") or b"", peer.receive).code == ACCEPT
    assert house.driver.events("sign-in.accept")[0]["remote_address"] == "198.51.100.2"
