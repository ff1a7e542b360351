"""FreeRADIUS's `radclient`: requests that no EAP peer makes, and repetitions of one's own."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.namespaces import Namespace
from tests.lab.processes import LabError

RADCLIENT = "radclient"
TIMEOUT_S = 20
ANSWER_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class RadclientResult:
    """What it says."""

    ok: bool
    """It got the answer that stands for success, and found it authentic."""
    output: str


def radclient(
    namespace: Namespace,
    server: str,
    command: str,
    secret: str,
    attributes: Sequence[str] = (),
    *,
    timeout_s: int = 1,
) -> RadclientResult:
    """Send one request, once.

    Args:
        namespace: where it runs.
        server: `ADDRESS:PORT`.
        command: `auth`, `acct`, `status`.
        secret: shared with the server.
        attributes: such as `User-Name = alice`; `Message-Authenticator = 0x00` is computed.
        timeout_s: how long it waits.
    """
    line = [RADCLIENT, "-x", "-r", "1", "-t", str(timeout_s), server, command, secret]
    try:
        result = subprocess.run(
            namespace.inside(*line),
            input=", ".join(attributes) + "\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{RADCLIENT} did not end in {TIMEOUT_S} s") from None
    return RadclientResult(result.returncode == 0, result.stdout)


def exchange(
    namespace: Namespace, server: tuple[str, int], datagrams: Sequence[bytes], *, answers: int
) -> list[bytes]:
    """Send datagrams from one port, and take so many answers; fewer where no more come in time."""

    def talk() -> list[bytes]:
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            # Connected: an answer from another address than the one that was asked does not arrive.
            sock.connect(server)
            sock.settimeout(ANSWER_TIMEOUT_S)
            for datagram in datagrams:
                sock.send(datagram)
            received: list[bytes] = []
            try:
                while len(received) < answers:
                    received.append(sock.recv(4097))
            except TimeoutError:
                pass
            return received

    return namespace.call(talk)
