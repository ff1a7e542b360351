"""OpenLDAP's slapd in a namespace, with TLS, the overlays memberof and ppolicy, and a small company."""

from __future__ import annotations

import re
import uuid
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from tests.lab.certificates import LabAuthority, certificate_pem, key_pem
from tests.lab.namespaces import Namespace
from tests.lab.processes import LabError, Process, wait_for

SUFFIX = "dc=lab,dc=test"
PEOPLE, GROUPS = f"ou=people,{SUFFIX}", f"ou=groups,{SUFFIX}"
SERVICE_DN, SERVICE_PASSWORD = f"cn=ostiary,{SUFFIX}", "the service's password"
LDAP_PORT, LDAPS_PORT = 389, 636
_ADMIN_DN, _ADMIN_PASSWORD = f"cn=admin,{SUFFIX}", "admin"

_BASE = f"""
dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
o: lab
dc: lab

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: cn=policy,{SUFFIX}
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 3
pwdMustChange: TRUE

dn: {SERVICE_DN}
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: ostiary
userPassword: {SERVICE_PASSWORD}
"""


class Slapd:
    """One server; `with Slapd(...)` runs it with the base of the company in it."""

    def __init__(
        self, namespace: Namespace, directory: Path, authority: LabAuthority, *, address: str, memberof: bool = True
    ) -> None:
        """
        Args:
            namespace: where it runs.
            directory: for its configuration and data.
            authority: which signs its certificate, for its address.
            address: where it listens, on ports 389 and 636.
            memberof: keep `memberOf` up.
        """
        self._namespace = namespace
        self._directory = directory
        self._address = address
        self._ldapi = directory / "ldapi"
        self._process: Process | None = None
        (directory / "db").mkdir(parents=True)
        identity = authority.issue(address, [x509.IPAddress(ip_address(address))], usage="server")
        (directory / "ca.pem").write_text(certificate_pem(authority.certificate), encoding="ascii")
        (directory / "server.pem").write_text(certificate_pem(identity.certificate), encoding="ascii")
        (directory / "server.key").write_text(key_pem(identity.key), encoding="ascii")
        (directory / "slapd.conf").write_text(self._configuration(memberof), encoding="utf-8")

    @property
    def ldaps(self) -> str:
        """Its URL with TLS from the first byte."""
        return f"ldaps://{self._address}"

    @property
    def starttls(self) -> str:
        """Its URL with StartTLS."""
        return f"ldap://{self._address}"

    def __enter__(self) -> Slapd:
        self.start()
        self.add(_BASE)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, with what it had before."""
        urls = f"{self.starttls}/ {self.ldaps}/ ldapi://{str(self._ldapi).replace('/', '%2f')}"
        self._process = self._namespace.start(
            *("/usr/sbin/slapd", "-f", str(self._directory / "slapd.conf"), "-d", "stats", "-h", urls),
            log_file=self._directory / "slapd.log",
        )
        wait_for(self._answers, 10.0, f"slapd at {self._address}: {self._process.log()[-2000:]}")

    def operations(self) -> list[str]:
        """What it was asked so far, in order: `BIND`, `SRCH`, ..."""
        log = (self._directory / "slapd.log").read_text(encoding="utf-8", errors="replace")
        # A bind that succeeds has another line with the mechanism.
        asked = re.compile(r' op=\d+ (?:(BIND) dn="[^"]*" method|(SRCH) base|(EXT) oid)=')
        return ["".join(found) for found in asked.findall(log)]

    def stop(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def add(self, ldif: str) -> None:
        """Add entries as the administrator, over the server, so that its overlays see it."""
        self._tool("ldapadd", stdin=ldif)

    def modify(self, ldif: str) -> None:
        """Change entries as the administrator."""
        self._tool("ldapmodify", stdin=ldif)

    def delete(self, dn: str) -> None:
        """Delete an entry, a referral too."""
        self._tool("ldapdelete", "-M", dn)

    def add_person(self, name: str, password: str, *, number: int = 1) -> str:
        """A person; its DN.

        Args:
            name: the person's `uid`.
            password: in the clear.
            number: how many people before had the name, from 1. The same person has the same id on every server, as
                replication would give it.
        """
        dn = f"uid={name},{PEOPLE}"
        identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{number}.{name}.lab.test")
        self.add(
            f"dn: {dn}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name.title()} Lab\nsn: Lab\n"
            f"mail: {name}@lab.test\nuserPassword: {password}\nentryUUID: {identity}\n"
        )
        return dn

    def add_group(self, name: str, *members: str) -> str:
        """A group with these DNs in it; its DN."""
        dn = f"cn={name},{GROUPS}"
        self.add(f"dn: {dn}\nobjectClass: groupOfNames\ncn: {name}\n" + "".join(f"member: {m}\n" for m in members))
        return dn

    def set(self, dn: str, attribute: str, *values: str) -> None:
        """Replace the values of an attribute; without values, remove it."""
        lines = "".join(f"{attribute}: {value}\n" for value in values)
        self.modify(f"dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{lines}")

    def _tool(self, tool: str, *arguments: str, stdin: str = "") -> str:
        relax = [] if tool == "ldapdelete" else ["-e", "relax"]
        return self._namespace.run(
            *(tool, "-x", "-H", f"ldapi://{str(self._ldapi).replace('/', '%2f')}"),
            *("-D", _ADMIN_DN, "-w", _ADMIN_PASSWORD, *relax, *arguments),
            stdin=stdin,
        )

    def _answers(self) -> bool:
        if self._process is not None and self._process.returncode is not None:
            raise LabError(f"slapd ended:\n{self._process.log()[-4000:]}")
        try:
            self._namespace.run(
                *("ldapwhoami", "-x", "-H", f"ldapi://{str(self._ldapi).replace('/', '%2f')}"),
                *("-D", _ADMIN_DN, "-w", _ADMIN_PASSWORD),
            )
        except LabError:
            return False
        return True

    def _configuration(self, memberof: bool) -> str:
        overlay = "overlay memberof\nmemberof-refint TRUE\n" if memberof else ""
        return f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
pidfile {self._directory}/slapd.pid
TLSCACertificateFile {self._directory}/ca.pem
TLSCertificateFile {self._directory}/server.pem
TLSCertificateKeyFile {self._directory}/server.key
TLSProtocolMin 3.3
# Nothing but TLS, and the socket of the administrator.
localssf 128
security simple_bind=128
# What is not here is said to be there; whoever believes it takes people's passwords there.
referral ldap://192.0.2.99/
sizelimit size.soft=100 size.hard=200 size.pr=50 size.prtotal=unlimited
database mdb
suffix {SUFFIX}
rootdn {_ADMIN_DN}
rootpw {_ADMIN_PASSWORD}
directory {self._directory}/db
dbnosync
maxsize 104857600
index objectClass eq
index uid,cn,mail,member eq
{overlay}overlay ppolicy
ppolicy_default cn=policy,{SUFFIX}
ppolicy_use_lockout
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{SERVICE_DN}" read by users read by * none
"""
