"""wpa_supplicant's EAP peer (Debian's `eapol_test`) against our EAP server, over a RADIUS of two messages.

It is the peer that speaks EAP-TLS over TLS 1.3 as RFC 9190 has it, and it compares the MSK that it derived with
ours. It knows no other transport than RADIUS, so a small server here carries its packets to `EapServer`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyrad.dictionary import Dictionary
from pyrad.packet import AccessAccept, AccessChallenge, AccessReject, AuthPacket

from aaa.eap.mschapv2 import nt_password_hash
from aaa.eap.server import (
    Authenticated,
    EapServer,
    Failed,
    NeedCredentials,
    NeedPassword,
    NtCredential,
    PasswordRight,
    PasswordVerdict,
    PasswordWrong,
    Send,
    Step,
)
from tests.lab.certificates import Identity, certificate_pem, key_pem
from tests.lab.processes import LabError

EAPOL_TEST = "eapol_test"
TIMEOUT_S = 15
_SECRET = b"lab secret of no worth"
_HALF_MSK_BYTES = 32
_ATTRIBUTE_BYTES = 253
"""Longer EAP packets go into several attributes (RFC 3579 section 3.1)."""
_DICTIONARY = """
ATTRIBUTE User-Name 1 string
ATTRIBUTE State 24 octets
ATTRIBUTE Vendor-Specific 26 octets
ATTRIBUTE EAP-Message 79 octets
ATTRIBUTE Message-Authenticator 80 octets
VENDOR Microsoft 311
BEGIN-VENDOR Microsoft
ATTRIBUTE MS-MPPE-Send-Key 16 octets encrypt=2
ATTRIBUTE MS-MPPE-Recv-Key 17 octets encrypt=2
END-VENDOR Microsoft
"""


@dataclass(frozen=True, slots=True)
class EapolResult:
    """How a conversation went, from the peer's side."""

    ok: bool
    """Success, and both sides derived the same MSK."""
    output: str


class EapOverRadius:
    """Carries EAP between `eapol_test` and servers that `make_server` makes, one for each conversation.

    Use as a context manager: it listens on the loopback address while the block runs.
    """

    def __init__(self, make_server: Callable[[], EapServer], credentials: dict[str, NtCredential]) -> None:
        """
        Args:
            make_server: a fresh server.
            credentials: what users sign in with, by identity.
        """
        self._make_server = make_server
        self._credentials = credentials
        self._dictionary = Dictionary(StringIO(_DICTIONARY))
        self._conversations: dict[bytes, EapServer] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="eap over radius")
        self.authenticated: list[Authenticated] = []
        """The verdicts of our side."""
        self.failed: list[Failed] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(TIMEOUT_S)
        self._socket.close()

    def run_peer(self, directory: Path, network: dict[str, str]) -> EapolResult:
        """Run one conversation of `eapol_test`.

        Args:
            directory: for its configuration and certificates.
            network: of its configuration, such as `{"eap": "TLS", ...}`.

        Raises:
            LabError: it did not end in time.
        """
        lines = [f"  {key}={value}\n" for key, value in {"key_mgmt": "WPA-EAP", **network}.items()]
        file = directory / "eapol.conf"
        file.write_text("network={\n" + "".join(lines) + "}\n", encoding="utf-8")
        port = str(self._socket.getsockname()[1])
        command = [
            EAPOL_TEST,
            "-c",
            str(file),
            "-a",
            "127.0.0.1",
            "-p",
            port,
            "-s",
            _SECRET.decode(),
            "-t",
            "10",
            "-r0",
        ]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{EAPOL_TEST} did not end in {TIMEOUT_S} s") from None
        return EapolResult(result.returncode == 0, result.stdout)

    def _serve(self) -> None:
        while True:
            data, sender = self._socket.recvfrom(4096)
            if not data:
                return
            request = AuthPacket(packet=data, secret=_SECRET, dict=self._dictionary)
            self._socket.sendto(self._answer(request), sender)

    def _answer(self, request: Any) -> bytes:
        state = request["State"][0] if "State" in request else os.urandom(16)
        server = self._conversations.get(state)
        if server is None:
            server = self._conversations[state] = self._make_server()
            # The peer's first packet is an identity that nobody asked for yet; ask, and have it said again.
            return self._reply(request, AccessChallenge, server.start(), state)
        step = server.receive(b"".join(request["EAP-Message"]))
        if isinstance(step, NeedCredentials):
            known = self._credentials.get(step.identity)
            step = server.provide_credentials([known] if known else [])
        while isinstance(step, NeedPassword):
            step = server.provide_password(self._check(step))
        return self._conclude(request, server, state, step)

    def _conclude(self, request: Any, server: EapServer, state: bytes, step: Step) -> bytes:
        if isinstance(step, Send):
            return self._reply(request, AccessChallenge, step.packet, state)
        if isinstance(step, Authenticated):
            self.authenticated.append(step)
            return self._reply(request, AccessAccept, server.success(), state, step.msk)
        if isinstance(step, Failed):
            self.failed.append(step)
            return self._reply(request, AccessReject, step.packet, state)
        raise LabError("the EAP server asked for credentials twice")

    def _check(self, question: NeedPassword) -> PasswordVerdict:
        known = self._credentials.get(question.identity)
        if known is None or nt_password_hash(question.password) != known.nt_hash:
            return PasswordWrong()
        return PasswordRight(known.key)

    def _reply(self, request: Any, code: int, eap: bytes, state: bytes, msk: bytes = b"") -> bytes:
        reply = request.CreateReply()
        reply.code = code
        reply["EAP-Message"] = [
            eap[start : start + _ATTRIBUTE_BYTES] for start in range(0, len(eap), _ATTRIBUTE_BYTES)
        ]
        reply["State"] = [state]
        if msk:
            # RFC 2548 section 2.4: what the access point sends with is the second half.
            reply["MS-MPPE-Recv-Key"] = [msk[:_HALF_MSK_BYTES]]
            reply["MS-MPPE-Send-Key"] = [msk[_HALF_MSK_BYTES : 2 * _HALF_MSK_BYTES]]
        reply.add_message_authenticator()
        packet: bytes = reply.ReplyPacket()
        return packet


def tls_network(
    directory: Path, identity: str, credential: Identity, trust_pem: str, *, tls_1_3: bool
) -> dict[str, str]:
    """The configuration of an EAP-TLS peer; writes the files that it names."""
    directory.mkdir(parents=True, exist_ok=True)
    chain = (credential.certificate, *credential.intermediates)
    files = {
        "client_cert": "".join(map(certificate_pem, chain)),
        "private_key": key_pem(credential.key),
        "ca_cert": trust_pem,
    }
    for name, text in files.items():
        (directory / f"{name}.pem").write_text(text, encoding="utf-8")
    return {
        "eap": "TLS",
        "identity": f'"{identity}"',
        "phase1": f'"tls_disable_tlsv1_3={int(not tls_1_3)}"',
        **{name: f'"{directory / name}.pem"' for name in files},
    }
