"""Whole sign-ins through the in-process backend: real database, real CA, real EAP peers, no socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aaa import devices, users
from aaa.in_process import IDENTITY_PATIENCE
from aaa.interface import Access, EapAccepted, EapRejected, GatewayHello, Refusal
from aaa.sessions import known_gateways
from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from core.settings import RuleSettings
from pki.certificates import revoke_certificate
from pki.models import Certificate
from pki.names import serial_text
from posture import devices as inventory
from tests.peers.eap import MsChapV2Peer, TlsPeer
from tests.unit.aaa.driver import Conversation, Driver, context
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import certify, chain_of, enrol, expire_code, tls_peer


@pytest.fixture
def driver(runtime: Runtime) -> Iterator[Driver]:
    with Driver(runtime) as driver:
        yield driver


def _refused(driver: Driver, result: EapAccepted | EapRejected | Access | Refusal) -> tuple[str, dict[str, object]]:
    """The code of a refusal, and its event, which is the last one and says the same."""
    refusal = result.refusal if isinstance(result, EapRejected) else result
    assert isinstance(refusal, Refusal)
    event = driver.events("sign-in.refuse")[-1]
    assert (event["outcome"], event["code"], event["reason"]) == ("refused", refusal.code, refusal.reason)
    return refusal.code, event


# --- access codes -------------------------------------------------------------------------------------------


def test_an_access_code_lets_its_device_in(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    peer = MsChapV2Peer("alice", laptop.code)
    result = driver.sign_in(peer, sign_in_id="7", remote_address="198.51.100.4")
    assert isinstance(result, EapAccepted)
    assert peer.succeeded
    assert result.msk == peer.msk
    access = result.access
    assert (access.user_name, access.device_id, access.device_name) == ("alice", laptop.id, "alice-laptop")
    assert (access.method, access.rule, access.certificate_serial) == ("eap-mschapv2", "trusted-devices", "")
    assert access.interim_interval_s == driver.runtime.settings.aaa.interim_interval_s
    (event,) = driver.events("sign-in.accept")
    assert event["actor"] == "device:alice-laptop"
    assert event["target"] == "gateway:gateway-1"
    assert {
        "sign_in_id": "7",
        "gateway": "gateway-1",
        "remote_address": "198.51.100.4",
        "method": "eap-mschapv2",
        "rule": "trusted-devices",
        "code": "allowed",
        "user": "alice",
        "device_id": laptop.id,
        "client": "strongSwan",
    }.items() <= event.items()
    assert laptop.code not in str(driver.events())


@pytest.mark.parametrize("identity", ["ALICE", "EXAMPLE\\alice", "alice@example.org", "EXAMPLE\\Alice@example.org"])
def test_an_identity_may_come_with_a_domain(driver: Driver, identity: str) -> None:
    laptop = enrol(driver.runtime)
    result = driver.sign_in(MsChapV2Peer(identity, laptop.code))
    assert isinstance(result, EapAccepted)
    assert result.access.user_name == "alice"


def test_a_user_with_a_realm_in_the_name_comes_before_one_without(driver: Driver) -> None:
    enrol(driver.runtime, "alice", "one")
    other = enrol(driver.runtime, "alice@example.org", "two")
    result = driver.sign_in(MsChapV2Peer("Alice@Example.org", other.code))
    assert isinstance(result, EapAccepted)
    assert result.access.device_name == "two"


def test_each_device_of_a_user_has_its_own_code(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    phone = enrol(driver.runtime, "alice", "alice-phone", new_user=False)
    for device in (phone, laptop):
        result = driver.sign_in(MsChapV2Peer("alice", device.code))
        assert isinstance(result, EapAccepted)
        assert result.access.device_id == device.id


def test_wrong_code_unknown_user_and_no_code_look_alike_to_the_peer(driver: Driver) -> None:
    enrol(driver.runtime)
    with driver.runtime.database.transaction() as session:
        users.create_user(session, "bob", actor=SYSTEM)
    shapes = []
    for identity, code in [("alice", "wrong-credential"), ("mallory", "unknown-user"), ("bob", "no-access-code")]:
        peer = MsChapV2Peer(identity, "wrong")
        conversation = Conversation(driver, peer, context())
        result = conversation.run()
        assert isinstance(result, EapRejected)
        found, event = _refused(driver, result)
        assert found == code
        assert event["actor"] == f"user:{identity}"
        assert peer.succeeded is False
        # Everything but identifiers, challenges and the success is the same.
        shapes.append([(reply.packet[0], len(reply.packet)) for reply in conversation.replies])
    assert shapes[0] == shapes[1] == shapes[2]


def test_an_expired_code_is_told_from_a_wrong_one(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    expire_code(driver.runtime, laptop.id)
    code, event = _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))
    assert code == "expired-access-code"
    assert event["actor"] == "device:alice-laptop"
    assert "ask for a new one" in str(event["reason"])
    code, _ = _refused(driver, driver.sign_in(MsChapV2Peer("alice", "wrong")))
    assert code == "wrong-credential"


def test_a_renewed_code_replaces_the_old_one(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    new = devices.renew_access_code(driver.runtime, laptop.id, SYSTEM)
    code, _ = _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))
    assert code == "wrong-credential"
    assert isinstance(driver.sign_in(MsChapV2Peer("alice", new.code)), EapAccepted)


def test_a_code_that_is_renewed_during_the_sign_in_counts_no_more(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    conversation = Conversation(driver, MsChapV2Peer("alice", laptop.code), context())
    conversation.step()  # identity: the codes were looked up, the challenge is out
    devices.renew_access_code(driver.runtime, laptop.id, SYSTEM)
    code, _ = _refused(driver, conversation.run())
    assert code == "wrong-credential"


def test_a_revoked_device_is_told_from_a_wrong_code(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    with driver.runtime.database.transaction() as session:
        inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "lost on a train", SYSTEM)
    code, event = _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))
    assert code == "revoked-device"
    assert event["reason"] == "device alice-laptop was revoked: lost on a train"


def test_a_disabled_user_is_refused_with_the_right_code(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    with driver.runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM)
    code, _ = _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))
    assert code == "disabled-user"


def test_quarantine_keeps_a_device_out_with_its_reason(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    with driver.runtime.database.transaction() as session:
        inventory.set_state(session, inventory.get(session, laptop.id), "quarantined", "disk encryption off", SYSTEM)
    code, event = _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))
    assert code == "quarantined-device"
    assert "disk encryption off" in str(event["reason"])


def test_rules_are_those_of_the_settings(tmp_path: Path) -> None:
    rules = (
        RuleSettings(name="no-codes", effect="deny", methods=("eap-mschapv2",), reason="use your certificate"),
        RuleSettings(name="staff", groups=("staff",), pool="staff", session_lifetime_s=3600.0),
    )
    with open_runtime(tmp_path / "state", rules=rules) as runtime, Driver(runtime) as driver:
        laptop = enrol(runtime)
        code, event = _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))
        assert (code, event["rule"], event["reason"]) == ("denied-by-rule", "no-codes", "use your certificate")
        issued, authority = certify(runtime, laptop.id)
        result = driver.sign_in(tls_peer("alice-laptop", issued, authority))
        assert isinstance(result, EapAccepted)
        assert (result.access.rule, result.access.pool) == ("staff", "staff")
        assert result.access.session_lifetime_s == 3600.0


def test_without_rules_nobody_gets_in(tmp_path: Path) -> None:
    with open_runtime(tmp_path / "state", rules=()) as runtime, Driver(runtime) as driver:
        laptop = enrol(runtime)
        code, _ = _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))
        assert code == "no-rule"


# --- certificates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    ["alice-laptop", "host/ALICE-LAPTOP.devices.ostiary.internal", "alice-laptop.devices.ostiary.internal"],
)
def test_a_certificate_lets_its_device_in_by_eap_tls(driver: Driver, identity: str) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)
    peer = tls_peer(identity, issued, authority)
    result = driver.sign_in(peer)
    assert isinstance(result, EapAccepted)
    assert peer.succeeded
    assert result.msk == peer.msk
    assert (result.access.method, result.access.device_id) == ("eap-tls", laptop.id)
    assert result.access.certificate_serial == serial_text(issued.certificate)
    assert driver.events("sign-in.accept")[-1]["certificate"] == serial_text(issued.certificate)


def test_a_certificate_lets_its_device_in_by_itself(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)
    chain = chain_of(issued, authority)
    names = [f"urn:uuid:{laptop.id}", "alice-laptop.devices.ostiary.internal"]
    for identity in [*names, "dn:" + issued.certificate.subject.public_bytes().hex()]:
        access = driver.certificate(chain, identity)
        assert isinstance(access, Access)
        assert (access.method, access.device_id) == ("certificate", laptop.id)


@pytest.mark.parametrize("by_eap", [True, False])
def test_a_certificate_of_another_identity_is_refused(driver: Driver, by_eap: bool) -> None:
    laptop = enrol(driver.runtime)
    enrol(driver.runtime, "bob", "bob-laptop")
    issued, authority = certify(driver.runtime, laptop.id)
    if by_eap:
        code, event = _refused(driver, driver.sign_in(tls_peer("bob-laptop", issued, authority)))
    else:
        code, event = _refused(driver, driver.certificate(chain_of(issued, authority), "bob-laptop"))
    assert code == "identity-mismatch"
    assert "belongs to alice-laptop" in str(event["reason"])


@pytest.mark.parametrize("by_eap", [True, False])
def test_a_revoked_certificate_is_refused_at_once(driver: Driver, by_eap: bool) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)

    def attempt() -> EapAccepted | EapRejected | Access | Refusal:
        if by_eap:
            return driver.sign_in(tls_peer("alice-laptop", issued, authority))
        return driver.certificate(chain_of(issued, authority), "alice-laptop")

    assert isinstance(attempt(), EapAccepted | Access)
    serial = serial_text(issued.certificate)
    with driver.runtime.database.transaction() as session:
        revoke_certificate(session, serial, "key copied", SYSTEM)
    code, event = _refused(driver, attempt())
    assert code == "revoked-certificate"
    assert event["reason"] == f"the certificate {serial} was revoked: key copied"


def test_the_cause_of_a_revoked_device_is_told_before_that_of_its_certificate(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)
    chain = chain_of(issued, authority)
    with driver.runtime.database.transaction() as session:
        revoke_certificate(session, serial_text(issued.certificate), "device revoked", SYSTEM)
        inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "stolen", SYSTEM)
    code, _ = _refused(driver, driver.certificate(chain, "alice-laptop"))
    assert code == "revoked-device"


def test_a_certificate_that_our_register_does_not_have_is_refused(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)
    with driver.runtime.database.transaction() as session:
        row = session.get(Certificate, serial_text(issued.certificate))
        session.delete(row)
    code, _ = _refused(driver, driver.certificate(chain_of(issued, authority), "alice-laptop"))
    assert code == "unknown-certificate"


def test_a_certificate_of_another_ca_is_refused(driver: Driver, tmp_path: Path) -> None:
    with Runtime.open(driver.runtime.settings.model_copy(update={"state_dir": tmp_path / "other"})) as elsewhere:
        laptop = enrol(elsewhere)
        issued, authority = certify(elsewhere, laptop.id)
    code, event = _refused(driver, driver.certificate(chain_of(issued, authority), "alice-laptop"))
    assert (code, event["actor"]) == ("untrusted-certificate", "user:alice-laptop")
    ours = driver.runtime
    _, own_authority = certify(ours, enrol(ours).id)
    anchors = [own_authority.root.public_bytes(Encoding.DER)]
    peer = TlsPeer("alice-laptop", chain_of(issued, authority), issued.private_key, anchors)
    code, _ = _refused(driver, driver.sign_in(peer))
    assert code == "untrusted-certificate"


@pytest.mark.parametrize("chain", [[], [b""], [b"0"], [b"\x30\x80" + bytes(100)], [bytes(70_000)]])
def test_hostile_chains_are_refused(driver: Driver, chain: list[bytes]) -> None:
    code, _ = _refused(driver, driver.certificate(chain, "alice-laptop"))
    assert code == "malformed-certificate"


def test_a_tls_client_that_leaves_on_the_alert_is_in_the_audit_log(driver: Driver) -> None:
    """Its certificate is refused by a TLS alert; it never acknowledges that, and the gateway gives up."""
    enrol(driver.runtime)
    _, authority = certify(driver.runtime, enrol(driver.runtime, "bob", "bob-laptop").id)
    peer = TlsPeer("bob-laptop", [], None, [authority.root.public_bytes(Encoding.DER)])
    conversation = Conversation(driver, peer, context(sign_in_id="gone"))
    while not peer.error and len(conversation.replies) < 20:
        conversation.step()
        if conversation.eap._server.decided is not None:  # type: ignore[attr-defined]
            break
    assert conversation.eap.close()
    assert conversation.eap.close(), "a refusal is on record, so the gateway need not write another"
    driver.backend.goodbye()
    events = [event for event in driver.events("sign-in.refuse") if event["sign_in_id"] == "gone"]
    assert [event["code"] for event in events] == ["no-client-certificate"]


# --- limits -------------------------------------------------------------------------------------------------


def test_too_many_failures_of_one_identity(tmp_path: Path) -> None:
    with open_runtime(tmp_path / "state", failures_per_minute=1) as runtime, Driver(runtime) as driver:
        laptop = enrol(runtime)
        enrol(runtime, "bob", "bob-laptop")
        for host in range(IDENTITY_PATIENCE):
            result = driver.sign_in(MsChapV2Peer("alice", "wrong"), remote_address=f"192.0.2.{host}")
            assert _refused(driver, result)[0] == "wrong-credential"
        # Neither the right code nor another spelling or address helps now.
        for identity in ("alice", "EXAMPLE\\ALICE@example.org"):
            result = driver.sign_in(MsChapV2Peer(identity, laptop.code), remote_address="203.0.113.1")
            assert _refused(driver, result)[0] == "too-many-failures"
        result = driver.sign_in(MsChapV2Peer("bob", "wrong"), remote_address="203.0.113.1")
        assert _refused(driver, result)[0] == "wrong-credential"


def test_too_many_failures_from_one_address(tmp_path: Path) -> None:
    with open_runtime(tmp_path / "state", failures_per_minute=3) as runtime, Driver(runtime) as driver:
        laptop = enrol(runtime)
        issued, authority = certify(runtime, laptop.id)
        for name in ("a", "b", "c"):
            driver.sign_in(MsChapV2Peer(name, "wrong"), remote_address="2001:db8::1")
        # The whole /64 is one customer.
        result = driver.sign_in(MsChapV2Peer("alice", laptop.code), remote_address="2001:db8::2")
        assert _refused(driver, result)[0] == "too-many-failures"
        chain = chain_of(issued, authority)
        refused = driver.certificate(chain, "alice-laptop", remote_address="2001:db8::3")
        assert _refused(driver, refused)[0] == "too-many-failures"
        elsewhere = driver.sign_in(MsChapV2Peer("alice", laptop.code), remote_address="2001:db8:0:1::1")
        assert isinstance(elsewhere, EapAccepted)


def test_nothing_is_signed_for_an_address_that_had_its_chances(tmp_path: Path) -> None:
    """The gateway proves itself with the first EAP-Request, and a signature costs more than all else here."""
    with open_runtime(tmp_path / "state", failures_per_minute=1) as runtime, Driver(runtime) as driver:
        begun = Conversation(driver, MsChapV2Peer("alice", "wrong"), context())
        assert isinstance(driver.sign_in(MsChapV2Peer("mallory", "wrong")), EapRejected)
        (first_reply,) = Conversation(driver, MsChapV2Peer("alice", "wrong"), context()).replies
        assert isinstance(first_reply, EapRejected)
        assert first_reply.refusal.code == "too-many-failures"
        # Nor does one help that was begun before.
        last = begun.run()
        assert isinstance(last, EapRejected)
        assert last.refusal.code == "too-many-failures"


def test_a_flood_of_refusals_does_not_fill_the_audit_log(tmp_path: Path) -> None:
    with open_runtime(tmp_path / "state", failures_per_minute=3) as runtime, Driver(runtime) as driver:
        results = [driver.sign_in(MsChapV2Peer(f"name-{number}", "wrong")) for number in range(30)]
        assert [r.refusal.recorded for r in results if isinstance(r, EapRejected)] == [True] * 4 + [False] * 26
        assert isinstance(driver.certificate([], "alice-laptop"), Refusal)
        assert [event["code"] for event in driver.events("sign-in.refuse")] == [
            *["unknown-user"] * 3,
            "too-many-failures",
        ]
        # The next one that is recorded says how many were not.
        driver.sign_in(MsChapV2Peer("mallory", "wrong"), remote_address="203.0.113.1")
        assert driver.events("sign-in.refuse")[-1]["refusals_left_out_before"] == "27"


def test_clients_that_speak_another_method_are_not_counted(tmp_path: Path) -> None:
    class Md5Peer(MsChapV2Peer):
        eap_type = 4  # type: ignore[assignment]

    with open_runtime(tmp_path / "state", failures_per_minute=1) as runtime, Driver(runtime) as driver:
        laptop = enrol(runtime)
        result = driver.sign_in(Md5Peer("alice", "x"))
        assert _refused(driver, result)[0] == "no-common-method"
        assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code)), EapAccepted)


# --- the conversation as an object --------------------------------------------------------------------------


def test_a_closed_conversation_answers_no_more(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    conversation = Conversation(driver, MsChapV2Peer("alice", laptop.code), context())
    answer = conversation.peer.receive(conversation.replies[-1].packet)
    assert answer is not None
    conversation.eap.receive(answer, conversation.replies.append)
    assert not conversation.eap.close()
    other = driver.sign_in(MsChapV2Peer("alice", laptop.code))
    assert isinstance(other, EapAccepted)
    assert len(conversation.replies) == 1
    with pytest.raises(RuntimeError):
        conversation.eap.receive(answer, conversation.replies.append)


def test_an_answer_is_owed_before_the_next_packet(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    conversation = Conversation(driver, MsChapV2Peer("alice", laptop.code), context())
    answer = conversation.peer.receive(conversation.replies[-1].packet)
    assert answer is not None
    conversation.eap.receive(answer, conversation.replies.append)
    with pytest.raises(RuntimeError):
        conversation.eap.receive(answer, conversation.replies.append)


@pytest.mark.parametrize("packet", [b"", b"\x02", b"\x02\x00\x00\x05\x01", b"\x01\x00\x00\x04", bytes(3000)])
def test_hostile_packets_end_in_a_refusal(driver: Driver, packet: bytes) -> None:
    conversation = Conversation(driver, MsChapV2Peer("alice", "x"), context())
    conversation.eap.receive(packet, conversation.replies.append)
    driver.pump(lambda: len(conversation.replies) > 1)
    last = conversation.replies[-1]
    assert isinstance(last, EapRejected)
    assert last.packet[0] == 4
    assert _refused(driver, last)[0] == "protocol-error"
    assert conversation.eap.close()


def test_failures_of_the_gateway_itself_are_written(driver: Driver) -> None:
    detail = {"offered": "3DES\x1b[2J", "x" * 200: "y" * 5000}
    driver.backend.sign_in_failed(context(sign_in_id="9"), "no-proposal-chosen", "nothing in common", detail)
    driver.backend.goodbye()
    (event,) = driver.events("sign-in.refuse")
    assert (event["code"], event["sign_in_id"], event["reason"]) == ("no-proposal-chosen", "9", "nothing in common")
    assert event["offered"] == "3DES\\x1b[2J"
    assert max(len(str(value)) for value in event.values()) <= 1024


# --- the gateway's own things -------------------------------------------------------------------------------


def test_the_gateway_gets_certificate_and_secret(driver: Driver) -> None:
    (credential,) = driver.backend.gateway_credentials()
    assert len(credential.chain_der) == 2
    assert [len(digest) for digest in credential.issuers_spki_sha1] == [20, 20]
    assert credential.chain_der == driver.backend.gateway_credentials()[0].chain_der
    assert "private_key" not in repr(credential)
    assert driver.backend.control_secret() == driver.backend.control_secret()
    assert len(driver.backend.control_secret().reveal()) >= 32


def test_a_certificate_that_was_revoked_is_replaced_for_eap_tls_too(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    (before,) = driver.backend.gateway_credentials()
    with driver.runtime.database.transaction() as session:
        row = session.query(Certificate).filter_by(profile="gateway").one()
        revoke_certificate(session, row.serial, "key copied", SYSTEM)
    (after,) = driver.backend.gateway_credentials()
    assert after.chain_der[0] != before.chain_der[0]
    issued, authority = certify(driver.runtime, laptop.id)
    assert isinstance(driver.sign_in(tls_peer("alice-laptop", issued, authority)), EapAccepted)


def test_hello_and_goodbye_are_audit_events(runtime: Runtime) -> None:
    with Driver(runtime) as driver:
        pass
    driver.backend.goodbye()
    assert [event["action"] for event in driver.events() if event["target"] == "gateway:gateway-1"] == [
        "gateway.start",
        "gateway.stop",
    ]


def test_an_access_code_of_a_device_ends_with_its_time(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    with driver.runtime.database.reading() as session:
        overview = devices.device_overview(session, laptop.id)
        assert overview.code_expires_at is not None
        left = overview.code_expires_at - utc_now()
    assert timedelta(hours=7.9) < left <= timedelta(hours=8)


def test_revoked_while_the_gateway_is_known_reaches_the_next_sign_in(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code)), EapAccepted)
    with driver.runtime.database.transaction() as session:
        inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "", SYSTEM)
    assert _refused(driver, driver.sign_in(MsChapV2Peer("alice", laptop.code)))[0] == "revoked-device"


def test_hello_is_kept(driver: Driver) -> None:
    driver.backend.hello(GatewayHello("gateway-1", "192.0.2.1", 3800, "kernel"))
    with driver.runtime.database.reading() as session:
        (gateway,) = known_gateways(session)
        assert (gateway.control_address, gateway.control_port, gateway.data_plane) == ("192.0.2.1", 3800, "kernel")
