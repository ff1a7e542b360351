"""`ostiary ca`: show the authority, print what clients trust, list and revoke certificates."""

from __future__ import annotations

from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from core.cli import cli_actor, emit, json_option, open_runtime
from core.clock import utc_now
from pki.authority import CertificateAuthority
from pki.certificates import list_certificates, revoke_certificate, state_of
from pki.keys import kind_of
from pki.names import serial_text
from pki.profiles import ALL_PROFILES

LISTED_BY_DEFAULT = 200


@click.group()
def ca() -> None:
    """The certificate authority."""


@ca.command()
@json_option
def show(as_json: bool) -> None:
    """Print the root and the issuing CA."""
    authority = CertificateAuthority.open(open_runtime())
    emit([_ca_row("root", authority.root), _ca_row("issuing", authority.issuing)], as_json)


@ca.command()
def trust() -> None:
    """Print the root's certificate (PEM), for clients to trust."""
    click.echo(CertificateAuthority.open(open_runtime()).trust_pem(), nl=False)


@ca.command("list")
@click.option("--profile", type=click.Choice([p.name for p in ALL_PROFILES if not p.is_ca]), help="Only this kind.")
@click.option("--device", metavar="ID", help="Only those of the device with this id.")
@click.option(
    "--limit", type=click.IntRange(1), default=LISTED_BY_DEFAULT, show_default=True, help="How many at most."
)
@json_option
def list_(profile: str | None, device: str | None, limit: int, as_json: bool) -> None:
    """List issued certificates, newest first."""
    runtime = open_runtime()
    now = utc_now()
    with runtime.database.reading() as session:
        rows = [
            {
                "serial": row.serial,
                "profile": row.profile,
                "subject": row.subject,
                "device_id": row.device_id,
                "state": state_of(row, now),
                "not_before": row.not_before,
                "not_after": row.not_after,
                "revoked_at": row.revoked_at,
                "reason": row.revocation_reason,
            }
            for row in list_certificates(session, profile=profile, device_id=device, limit=limit)
        ]
    emit(rows, as_json)


@ca.command()
@click.argument("serial")
@click.option("--reason", required=True, help="Why, in words; kept in the audit log.")
def revoke(serial: str, reason: str) -> None:
    """Revoke one certificate. To end a device's sessions too, use `ostiary device revoke`."""
    runtime = open_runtime()
    with runtime.database.transaction() as session:
        changed = revoke_certificate(session, serial, reason, cli_actor())
    click.echo("revoked" if changed else "it was revoked before; nothing changed")


def _ca_row(name: str, certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "name": name,
        "subject": certificate.subject.rfc4514_string(),
        "key": str(kind_of(certificate.public_key())),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "serial": serial_text(certificate),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }
