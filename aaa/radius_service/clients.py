"""The RADIUS clients of the settings, with their secrets."""

from __future__ import annotations

from pathlib import Path

from aaa.radius.clients import RadiusClient
from core.key_files import SharedKeyError, read_key_file
from core.secrets import Secret
from core.settings import RadiusSettings

LEAST_SECRET_BYTES = 16
"""RFC 2865 section 3. Everything that RADIUS protects over UDP rests on it, and can be tried offline."""
LEAST_SECRET_BITS = 40.0


def read_secret(file: Path) -> bytes:
    """What we share with a RADIUS client, or server.

    Raises:
        SharedKeyError: it can't be used.
    """
    return read_key_file(file, least_bytes=LEAST_SECRET_BYTES, least_bits=LEAST_SECRET_BITS)


def load_clients(settings: RadiusSettings) -> tuple[RadiusClient, ...]:
    """The clients.

    Raises:
        SharedKeyError: a secret can't be used, or is that of two clients: who has it could pass for the other, and
            rules tell them apart.
    """
    clients = []
    owner_of: dict[bytes, str] = {}
    for client in settings.clients:
        secret = read_secret(client.secret_file)
        other = owner_of.setdefault(secret, client.name)
        if other != client.name:
            raise SharedKeyError(
                f"the RADIUS clients {other} and {client.name} have the same secret",
                fix="give each a secret of its own, or make one client of them, with the addresses of both",
            )
        clients.append(RadiusClient(client.name, client.addresses, Secret(secret)))
    return tuple(clients)
