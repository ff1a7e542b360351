"""A gateway as far as the console can tell: registered, with sessions, answering Disconnect-Requests.

The answering part is the gateway's own (`gateway.control.disconnect`); the tunnels are rows that
`aaa.accounting` wrote, as the gateway would have it written. Whole gateways with real clients are in `tests/interop`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from aaa import accounting
from aaa.dynamic_authorization import control_secret_name
from aaa.interface import Access, GatewayHello, SessionStart, SessionUsage, TerminateCause
from core.clock import utc_now
from core.runtime import Runtime
from core.secrets import get_or_create_secret
from gateway.control.disconnect import DisconnectServer, SessionSelector
from posture.models import Device


@dataclass
class StandingGateway:
    """Its sessions, by id, with the device that each belongs to."""

    runtime: Runtime
    name: str
    sessions: dict[str, str] = field(default_factory=dict)

    def connect(self, device: Device, *, host: int = 2, method: str = "eap-mschapv2") -> str:
        """Open a session of a device; returns its id."""
        access = Access(
            device.owner,
            device.id,
            device.name,
            method,
            "trusted-devices",
            "device is trusted",
            None,
            (),
            (),
            3600.0,
            60.0,
        )
        session_id = str(uuid.uuid4())
        start = SessionStart(
            session_id,
            access,
            self.name,
            f"198.51.100.{host}:4500",
            "strongSwan",
            f"10.99.0.{host}",
            f"fd99:5e1:a57e::{host:x}",
            "AES_GCM_16_256 / PRF_HMAC_SHA2_256 / CURVE_25519",
            "AES_GCM_16_256",
        )
        with self.runtime.database.transaction() as session:
            accounting.open_sessions(session.connection(), [start], utc_now())
        self.sessions[session_id] = device.id
        self.report(session_id, bytes_in=48_211_904, bytes_out=1_310_720_000)
        return session_id

    def report(self, session_id: str, *, bytes_in: int, bytes_out: int) -> None:
        """Interim accounting."""
        usage = SessionUsage(session_id, bytes_in, bytes_out, bytes_in // 700, bytes_out // 1100, "198.51.100.2:4500")
        with self.runtime.database.transaction() as session:
            accounting.update_sessions(session.connection(), [(usage, utc_now())])

    def end(self, selector: SessionSelector) -> int:
        """What the answering part calls: end the sessions that are meant."""
        ended = [
            session_id
            for session_id, device_id in self.sessions.items()
            if selector.session_id in (None, session_id) and selector.chargeable_identity in (None, device_id)
        ]
        stops = [
            (
                SessionUsage(session_id, 50_000_000, 1_400_000_000, 71_000, 1_270_000, "198.51.100.2:4500"),
                TerminateCause.ADMIN_RESET,
                utc_now(),
            )
            for session_id in ended
        ]
        with self.runtime.database.transaction() as session:
            accounting.close_sessions(session.connection(), stops)
        for session_id in ended:
            del self.sessions[session_id]
        return len(ended)


@contextlib.contextmanager
def standing_gateway(runtime: Runtime, name: str = "gateway-1") -> Iterator[StandingGateway]:
    """A gateway that is registered and answers, until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        control.bind(("127.0.0.1", 0))
        control.settimeout(0.1)
        with runtime.database.transaction() as session:
            accounting.gateway_started(
                session, GatewayHello(name, "127.0.0.1", control.getsockname()[1], "userspace")
            )
            secret = get_or_create_secret(session, runtime.box, control_secret_name(name))
        gateway = StandingGateway(runtime, name)
        server = DisconnectServer(name, secret.reveal(), gateway.end)
        stop = threading.Event()
        thread = threading.Thread(target=_answer, args=(control, server, stop))
        thread.start()
        try:
            yield gateway
        finally:
            stop.set()
            thread.join()


def _answer(control: socket.socket, server: DisconnectServer, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            data, source = control.recvfrom(4096)
        except TimeoutError:
            continue
        answer = server.receive_datagram(data, time.time())
        if answer is not None:
            control.sendto(answer, source)
