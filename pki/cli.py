"""`ostiary ca`: show the authority, print what clients trust, list and revoke certificates, look at other CAs."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from core.cli import cli_actor, emit, json_option, open_runtime
from core.clock import utc_now
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.certificates import list_certificates, revoke_certificate, state_of
from pki.errors import PkiError, WeakKeyError
from pki.foreign import ForeignAuthorities, ForeignClient
from pki.keys import kind_of
from pki.names import serial_text
from pki.profiles import ALL_PROFILES
from pki.revocation.evidence import NOTHING_STAPLED, PathStatus, RevocationState
from pki.revocation.service import RevocationService, own_networks
from pki.trust import load_authorities

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


@ca.command()
@json_option
def trusted(as_json: bool) -> None:
    """List the CAs of others whose clients may sign in (pki.trusted_authorities)."""
    rows = []
    for authority in _foreign(open_runtime()):
        kinds = [("root", root) for root in authority.anchors] + [("below", one) for one in authority.intermediates]
        for kind, certificate in kinds:
            rows.append({"authority": authority.name, "kind": kind, **_ca_facts(certificate)})
    emit(rows, as_json)


@ca.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def examine(file: Path, as_json: bool) -> None:
    """Judge a client certificate of another CA (PEM, with what the client sends beside it) as a gateway would.

    Its CA is asked whether it was revoked. Ends with 1 where a gateway would refuse it; whether its holder may sign
    in besides, the access rules say.
    """
    runtime = open_runtime()
    foreign = _foreign(runtime)
    client = foreign.verify(_chain(file), utc_now())
    settings = foreign.named(client.authority).settings
    not_asked = PathStatus(RevocationState.UNKNOWN, "not asked")
    status = not_asked if settings.revocation == "off" else _ask(runtime, foreign, client)
    refused = settings.revocation != "off" and (
        status.state is RevocationState.REVOKED
        or (status.state is RevocationState.UNKNOWN and settings.revocation == "required")
    )
    facts = {
        "authority": client.authority,
        "serial": client.serial,
        "names": ", ".join(client.identities),
        "user": " or ".join(client.user_names) or ("" if client.names_user else "the device's owner"),
        "device": client.device_id or " or ".join(client.device_names),
        "revocation": status.state,
        "reason": status.reason,
        "accepted": not refused,
    }
    emit([facts], as_json)
    if refused:
        raise SystemExit(1)


def _foreign(runtime: Runtime) -> ForeignAuthorities:
    authority = CertificateAuthority.open(runtime)
    return load_authorities(runtime.settings.pki.trusted_authorities, [authority.root, authority.issuing])


def _chain(file: Path) -> list[bytes]:
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except ValueError as error:
        raise PkiError(f"{file}: not certificates in PEM: {error}") from None
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


def _ask(runtime: Runtime, foreign: ForeignAuthorities, client: ForeignClient) -> PathStatus:
    posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    answers: list[PathStatus] = []
    settings = runtime.settings
    service = RevocationService(foreign, settings.pki.revocation, own_networks(settings.gateway), posted.put)
    service.start()
    service.check(client.authority, client.path, NOTHING_STAPLED, answers.append)
    posted.get()()
    service.stop()
    return answers[0]


def _ca_row(name: str, certificate: x509.Certificate) -> dict[str, Any]:
    return {"name": name, **_ca_facts(certificate)}


def _ca_facts(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "key": _kind(certificate.public_key()),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "serial": serial_text(certificate),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _kind(public_key: object) -> str:
    try:
        return str(kind_of(public_key))
    except WeakKeyError:
        # Other CAs may have keys that no profile of ours allows.
        return type(public_key).__name__.removesuffix("PublicKey")
