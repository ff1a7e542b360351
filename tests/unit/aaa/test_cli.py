from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from aaa import enforcement
from aaa.dynamic_authorization import Answer, Change, NoAnswer, Peer, Selector
from aaa.interface import EapAccepted, EapRejected
from core import jobs
from core.audit import Actor
from core.cli import root
from core.runtime import Runtime
from posture import devices as inventory
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import enrol


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OSTIARY_GATEWAY__IDENTITY", "vpn.example.org")
    monkeypatch.chdir(tmp_path)
    with open_runtime(tmp_path / "state") as opened:
        yield opened


def ostiary(*arguments: str) -> Result:
    return CliRunner().invoke(root, arguments)


def ok(*arguments: str) -> str:
    result = ostiary(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def parsed(*arguments: str) -> Any:
    return json.loads(ok(*arguments, "--json"))


def test_a_user_from_add_to_disable(runtime: Runtime) -> None:
    assert "ostiary device add alice" in ok("user", "add", "Alice", "--group", "staff", "--group", "it")
    assert parsed("user", "add", "bob", "--display-name", "Bob B.")["display_name"] == "Bob B."
    assert [(row["name"], row["groups"]) for row in parsed("user", "list")] == [
        ("alice", ["it", "staff"]),
        ("bob", []),
    ]
    assert "alice" in ok("user", "list")
    assert "alice is disabled" in ok("user", "disable", "Alice", "--reason", "left")
    assert parsed("user", "show", "alice")["disabled"] is True
    assert parsed("user", "disable", "alice", "--reason", "left") == []
    ok("user", "enable", "alice")
    assert "disabled      no" in ok("user", "show", "alice")
    failed = ostiary("user", "add", "alice")
    assert (failed.exit_code, "exists already" in failed.output) == (1, True)


def test_device_add_tells_what_to_type(runtime: Runtime) -> None:
    ok("user", "add", "alice")
    told = ok("device", "add", "alice", "alice-laptop", "--platform", "Windows 11")
    assert "vpn.example.org" in told
    code = next(line.split()[1] for line in told.splitlines() if line.strip().startswith("password"))
    assert "ostiary ca trust" in told
    facts = parsed("device", "add", "alice", "alice-phone")
    assert facts["remote_id"] == facts["server"] == "vpn.example.org"
    assert (facts["user_name"], facts["device"]) == ("alice", "alice-phone")
    with Driver(runtime) as driver:
        for password in (code, facts["access_code"]):
            assert isinstance(driver.sign_in(MsChapV2Peer(facts["user_name"], password)), EapAccepted)
        renewed = parsed("device", "code", "alice-phone")
        assert isinstance(driver.sign_in(MsChapV2Peer("alice", renewed["access_code"])), EapAccepted)
        assert "vpn.example.org" in ok("device", "code", "alice-phone")
        assert isinstance(driver.sign_in(MsChapV2Peer("alice", renewed["access_code"])), EapRejected)
    assert [row["name"] for row in parsed("device", "list", "--owner", "alice")] == ["alice-laptop", "alice-phone"]
    assert parsed("device", "list", "--owner", "bob") == []
    assert parsed("device", "show", "alice-laptop")["platform"] == "Windows 11"


def test_device_add_with_a_certificate(runtime: Runtime, tmp_path: Path) -> None:
    ok("user", "add", "alice")
    (tmp_path / "password").write_text("correct horse\nsecond line\n")
    arguments = ["--certificate", "--key-type", "ecdsa-p256", "--output", str(tmp_path / "files")]
    facts = parsed("device", "add", "alice", "laptop", *arguments, "--p12-password-file", str(tmp_path / "password"))
    assert "pkcs12_password" not in facts
    pkcs12_file, key_file = Path(facts["pkcs12_file"]), Path(facts["private_key_file"])
    for path in (pkcs12_file, key_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key, certificate, others = pkcs12.load_key_and_certificates(pkcs12_file.read_bytes(), b"correct horse")
    assert key is not None
    assert certificate is not None
    assert len(others) == 2
    pem_key = load_pem_private_key(key_file.read_bytes(), None)
    assert pem_key.public_key() == certificate.public_key()
    chain = x509.load_pem_x509_certificates(Path(facts["certificate_file"]).read_bytes())
    assert chain[0] == certificate
    (trust,) = x509.load_pem_x509_certificates(Path(facts["trust_file"]).read_bytes())
    assert trust.issuer == trust.subject

    told = ok("device", "certificate", "laptop", "--output", str(tmp_path / "again"), "--key-type", "ecdsa-p256")
    assert "laptop.devices.ostiary.internal" in told
    password = next(line.split()[2] for line in told.splitlines() if "its password" in line)
    assert pkcs12.load_key_and_certificates((tmp_path / "again/laptop.p12").read_bytes(), password.encode())[0]
    assert len(parsed("device", "show", "laptop")["certificates"]) == 2
    again = parsed("device", "certificate", "laptop", "--output", str(tmp_path / "third"), "--key-type", "ecdsa-p256")
    assert again["pkcs12_password"]


def test_files_that_can_not_be_written_come_before_the_device(runtime: Runtime, tmp_path: Path) -> None:
    ok("user", "add", "alice")
    (tmp_path / "laptop.p12").touch()
    (tmp_path / "empty").touch()
    for arguments, message in (
        (["--output", str(tmp_path)], "exists already"),
        (["--output", str(tmp_path / "empty" / "below")], "name another folder"),
        (["--output", str(tmp_path / "new"), "--p12-password-file", str(tmp_path / "empty")], "first line is empty"),
        (["--output", str(tmp_path / "new"), "--p12-password-file", str(tmp_path / "none")], "can't be read"),
    ):
        failed = ostiary("device", "add", "alice", "laptop", "--certificate", *arguments)
        assert (failed.exit_code, message in failed.output) == (1, True), failed.output
    assert parsed("device", "list") == []


@pytest.mark.parametrize("answers", [True, False])
def test_revoke_prints_each_gateways_answer(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    def ask(peer: Peer, _selector: Selector, _change: Change | None) -> Answer:
        if not answers:
            raise NoAnswer(f"gateway {peer.name}: no answer")
        return Answer(True, None, "1 ended")

    monkeypatch.setattr(enforcement, "ask", ask)
    monkeypatch.setattr(jobs, "wake", lambda *_: True)
    laptop = enrol(runtime)
    with Driver(runtime) as driver:
        accepted = driver.sign_in(MsChapV2Peer("alice", laptop.code))
        assert isinstance(accepted, EapAccepted)
        session_id, _ = driver.start_session(accepted.access)
        (live,) = parsed("session", "list")
        assert (live["id"], live["device"], live["user"]) == (session_id, "alice-laptop", "alice")
        assert "alice-laptop" in ok("session", "list")
        ended = parsed("session", "disconnect", session_id, "--reason", "maintenance")
        assert [answer["acknowledged"] for answer in ended["answers"]] == [answers]
        told = ok("device", "revoke", "alice-laptop", "--reason", "stolen")
        assert "device alice-laptop is revoked; certificates revoked: 0" in told
        assert ("ok       gateway-1: acknowledged (1 ended), " in told) is answers
        assert ("WAITING  gateway-1: gateway gateway-1: no answer, " in told) is not answers
        assert " ms in all" in told
        assert ("tells those that did not answer again" in told) is not answers
        again = parsed("device", "revoke", "alice-laptop", "--reason", "stolen")
        assert [answer["gateway"] for answer in again["answers"]] == ["gateway-1"]
        disabled = ok("user", "disable", "alice", "--reason", "left")
        assert "device alice-laptop:" in disabled
    assert parsed("session", "list") == []
    assert [row["ended"] for row in parsed("session", "list", "--all")] == ["NAS_REQUEST"]
    failed = ostiary("device", "revoke", "nothing", "--reason", "x")
    assert (failed.exit_code, "there is no device" in failed.output) == (1, True)


def test_a_profile_for_the_devices_own_client(runtime: Runtime, tmp_path: Path) -> None:
    for name, platform in (("pc", "Windows 11"), ("phone", "iOS"), ("pixel", "Android")):
        enrol(runtime, name=name, new_user=name == "pc")
        with runtime.database.transaction() as session:
            inventory.find(session, name).platform = platform
    assert "Add-VpnConnection -Name Ostiary -ServerAddress vpn.example.org" in ok(
        "device", "profile", "pc", "--output", "-"
    )
    assert ok("device", "profile", "phone") == "wrote ostiary.mobileconfig\n"
    assert b"vpn.example.org" in (tmp_path / "ostiary.mobileconfig").read_bytes()
    refused = ostiary("device", "profile", "pixel")
    assert (refused.exit_code, "there is no profile for the platform of pixel (Android)" in refused.output) == (
        1,
        True,
    )
    assert ok("device", "profile", "pixel", "--for", "windows", "--output", "x.ps1") == "wrote x.ps1\n"
    assert "can't be written" in ostiary("device", "profile", "pc", "--output", "no/such/x.ps1").output


class TestPolicy:
    RULES = (
        '[[rules]]\nname = "contractors"\ngroups = ["contractors"]\nhours = "08:00-18:00"\nmethods = ["eap-tls"]\n'
        '[[rules]]\nname = "staff"\ngroups = ["staff"]\nnetworks = ["10.1.0.0/16"]\n'
        '[[rules]]\nname = "late"\ngroups = ["staff"]\n'
    )

    def test_the_rules_of_the_settings(self, runtime: Runtime) -> None:
        assert "1 rules, valid" in ok("policy", "check")
        assert parsed("policy", "check")["rules"][0]["name"] == "trusted-devices"

    def test_a_file_before_it_is_put_in_place(self, runtime: Runtime, tmp_path: Path) -> None:
        enrol(runtime)
        file = tmp_path / "rules.toml"
        file.write_text(self.RULES)
        said = ok("policy", "check", str(file))
        assert "rule 'contractors' names the group 'contractors', which nobody knows" in said
        assert "rule 'late' is never reached: 'staff', before it, decides all that it would" in said
        assert said.endswith("3 rules, valid; 2 to look at\n")
        file.write_text(self.RULES + 'hour = "9"\n')
        result = ostiary("policy", "check", str(file))
        assert (result.exit_code, "rules[2].hour: no such setting; allowed here:" in result.output) == (1, True)

    def test_why_a_sign_in_is_decided_so(
        self, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        laptop = enrol(runtime)
        (tmp_path / "rules.toml").write_text(self.RULES)
        monkeypatch.setenv("OSTIARY_AAA__RULES_FILE", str(tmp_path / "rules.toml"))
        said = parsed("policy", "explain", "--device", "alice-laptop", "--at", "2026-11-24 19:00")
        assert (said["decision"], said["rule"], said["networks"]) == ("allowed", "staff", ["10.1.0.0/16"])
        assert [step["answer"] for step in said["steps"]] == [
            "no: alice is in none of the groups; eap-mschapv2 is not among methods; "
            "2026-11-24 19:00 UTC is not within its days and hours (every day 08:00-18:00 UTC)",
            "decides",
            "not asked",
        ]
        text = ok(
            "policy", "explain", "--device", "alice-laptop", "--at", "2026-11-24 19:00", "--address", "192.0.2.7"
        )
        assert "alice on alice-laptop (trusted), by eap-mschapv2 at gateway-1 from 192.0.2.7, Tue 2026-11-24" in text
        enforcement.revoke_device(runtime, laptop.id, "lost", Actor("cli", "test"))
        revoked = parsed("policy", "explain", "--device", "alice-laptop")
        assert (revoked["code"], {step["answer"] for step in revoked["steps"]}) == ("revoked-device", {"not asked"})

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--device", "nothing"), "nothing"),
            (("--device", "alice-laptop", "--user", "nobody"), "there is no user 'nobody'"),
            (("--device", "alice-laptop", "--address", "home"), "'home' is not an IP address"),
        ],
    )
    def test_wrong_questions(self, runtime: Runtime, arguments: tuple[str, ...], message: str) -> None:
        enrol(runtime)
        result = ostiary("policy", "explain", *arguments)
        assert (result.exit_code, message in result.output) == (1, True)
