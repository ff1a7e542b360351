"""The control socket itself: what a flood of forged Disconnect-Requests leaves in the log."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address

import pytest
from structlog.testing import capture_logs

from gateway.control.dynamic_authorization import DynamicAuthorizationServer
from gateway.control.listener import COMPLAINTS_BURST, ControlListener

pytestmark = pytest.mark.interop


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_flood_of_forged_requests_does_not_flood_the_log() -> None:
    async def flood(port: int) -> int:
        server = DynamicAuthorizationServer("gateway-1", b"secret", lambda _selector: 0, lambda _selector, _change: 0)
        listener = ControlListener(asyncio.get_running_loop(), IPv4Address("127.0.0.1"), port, server)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for number in range(200):
                    sender.sendto(b"\x28" + bytes(40), ("127.0.0.1", port))
                    if number % 20 == 0:
                        await asyncio.sleep(0.005)
            async with asyncio.timeout(10):
                while server.dropped < 200:
                    await asyncio.sleep(0.01)
        finally:
            listener.close()
        return server.dropped

    with capture_logs() as lines:
        assert asyncio.run(flood(_free_port())) == 200
    refused = [line for line in lines if line["event"].startswith("Disconnect-Request refused")]
    assert COMPLAINTS_BURST <= len(refused) <= COMPLAINTS_BURST + 2
