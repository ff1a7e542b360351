"""How a person connects with the client that the device already has, in a few steps for each platform."""

from __future__ import annotations

from dataclasses import dataclass

from aaa.enrolment.target import CONNECTION, Target
from aaa.enrolment.windows import powershell
from web.trust import PEM_FILE

PLATFORMS = ("Windows", "macOS", "iOS", "Android", "Linux")


@dataclass(frozen=True, slots=True)
class Instructions:
    """What the page after adding a device says."""

    trust_step: str
    """How the CA certificate is made trusted; empty where the profile brings it along."""
    steps: tuple[str, ...]
    command: str = ""
    """For a terminal, where the platform is set up by one."""


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
            "Run the commands below in PowerShell. They make the connection, and have Windows offer strong "
            "algorithms: by itself it offers only old ones, which are refused.",
            "Settings, Network & internet, VPN: connect, and type user name and access code.",
        ),
        powershell(target),
    )


def _mac(target: Target) -> Instructions:
    return Instructions(
        "",
        (
            "Open the profile, then install it under System Settings, Profiles (or General, Device Management).",
            f"System Settings, VPN: switch {CONNECTION} on. When it asks for the password, give the access code.",
        ),
    )


def _ios(target: Target) -> Instructions:
    return Instructions(
        "",
        (
            "Open the profile on the device (by AirDrop, mail, or this page), then install it under Settings, "
            "General, VPN & Device Management.",
            f"Settings, VPN: switch {CONNECTION} on. When it asks for the password, give the access code.",
        ),
    )


def _android(target: Target) -> Instructions:
    return Instructions(
        "Settings, Security, Encryption & credentials, Install a certificate, VPN & app user certificate.",
        (
            "Settings, Network & internet, VPN, add one of type IKEv2/IPSec MSCHAPv2 (Android 12 or newer; for an "
            "older one take the app strongSwan VPN Client, type IKEv2 EAP).",
            f"Server address: {target.identity}, just so. IPSec identifier: {target.user_name}. "
            "IPSec CA certificate: the one installed above; leave the server certificate as it is.",
            "Save with user name and access code, and connect.",
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
