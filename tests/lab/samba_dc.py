"""Samba as an Active Directory domain controller. Its ports are fixed, so it has a namespace for itself."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from tests.lab.certificates import LabAuthority, certificate_pem, key_pem
from tests.lab.namespaces import Namespace
from tests.lab.processes import Process, wait_for

REALM, DOMAIN = "AD.LAB.TEST", "ADLAB"
BASE = "DC=ad,DC=lab,DC=test"
USERS = f"CN=Users,{BASE}"
ADMINISTRATOR, ADMINISTRATOR_PASSWORD = f"administrator@{REALM.lower()}", "Passw0rd!x"
PROVISION_TIMEOUT_S, START_TIMEOUT_S = 90.0, 40.0


class SambaDc:
    """A domain of its own in a private folder; `with SambaDc(...)` runs it."""

    def __init__(self, namespace: Namespace, directory: Path, authority: LabAuthority) -> None:
        """
        Args:
            namespace: where it runs, on its loopback.
            directory: for all of its files; nothing of the machine's Samba is used.
            authority: which signs its certificate, for `localhost`.
        """
        self._namespace = namespace
        self._directory = directory
        self._configuration = directory / "etc" / "smb.conf"
        self._process: Process | None = None
        (directory / "run").mkdir(parents=True)
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        identity = authority.issue("localhost", names, usage="server")
        for name, text in (
            ("ca.pem", certificate_pem(authority.certificate)),
            ("server.pem", certificate_pem(identity.certificate)),
            ("server.key", key_pem(identity.key)),
        ):
            (directory / name).write_text(text, encoding="ascii")
        # Samba takes no key that others may read.
        (directory / "server.key").chmod(0o600)

    def __enter__(self) -> SambaDc:
        self._provision()
        self._process = self._namespace.start(
            *("samba", "--foreground", "--no-process-group", "--debug-stdout", "-d1", "-M", "standard"),
            *("-s", str(self._configuration)),
            log_file=self._directory / "samba.log",
        )
        wait_for(self._answers, START_TIMEOUT_S, "Samba's LDAP", interval_s=0.2)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.kill()

    def tool(self, *arguments: str, timeout_s: float = 30.0) -> str:
        """Run `samba-tool ARGUMENTS` on the domain's own files."""
        return self._namespace.run("samba-tool", *arguments, "-s", str(self._configuration), timeout_s=timeout_s)

    def add_person(self, name: str, password: str) -> str:
        """A person; its DN."""
        self.tool("user", "create", name, password, f"--mail-address={name}@lab.test")
        return f"CN={name},{USERS}"

    def add_group(self, name: str, *members: str) -> None:
        """A group with these users and groups, by name, in it."""
        self.tool("group", "add", name)
        if members:
            self.tool("group", "addmembers", name, ",".join(members))

    def modify(self, ldif: str) -> None:
        """Change entries as the administrator."""
        self._namespace.run(
            *("env", f"LDAPTLS_CACERT={self._directory}/ca.pem", "ldapmodify", "-x", "-H", "ldaps://127.0.0.1"),
            *("-D", ADMINISTRATOR, "-w", ADMINISTRATOR_PASSWORD),
            stdin=ldif,
        )

    def set(self, dn: str, attribute: str, value: str) -> None:
        """Replace the value of an attribute."""
        self.modify(f"dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n")

    def _provision(self) -> None:
        base = self._directory / "base.conf"
        base.write_text(
            f"""[global]
  interfaces = lo
  bind interfaces only = yes
  log file = {self._directory}/log.%m
  pid directory = {self._directory}/run
  ncalrpc dir = {self._directory}/run/ncalrpc
  winbindd socket directory = {self._directory}/run/winbindd
  ntp signd socket directory = {self._directory}/run/ntp_signd
  load printers = no
  disable spoolss = yes
""",
            encoding="utf-8",
        )
        self._namespace.run(
            *("samba-tool", "domain", "provision", "-s", str(base), f"--targetdir={self._directory}"),
            *(f"--realm={REALM}", f"--domain={DOMAIN}", "--server-role=dc", "--dns-backend=SAMBA_INTERNAL"),
            *("--host-name=dc1", "--host-ip=127.0.0.1", f"--adminpass={ADMINISTRATOR_PASSWORD}"),
            timeout_s=PROVISION_TIMEOUT_S,
        )
        text = self._configuration.read_text(encoding="utf-8")
        own = f"""[global]
  tls keyfile = {self._directory}/server.key
  tls certfile = {self._directory}/server.pem
  tls cafile = {self._directory}/ca.pem
  server services = rpc, ldap, cldap, kdc, winbindd
"""
        self._configuration.write_text(text.replace("[global]\n", own, 1), encoding="utf-8")

    def _answers(self) -> bool:
        listening = self._namespace.run("ss", "-Hltn", "sport", "=", ":636")
        return bool(listening.strip())
