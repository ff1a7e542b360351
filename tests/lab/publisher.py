"""What an authority of the lab publishes: OCSP by Debian's `openssl ocsp`, CRLs by `openssl ca`, over HTTP."""

from __future__ import annotations

import re
import socket
import sys
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from tests.lab.certificates import Identity, LabAuthority, certificate_pem, key_pem, now
from tests.lab.namespaces import run
from tests.lab.processes import Process, wait_for

READY_TIMEOUT_S = 10.0
_TIME = "%y%m%d%H%M%SZ"
_CA_CONFIG = """
[ca]
default_ca = lab
[lab]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 1
"""


class Publisher:
    """The index of one authority's certificates, and what is made of it.

    Args:
        directory: for the index, keys and lists; served as it is where it is published by HTTP.
        authority: whose.
    """

    def __init__(self, directory: Path, authority: LabAuthority) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self._lines: dict[int, str] = {}
        (directory / "ca.pem").write_text(certificate_pem(authority.certificate), encoding="ascii")
        (directory / "ca.key").write_text(key_pem(authority.key), encoding="ascii")
        (directory / "ca.conf").write_text(_CA_CONFIG, encoding="ascii")
        (directory / "crlnumber").write_text("01\n", encoding="ascii")
        self._write()

    def knows(self, certificate: x509.Certificate, *, revoked: str = "") -> None:
        """Put a certificate into the index.

        Args:
            certificate: of the authority.
            revoked: the reason as openssl writes it (`keyCompromise`); empty for a good one.
        """
        end = certificate.not_valid_after_utc.strftime(_TIME)
        revocation = f"{(now() - timedelta(hours=1)).strftime(_TIME)},{revoked}" if revoked else ""
        serial = f"{certificate.serial_number:x}".upper()
        serial = serial if len(serial) % 2 == 0 else f"0{serial}"
        state = "R" if revoked else "V"
        self._lines[certificate.serial_number] = f"{state}\t{end}\t{revocation}\t{serial}\tunknown\t/CN={serial}\n"
        self._write()

    def write_crl(self, name: str) -> None:
        """Sign the list of what is revoked now, DER."""
        openssl = ["openssl", "ca", "-config", "ca.conf", "-gencrl", "-keyfile", "ca.key", "-cert", "ca.pem"]
        run(["env", "-C", str(self.directory), *openssl, "-out", "crl.pem"])
        target = str(self.directory / name)
        run(["openssl", "crl", "-in", str(self.directory / "crl.pem"), "-outform", "DER", "-out", target])

    def ocsp_command(self, port: int, signer: Identity | None = None, *options: str) -> list[str]:
        """The command line of a responder, which signs as the authority or as a delegate of its."""
        certificate, key = self.directory / "ca.pem", self.directory / "ca.key"
        if signer is not None:
            certificate, key = self.directory / "responder.pem", self.directory / "responder.key"
            certificate.write_text(certificate_pem(signer.certificate), encoding="ascii")
            key.write_text(key_pem(signer.key), encoding="ascii")
        index, ca = str(self.directory / "index.txt"), str(self.directory / "ca.pem")
        return [
            *("openssl", "ocsp", "-index", index, "-CA", ca, "-rsigner", str(certificate), "-rkey", str(key)),
            *("-port", str(port), "-ignore_err", *(options or ("-nmin", "5"))),
        ]

    def _write(self) -> None:
        # Another file, not other contents: openssl sees a change by inode or second, and two may come in one second.
        fresh = self.directory / "index.new"
        fresh.write_text("".join(self._lines.values()), encoding="ascii")
        fresh.replace(self.directory / "index.txt")


def http_command(directory: Path, port: int) -> list[str]:
    """The command line of a server of static files."""
    return [sys.executable, "-u", "-m", "http.server", str(port), "--directory", str(directory)]


def wait_until_ready(process: Process) -> Process:
    """Wait until a server of the two kinds above says that it listens.

    To connect for a try would not do: `openssl ocsp` never comes back from a client that leaves without a request.
    """
    ready = re.compile("waiting for OCSP client connections|Serving HTTP on")
    wait_for(lambda: ready.search(process.log()), READY_TIMEOUT_S, f"{process.command[0]} to listen")
    return process


def free_port() -> int:
    """A TCP port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
