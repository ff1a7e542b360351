"""`ostiary device`: enrol a device, hand it what it signs in with, throw it out."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.serialization import Encoding

from aaa import devices, enforcement
from aaa.cli.files import ClientFiles, FilePassword, file_password
from aaa.cli.output import emit_enforcement, emit_one
from aaa.devices import DeviceOverview
from aaa.enrolment.profile import FILES, ProfileKind, make_profile, profile_kind
from aaa.enrolment.target import target_for
from core.cli import cli_actor, emit, json_option, open_runtime
from core.clock import utc_now
from core.errors import OstiaryError
from core.runtime import Runtime
from core.settings import GatewaySettings
from pki.authority import CertificateAuthority
from pki.certificates import state_of
from pki.keys import KeyType
from pki.names import DEVICE_DOMAIN
from posture import devices as inventory

_output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The folder for the certificate's files; else the current one.",
)
_password_option = click.option(
    "--p12-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its first line is the password of the .p12 file; else one is made and shown.",
)
_legacy_option = click.option(
    "--p12-legacy", is_flag=True, help="Encrypt the .p12 file as Apple devices and old Windows read it."
)
_key_type_option = click.option(
    "--key-type",
    type=click.Choice(["rsa-3072", "ecdsa-p256"]),
    default="rsa-3072",
    show_default=True,
    help="RSA is the one type that every stock client takes.",
)


@click.group()
def device() -> None:
    """Devices: what they sign in with, and which of them are thrown out."""


@device.command()
@click.argument("owner")
@click.argument("name")
@click.option("--platform", default="", help="What it runs, for the console: `Windows 11`.")
@click.option("--certificate", is_flag=True, help="Also make a key and a certificate, and write them to files.")
@_output_option
@_password_option
@_legacy_option
@_key_type_option
@json_option
def add(
    owner: str,
    name: str,
    platform: str,
    certificate: bool,
    output: Path,
    p12_password_file: Path | None,
    p12_legacy: bool,
    key_type: KeyType,
    as_json: bool,
) -> None:
    """Enrol device NAME of user OWNER, and print what to type into its VPN settings."""
    runtime = open_runtime()
    # What could go wrong with files goes wrong before the device exists.
    password = file_password(p12_password_file) if certificate else None
    files = ClientFiles.plan(output, name.strip().lower()) if certificate else None
    new = devices.add_device(runtime, owner, name, platform, cli_actor())
    facts = _access_facts(runtime, new.device.owner, new.access_code, new.expires_at)
    facts.update(device=new.device.name, device_id=new.device.id)
    if files is not None and password is not None:
        facts.update(_write_certificate(runtime, new.device.id, files, password, p12_legacy, key_type))
    if as_json:
        emit_one(facts, as_json)
        return
    click.echo(f"device {new.device.name} of {new.device.owner} is enrolled\n")
    _print_settings(runtime.settings.gateway, new.device.name, facts)


@device.command()
@click.argument("name")
@_output_option
@_password_option
@_legacy_option
@_key_type_option
@json_option
def certificate(
    name: str,
    output: Path,
    p12_password_file: Path | None,
    p12_legacy: bool,
    key_type: KeyType,
    as_json: bool,
) -> None:
    """Make a new key and certificate for a device that is enrolled."""
    runtime = open_runtime()
    password = file_password(p12_password_file)
    with runtime.database.reading() as session:
        found = inventory.find(session, name)
        device_id, device_name = found.id, found.name
    files = ClientFiles.plan(output, device_name)
    facts = _write_certificate(runtime, device_id, files, password, p12_legacy, key_type)
    if as_json:
        emit_one({"device": device_name, "device_id": device_id, **facts}, as_json)
    else:
        _print_certificate(runtime.settings.gateway, device_name, facts)


@device.command("list")
@click.option("--owner", help="Only those of this user.")
@json_option
def list_(owner: str | None, as_json: bool) -> None:
    """List devices by name."""
    with open_runtime().database.reading() as session:
        emit(
            [
                {
                    "name": found.name,
                    "owner": found.owner,
                    "platform": found.platform,
                    "state": found.state,
                    "reason": found.state_reason,
                    "created_at": found.created_at,
                    "id": found.id,
                }
                for found in inventory.list(session, owner=owner)
            ],
            as_json,
        )


@device.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print one device with its certificates and sessions."""
    with open_runtime().database.reading() as session:
        overview = devices.device_overview(session, inventory.find(session, name).id)
        emit_one(_overview_facts(overview), as_json)


@device.command()
@click.argument("name")
@json_option
def code(name: str, as_json: bool) -> None:
    """Give a device a new access code; the one before ends."""
    runtime = open_runtime()
    with runtime.database.reading() as session:
        found = inventory.find(session, name)
        device_id, device_name, owner = found.id, found.name, found.owner
    issued = devices.renew_access_code(runtime, device_id, cli_actor())
    facts = _access_facts(runtime, owner, issued.code, issued.expires_at)
    facts.update(device=device_name, device_id=device_id)
    if as_json:
        emit_one(facts, as_json)
    else:
        _print_settings(runtime.settings.gateway, device_name, facts)


@device.command("profile")
@click.argument("name")
@click.option("--for", "kind", type=click.Choice(["windows", "apple"]), help="Else as the device's platform says.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; else ostiary.ps1 or ostiary.mobileconfig in the current folder, - for standard output.",
)
def write_profile(name: str, kind: ProfileKind | None, output: Path | None) -> None:
    """Write what sets up a device's own client: a PowerShell script for Windows, a profile for iOS and macOS."""
    runtime = open_runtime()
    with runtime.database.reading() as session:
        found = inventory.find(session, name)
        target = target_for(session, runtime, found)
    kind = kind or profile_kind(found.platform)
    if kind is None:
        raise OstiaryError(
            f"there is no profile for the platform of {found.name} ({found.platform or 'not known'})",
            fix="say --for windows or --for apple; other clients are set up by hand",
        )
    root_der = CertificateAuthority.open(runtime).root.public_bytes(Encoding.DER)
    content = make_profile(kind, target, root_der)
    file = output or Path(FILES[kind])
    if str(file) == "-":
        click.echo(content, nl=False)
        return
    try:
        file.write_bytes(content)
    except OSError as error:
        raise OstiaryError(f"{file} can't be written: {error.strerror}") from error
    click.echo(f"wrote {file}")


@device.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, in words for its user; kept in the audit log.")
@json_option
def revoke(name: str, reason: str, as_json: bool) -> None:
    """Throw a device out: its tunnels, certificates and access code end now, on every gateway."""
    runtime = open_runtime()
    with runtime.database.reading() as session:
        device_id = inventory.find(session, name).id
    result = enforcement.revoke_device(runtime, device_id, reason, cli_actor())
    done = f"device {result.device_name} is revoked; certificates revoked: {result.certificates_revoked}"
    emit_enforcement(done, result, as_json)


@device.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, in words for its user; kept in the audit log.")
@json_option
def quarantine(name: str, reason: str, as_json: bool) -> None:
    """Narrow a device's tunnels to what the rules give a quarantined device, now and without a new sign-in."""
    _change_state(name, inventory.QUARANTINED, reason, as_json)


@device.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, in words for its user; kept in the audit log.")
@json_option
def trust(name: str, reason: str, as_json: bool) -> None:
    """Take a device out of quarantine; its tunnels reach again what the rules give a trusted device."""
    _change_state(name, inventory.TRUSTED, reason, as_json)


def _change_state(name: str, state: str, reason: str, as_json: bool) -> None:
    runtime = open_runtime()
    with runtime.database.reading() as session:
        device_id = inventory.find(session, name).id
    result = enforcement.change_device_state(runtime, device_id, state, reason, cli_actor())
    emit_enforcement(f"device {result.device_name} is {state}", result, as_json)


def _access_facts(runtime: Runtime, user_name: str, access_code: str, expires_at: datetime) -> dict[str, Any]:
    gateway = runtime.settings.gateway
    return {
        "server": gateway.identity,
        "remote_id": gateway.identity,
        "user_name": user_name,
        "access_code": access_code,
        "access_code_expires_at": expires_at,
    }


def _write_certificate(
    runtime: Runtime,
    device_id: str,
    files: ClientFiles,
    password: FilePassword,
    legacy: bool,
    key_type: KeyType,
) -> dict[str, Any]:
    authority = CertificateAuthority.open(runtime)
    issued = devices.issue_certificate(runtime, authority, device_id, key_type, cli_actor())
    files.write(issued, authority, password.secret, legacy=legacy)
    facts: dict[str, Any] = {
        "certificate_expires_at": issued.certificate.not_valid_after_utc,
        "pkcs12_file": str(files.pkcs12),
        "certificate_file": str(files.certificate),
        "private_key_file": str(files.private_key),
        "trust_file": str(files.trust),
    }
    if password.generated is not None:
        facts["pkcs12_password"] = password.generated
    return facts


def _print_settings(gateway: GatewaySettings, device_name: str, facts: dict[str, Any]) -> None:
    click.echo("VPN settings for sign-in with user name and access code:")
    _print_lines(
        ("type", "IKEv2"),
        ("server", _server(gateway)),
        ("remote ID", gateway.identity),
        ("authentication", "user name and password (EAP-MSCHAPv2)"),
        ("user name", facts["user_name"]),
        ("password", facts["access_code"]),
        ("", f"with the hyphens; shown only now, good until {facts['access_code_expires_at']:%Y-%m-%d %H:%M} UTC"),
        ("CA certificate", facts.get("trust_file", "the output of `ostiary ca trust`, to be trusted by the device")),
    )
    if "pkcs12_file" in facts:
        click.echo()
        _print_certificate(gateway, device_name, facts)


def _print_certificate(gateway: GatewaySettings, device_name: str, facts: dict[str, Any]) -> None:
    click.echo("VPN settings for sign-in with the certificate:")
    lines = [
        ("type", "IKEv2"),
        ("server", _server(gateway)),
        ("remote ID", gateway.identity),
        ("local ID", f"{device_name}.{DEVICE_DOMAIN}"),
        ("authentication", "certificate, or EAP-TLS with the local ID as its identity"),
        ("to import", facts["pkcs12_file"]),
    ]
    if "pkcs12_password" in facts:
        lines.append(("its password", f"{facts['pkcs12_password']} (shown only now)"))
    lines += [
        ("or as PEM", f"{facts['certificate_file']} with {facts['private_key_file']}"),
        ("CA certificate", facts["trust_file"]),
        ("valid until", f"{facts['certificate_expires_at']:%Y-%m-%d %H:%M} UTC"),
    ]
    _print_lines(*lines)


def _server(gateway: GatewaySettings) -> str:
    if not gateway.public_addresses:
        return gateway.identity
    return f"{gateway.identity} (or {', '.join(map(str, gateway.public_addresses))})"


def _print_lines(*lines: tuple[str, Any]) -> None:
    for name, value in lines:
        click.echo(f"  {name:<15} {value}")


def _overview_facts(overview: DeviceOverview) -> dict[str, Any]:
    found = overview.device
    now = utc_now()
    return {
        "name": found.name,
        "id": found.id,
        "owner": found.owner,
        "owner_disabled": overview.owner.disabled if overview.owner is not None else None,
        "platform": found.platform,
        "state": found.state,
        "state_reason": found.state_reason,
        "state_changed_at": found.state_changed_at,
        "created_at": found.created_at,
        "access_code_expires_at": overview.code_expires_at,
        "certificates": [
            f"{row.serial} ({state_of(row, now)} until {row.not_after:%Y-%m-%d %H:%M})"
            for row in overview.certificates
        ],
        "live_sessions": [f"{row.id} on {row.gateway}" for row in overview.live_sessions],
    }
