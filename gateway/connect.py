"""How to reach this gateway with a client: the one command that is shown at start."""

from __future__ import annotations

import socket

FIRST_DEVICE_COMMANDS = "ostiary user add alice && ostiary device add alice alice-laptop"
ROOT_FILE = "ostiary-root.pem"
_ANY_PUBLIC_ADDRESS = ("192.0.2.1", 9)


def own_address() -> str:
    """The address from which this machine reaches others; 127.0.0.1 where it has no route out.

    Connecting a UDP socket sends nothing: the kernel only looks up its routes.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ANY_PUBLIC_ADDRESS)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def client_command(host: str, identity: str, root_file: str, user: str = "alice") -> str:
    """Debian's command-line IKEv2 client (package charon-cmd), signing in with a device's access code."""
    return (
        f"charon-cmd --host {host} --profile ikev2-eap --identity {user} "
        f"--remote-identity {identity} --cert {root_file}"
    )
