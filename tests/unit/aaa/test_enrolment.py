"""What clients are set up with, and that the gateway takes what they then offer."""

from __future__ import annotations

import plistlib
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from aaa.enrolment import windows
from aaa.enrolment.apple import CHILD_LIFETIME_MINUTES, IKE_LIFETIME_MINUTES
from aaa.enrolment.profile import make_profile, profile_kind
from aaa.enrolment.target import Target, target_for
from aaa.interface import Network
from core.settings import GatewaySettings, RuleSettings
from posture.models import Device
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import enrol


def target(*networks: str) -> Target:
    """A user of a gateway that reaches these networks, or everything."""
    found: tuple[Network, ...] = tuple(ip_network(network) for network in networks)
    return Target("vpn.example.com", "192.0.2.1", "alice", *([found] if found else []))


def profile(wanted: Target) -> dict[str, Any]:
    """Apple's, parsed."""
    parsed: dict[str, Any] = plistlib.loads(make_profile("apple", wanted, b"root"))
    return parsed


@pytest.mark.parametrize(
    ("networks", "split", "routes"),
    [
        ((), "$False", ["2000::/3"]),
        (("0.0.0.0/0",), "$False", []),
        (("10.1.0.0/16", "fd01::/48"), "$True", ["10.1.0.0/16", "fd01::/48"]),
        (("0.0.0.0/0", "10.1.0.0/16", "fd01::/48"), "$False", ["fd01::/48"]),
        (("10.1.0.0/16", "::/0"), "$True", ["10.1.0.0/16", "2000::/3"]),
    ],
)
def test_windows_is_told_its_routes(networks: tuple[str, ...], split: str, routes: list[str]) -> None:
    script = make_profile("windows", target(*networks), b"").decode()
    assert f"-SplitTunneling {split} -Force" in script
    found = [line.rpartition(" ")[2] for line in script.splitlines() if line.startswith("Add-VpnConnectionRoute")]
    assert found == routes


def test_windows_gets_one_strong_suite() -> None:
    commands = windows.powershell(target())
    for part in (
        "-ServerAddress vpn.example.com",
        "-TunnelType Ikev2 -AuthenticationMethod Eap",
        "-EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA384 -DHGroup ECP384",
        "-CipherTransformConstants GCMAES256 -AuthenticationTransformConstants GCMAES256",
        "-PfsGroup None",
    ):
        assert part in commands
    # A line that goes on ends with a backtick, and nothing behind it.
    for line, following in zip(commands.splitlines(), commands.splitlines()[1:], strict=False):
        assert line.endswith(" `") == following.startswith("  ")


def test_apples_profile_has_root_and_connection() -> None:
    parsed = profile(target())
    assert parsed["PayloadType"] == "Configuration"
    root, vpn = parsed["PayloadContent"]
    assert (root["PayloadType"], root["PayloadContent"]) == ("com.apple.security.root", b"root")
    assert (vpn["PayloadType"], vpn["VPNType"]) == ("com.apple.vpn.managed", "IKEv2")
    connection = vpn["IKEv2"]
    assert connection["RemoteAddress"] == connection["RemoteIdentifier"] == "vpn.example.com"
    assert (connection["AuthenticationMethod"], connection["ExtendedAuthEnabled"]) == ("Certificate", 1)
    assert connection["AuthName"] == "alice"
    assert not {"AuthPassword", "PayloadCertificateUUID", "SharedSecret"} & set(connection)
    for name in ("IKESecurityAssociationParameters", "ChildSecurityAssociationParameters"):
        suite = {key: value for key, value in connection[name].items() if key != "LifeTimeInMinutes"}
        assert suite == {
            "EncryptionAlgorithm": "AES-256-GCM",
            "IntegrityAlgorithm": "SHA2-384",
            "DiffieHellmanGroup": 20,
        }


def test_apple_rekeys_before_the_gateway_would() -> None:
    settings = GatewaySettings()
    assert settings.ike_rekey_s > IKE_LIFETIME_MINUTES * 60
    assert settings.child_rekey_s > CHILD_LIFETIME_MINUTES * 60


def test_a_newer_profile_takes_the_place_of_the_older_one() -> None:
    first, again, other = profile(target()), profile(target("10.0.0.0/8")), profile(Target("b.example", "b", "alice"))
    identifiers = [{part["PayloadUUID"] for part in (one, *one["PayloadContent"])} for one in (first, again, other)]
    assert identifiers[0] == identifiers[1]
    assert len(identifiers[0]) == 3
    assert not identifiers[0] & identifiers[2]


@pytest.mark.parametrize(
    ("platform", "kind"),
    [
        ("Windows", "windows"),
        ("Windows 11 Pro", "windows"),
        ("macOS 15", "apple"),
        ("iOS", "apple"),
        ("Android", None),
        ("Debian 12", None),
        ("", None),
    ],
)
def test_which_platform_takes_which_profile(platform: str, kind: str | None) -> None:
    assert profile_kind(platform) == kind


@pytest.mark.parametrize(
    ("rules", "networks"),
    [
        ((RuleSettings(name="all"),), ("10.1.0.0/16",)),
        ((RuleSettings(name="staff", groups=("staff",), networks=(ip_network("10.7.0.0/16"),)),), ("10.7.0.0/16",)),
        ((RuleSettings(name="full", tunnel="full"),), ("0.0.0.0/0", "::/0")),
        (
            (RuleSettings(name="certified", methods=("eap-tls",), networks=(ip_network("10.8.0.0/16"),)),),
            ("10.8.0.0/16",),
        ),
        ((RuleSettings(name="nobody", effect="deny"),), ("10.1.0.0/16",)),
    ],
    ids=lambda value: value[0].name if isinstance(value[0], RuleSettings) else None,
)
def test_networks_are_those_of_the_rule_that_will_decide(
    tmp_path: Path, rules: tuple[RuleSettings, ...], networks: tuple[str, ...]
) -> None:
    with open_runtime(tmp_path / "state", rules=rules) as runtime:
        gateway = runtime.settings.gateway.model_copy(update={"networks": (ip_network("10.1.0.0/16"),)})
        settled = replace(runtime, settings=runtime.settings.model_copy(update={"gateway": gateway}))
        device_id = enrol(runtime).id
        with runtime.database.reading() as session:
            found = target_for(session, settled, session.get_one(Device, device_id))
    assert (found.user_name, found.identity) == ("alice", "gateway.example.test")
    assert tuple(map(str, found.networks)) == networks
