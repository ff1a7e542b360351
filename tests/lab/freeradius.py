"""Debian's FreeRADIUS as the company's RADIUS server, in a namespace, from one file of configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.certificates import Identity, certificate_pem, key_pem
from tests.lab.namespaces import Namespace
from tests.lab.processes import LabError, Process, wait_for

FREERADIUS = "/usr/sbin/freeradius"
READY_TIMEOUT_S = 10.0
_CONFIGURATION = """
prefix = /usr
logdir = {directory}
run_dir = {directory}
libdir = /usr/lib/freeradius
pidfile = {directory}/radiusd.pid
max_request_time = 10
cleanup_delay = 2
log {{
  destination = files
  file = {directory}/radius.log
  auth = yes
}}
security {{
  max_attributes = 200
  reject_delay = 0
  status_server = yes
  allow_vulnerable_openssl = 'CVE-2016-6304'
}}
proxy_requests = no
client gateway {{
  ipaddr = {client}
  secret = "{secret}"
  require_message_authenticator = yes
}}
modules {{
  pap {{
  }}
  mschap {{
    use_mppe = yes
    require_encryption = yes
    require_strong = yes
  }}
  files {{
    filename = {directory}/users
  }}
  eap {{
    default_eap_type = mschapv2
    timer_expire = 60
    max_sessions = 4096
    gtc {{
      auth_type = PAP
    }}
    mschapv2 {{
    }}
    tls-config lab {{
      private_key_file = {directory}/server.key
      certificate_file = {directory}/server.pem
      ca_file = {directory}/trust.pem
      check_crl = no
      tls_min_version = "1.2"
      tls_max_version = "1.2"
      ecdh_curve = ""
      cache {{
        enable = no
      }}
    }}
    tls {{
      tls = lab
    }}
    ttls {{
      tls = lab
      default_eap_type = mschapv2
      copy_request_to_tunnel = no
      use_tunneled_reply = no
      virtual_server = "inner"
    }}
  }}
}}
server default {{
  listen {{
    type = auth
    ipaddr = {address}
    port = {port}
  }}
  authorize {{
    eap {{
      ok = return
    }}
    mschap
    files
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
    Auth-Type MS-CHAP {{
      mschap
    }}
    eap
  }}
}}
server inner {{
  authorize {{
    eap {{
      ok = return
    }}
    mschap
    files
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
    Auth-Type MS-CHAP {{
      mschap
    }}
    eap
  }}
{inner_post_auth}
}}
"""
_TELL_WHO_IT_WAS = """  post-auth {
    update outer.reply {
      User-Name := "%{request:User-Name}"
    }
  }"""


class FreeRadius:
    """A running server: EAP-MSCHAPv2, EAP-GTC, EAP-TLS and EAP-TTLS."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        *,
        address: str,
        port: int,
        client: str,
        secret: str,
        credential: Identity,
        trust_pem: str,
        users: Mapping[str, str],
        tells_who: bool = True,
    ) -> None:
        """
        Args:
            namespace: where it runs.
            directory: for its configuration and logs.
            address: where it listens.
            port: for authentication.
            client: the address of the one client.
            secret: shared with it.
            credential: its own certificate, for EAP-TLS and EAP-TTLS.
            trust_pem: what certificates of clients lead to.
            users: passwords by name.
            tells_who: Access-Accept has the name from inside the tunnel.
        """
        self._namespace = namespace
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        values = {"directory": directory, "address": address, "port": port, "client": client, "secret": secret}
        values["inner_post_auth"] = _TELL_WHO_IT_WAS if tells_who else ""
        files = {
            "radiusd.conf": _CONFIGURATION.format(**values),
            "users": "".join(f'{name} Cleartext-Password := "{word}"\n' for name, word in users.items()),
            "server.key": key_pem(credential.key),
            "server.pem": certificate_pem(credential.certificate),
            "trust.pem": trust_pem,
        }
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            LabError: it does not; the message holds what it said.
        """
        log = self._directory / "radius.log"
        log.unlink(missing_ok=True)
        self._process = self._namespace.start(
            *(FREERADIUS, "-f", "-d", str(self._directory), "-D", "/usr/share/freeradius"),
            log_file=self._directory / "output.log",
        )
        process = self._process

        def ready() -> bool:
            text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            if process.returncode is not None:
                raise LabError(f"freeradius ended with status {process.returncode}:\n{process.log()}\n{text}")
            return "Ready to process requests" in text

        wait_for(ready, READY_TIMEOUT_S, "freeradius")

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        return self._process.cpu_s() if self._process is not None else 0.0

    def kill(self) -> None:
        """SIGKILL; nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process = None
