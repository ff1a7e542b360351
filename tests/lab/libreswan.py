"""Debian's libreswan as a client with a certificate: a second implementation of IKEv2, with the kernel's ESP.

Version 4.10 has EAP-TLS for gateways only, so certificates are the one way in that it knows. Of two virtual addresses
it takes the IPv4 one.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from tests.lab.certificates import Identity
from tests.lab.libreswan_package import fetched
from tests.lab.namespaces import Namespace, run
from tests.lab.processes import LabError, Process, wait_for

CONNECTION = "gateway"
READY_TIMEOUT_S = 20.0
_CERTIFICATE = "client"
_PASSWORD = "of no worth"
# `ip netns exec` has given it mounts of its own. In these its programs lie where they look for each other, and it is
# not the machine's resolver that it configures.
_WITH_ITS_MOUNTS = """
mount -t tmpfs tmpfs /usr/libexec
mkdir /usr/libexec/ipsec
mount --bind "$0/usr/libexec/ipsec" /usr/libexec/ipsec
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
"""
_PROGRAMS = "/usr/libexec/ipsec"


@dataclass(frozen=True, slots=True, kw_only=True)
class LibreswanConfig:
    """A remote-access client."""

    local_address: str
    remote_address: str
    remote_identity: str
    trust_pem: str
    """The root that the gateway's certificate, with a key for ECDSA, must lead to."""
    credential: Identity
    ike: str = "aes_gcm256-sha2_256;dh19"
    esp: str = "aes_gcm256"
    changes: Mapping[str, str] = field(default_factory=dict)
    """Lines of the connection that are otherwise, for whatever else it is to do; empty to leave one out."""


class LibreswanClient:
    """A running pluto: `with LibreswanClient(...) as client: client.connect()`."""

    def __init__(self, namespace: Namespace, config: LibreswanConfig, directory: Path) -> None:
        self.namespace = namespace
        self.config = config
        self.directory = directory
        self._package = fetched()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Write the configuration, start the daemon and wait until it has loaded all of it.

        Raises:
            LabError: it did not come up; the message holds its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("nss", "run"):
            (self.directory / name).mkdir(exist_ok=True)
        (self.directory / "ipsec.conf").write_text(self._configuration(), encoding="utf-8")
        for name in ("ipsec.secrets", "resolv.conf"):
            (self.directory / name).touch()
        self._fill_certificate_store()
        self._process = self.namespace.start(
            *self._inside(f"{_PROGRAMS}/pluto", "--nofork", "--use-xfrm"),
            *("--config", str(self.directory / "ipsec.conf"), "--ipsecdir", str(self.directory)),
            *("--nssdir", str(self.directory / "nss"), "--secretsfile", str(self.directory / "ipsec.secrets")),
            *("--rundir", str(self.directory / "run"), "--logfile", str(self._log_file)),
            log_file=self.directory / "output.log",
            env=self._environment(),
        )
        wait_for(self._loaded, READY_TIMEOUT_S, f"libreswan in {self.namespace.name}", interval_s=0.1)

    def stop(self) -> None:
        """Stop in order: the daemon sends its Deletes first."""
        if self._process is not None and self._process.returncode is None:
            self._whack("--shutdown")
            self._process.stop()

    def connect(self, timeout_s: float = 20.0) -> None:
        """Connect, and see that the child SA is there; its own exit status does not tell.

        Raises:
            LabError: it is not; the message holds the log.
        """
        output = self._whack("--name", CONNECTION, "--initiate", timeout_s=timeout_s)
        if "initiator established Child SA" not in output:
            raise LabError(f"no connection:\n{output}\n{self.log()[-8000:]}")

    def terminate(self) -> str:
        """Disconnect with a Delete; what it printed."""
        return self._whack("--name", CONNECTION, "--terminate")

    def rekey_child(self) -> str:
        """Have it rekey its child SA; what it printed."""
        return self._whack("--rekey-ipsec", "--name", CONNECTION)

    def rekey_ike(self) -> str:
        """Have it rekey its IKE SA; what it printed."""
        return self._whack("--rekey-ike", "--name", CONNECTION)

    def log(self) -> str:
        """The daemon's log so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace") if self._log_file.exists() else ""

    def wait_for_log(self, pattern: str, timeout_s: float = 10.0) -> None:
        """Wait until the log holds the regular expression.

        Raises:
            LabError: it does not in time.
        """
        wait_for(lambda: re.search(pattern, self.log()), timeout_s, f"{pattern!r} in libreswan's log")

    @property
    def _log_file(self) -> Path:
        return self.directory / "pluto.log"

    def _loaded(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise LabError(f"pluto ended with {self._process.returncode}:\n{self._process.log()}\n{self.log()}")
        return re.search(f'"{CONNECTION}".*: added IKEv2 connection', self.log()) is not None

    def _configuration(self) -> str:
        config = self.config
        lines = {
            "ikev2": "insist",
            "auto": "add",
            "left": config.local_address,
            "leftid": "%fromcert",
            "leftcert": _CERTIFICATE,
            "leftsendcert": "always",
            "leftmodecfgclient": "yes",
            "leftsubnet": "0.0.0.0/0",
            "right": config.remote_address,
            "rightid": f"@{config.remote_identity}",
            "rightsubnet": "0.0.0.0/0",
            "narrowing": "yes",
            "ike": config.ike,
            "esp": config.esp,
            "leftauth": "ecdsa" if isinstance(config.credential.key, ec.EllipticCurvePrivateKey) else "rsasig",
            "rightauth": "ecdsa",
        }
        settings = "".join(f"\t{name}={value}\n" for name, value in {**lines, **config.changes}.items() if value)
        return f"config setup\n\tprotostack=xfrm\n\nconn {CONNECTION}\n{settings}"

    def _fill_certificate_store(self) -> None:
        credential = self.config.credential
        archive = pkcs12.serialize_key_and_certificates(
            _CERTIFICATE.encode(),
            credential.key,
            credential.certificate,
            credential.intermediates,
            BestAvailableEncryption(_PASSWORD.encode()),
        )
        (self.directory / "client.p12").write_bytes(archive)
        (self.directory / "trust.pem").write_text(self.config.trust_pem, encoding="utf-8")
        store = ("-d", f"sql:{self.directory / 'nss'}")
        run(["certutil", "-N", *store, "--empty-password"])
        run(["certutil", "-A", *store, "-n", "root", "-t", "CT,,", "-i", str(self.directory / "trust.pem")])
        run(["pk12util", "-i", str(self.directory / "client.p12"), *store, "-W", _PASSWORD])

    def _whack(self, *arguments: str, timeout_s: float = 20.0) -> str:
        command = self.namespace.inside(*self._inside(f"{_PROGRAMS}/whack"))
        try:
            result = subprocess.run(
                [*command, "--rundir", str(self.directory / "run"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout_s,
                env=self._environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"whack {' '.join(arguments)}: not done after {timeout_s:g} s\n{self.log()}") from None
        return result.stdout

    def _inside(self, *command: str) -> list[str]:
        return ["sh", "-ec", _WITH_ITS_MOUNTS, str(self._package), str(self.directory / "resolv.conf"), *command]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self._package / 'usr/sbin'}:{os.environ['PATH']}"}
