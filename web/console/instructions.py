"""How a person connects with the client that the device already has, in a few steps for each platform."""

from __future__ import annotations

from dataclasses import dataclass

from web.trust import PEM_FILE

PLATFORMS = ("Windows", "macOS", "iOS", "Android", "Linux")


@dataclass(frozen=True, slots=True)
class Instructions:
    """What the page after adding a device says."""

    trust_step: str
    """How the CA certificate is made trusted."""
    steps: tuple[str, ...]
    command: str = ""
    """For a terminal, where the platform is set up by one."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a client is to be told."""

    identity: str
    """The gateway's name, which its certificate carries."""
    host: str
    """Where packets go: an address where one is known, else the name."""
    user_name: str


def instructions(platform: str, target: Target) -> Instructions:
    """The steps for one of `PLATFORMS`; short general ones for anything else.

    Args:
        platform: as it was chosen when the device was added.
        target: where to connect, and as whom.
    """
    return _BY_PLATFORM.get(platform.partition(" ")[0], _general)(target)


def _windows(target: Target) -> Instructions:
    return Instructions(
        "Open the file, install it for the local machine, under Trusted Root Certification Authorities.",
        (
            "Run the command below in PowerShell. It makes the connection, and has Windows offer strong algorithms: "
            "by itself it offers only old ones, which are refused.",
            "Settings, Network & internet, VPN: connect, and type user name and access code.",
        ),
        f"Add-VpnConnection -Name Ostiary -ServerAddress {target.identity} `\n"
        "  -TunnelType Ikev2 -AuthenticationMethod Eap\n"
        "Set-VpnConnectionIPsecConfiguration -ConnectionName Ostiary `\n"
        "  -EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA384 -DHGroup ECP384 `\n"
        "  -CipherTransformConstants GCMAES256 -AuthenticationTransformConstants GCMAES256 `\n"
        "  -PfsGroup None -Force",
    )


def _mac(target: Target) -> Instructions:
    return Instructions(
        "Open it in Keychain Access, login keychain, and set it to Always Trust.",
        (
            "System Settings, VPN, Add VPN Configuration, IKEv2.",
            f"Server address and remote ID: {target.identity}. Leave the local ID empty.",
            "User authentication: Username, with user name and access code; then connect.",
        ),
    )


def _ios(target: Target) -> Instructions:
    return Instructions(
        "Install the profile, then switch it on under Settings, General, About, Certificate Trust Settings.",
        (
            "Settings, General, VPN & Device Management, VPN, Add VPN Configuration, type IKEv2.",
            f"Server and remote ID: {target.identity}. Leave the local ID empty.",
            "User authentication: Username, with user name and access code; then connect.",
        ),
    )


def _android(target: Target) -> Instructions:
    return Instructions(
        "Settings, Security, Encryption & credentials, Install a certificate, VPN & app user certificate.",
        (
            "Settings, Network & internet, VPN, add one of type IKEv2/IPSec MSCHAPv2 (Android 11 or newer).",
            f"Server address: {target.identity}. Identifier: the user name.",
            "CA certificate: the one installed above. Then user name and access code; connect.",
        ),
    )


def _linux(target: Target) -> Instructions:
    return Instructions(
        "Keep it in the folder where you run the command.",
        (
            "Install strongSwan (Debian: apt install charon-cmd libcharon-extra-plugins).",
            "Run the command below; it asks for the access code, and Ctrl-C ends the tunnel.",
        ),
        f"sudo charon-cmd --host {target.host} \\\n"
        f"  --profile ikev2-eap --identity {target.user_name} \\\n"
        f"  --remote-identity {target.identity} \\\n"
        f"  --cert {PEM_FILE}",
    )


def _general(target: Target) -> Instructions:
    return Instructions(
        "",
        (
            f"Set up an IKEv2 connection to {target.identity}, remote ID the same.",
            "Authentication: EAP-MSCHAPv2 with user name and access code.",
        ),
    )


_BY_PLATFORM = {"Windows": _windows, "macOS": _mac, "iOS": _ios, "Android": _android, "Linux": _linux}
