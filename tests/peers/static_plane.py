"""`python -m tests.peers.static_plane JSON`: one end of a child SA with fixed keys; no IKE, the product's data plane.

Prints `ready`, and its counters as JSON on SIGUSR1 and at the end, after SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from gateway.dataplane.interface import Address, ChildSa, Endpoints, EspCipher, EspIntegrity, EspKeys, EspSuite
from gateway.dataplane.links import LinkSettings
from gateway.dataplane.userspace.plane import UserspacePlane
from gateway.dataplane.userspace.tun import TunDevice
from gateway.ike.selectors import TrafficSelector
from gateway.transport import Transport

PORT = 4500
TUN = "static0"
_MAC_BYTES = {
    "NONE": 0,
    "HMAC_SHA1_96": 20,
    "HMAC_SHA2_256_128": 32,
    "HMAC_SHA2_384_192": 48,
    "HMAC_SHA2_512_256": 64,
}


@dataclass(frozen=True)
class StaticPlane:
    """What one end needs to know. The other end has `local` and `remote` of all kinds exchanged."""

    initiator: bool
    """Which of the two keys and SPIs is whose."""
    local: str
    remote: str
    pools: tuple[str, ...]
    """Routed to the TUN device, whose own addresses are the first of each."""
    local_networks: tuple[str, ...]
    remote_networks: tuple[str, ...]
    cipher: str = "AES_GCM_16"
    key_bits: int = 128
    integrity: str = "NONE"
    esn: bool = False
    udp_encapsulation: bool = True
    mtu_bytes: int = 1400

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StaticPlane:
        """From the command line."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()
        }
        return cls(**fields)

    def child_sa(self) -> ChildSa:
        """Keys and SPIs follow from who is who."""
        suite = EspSuite(EspCipher[self.cipher], self.key_bits, EspIntegrity[self.integrity], self.esn)
        key_bytes = self.key_bits // 8 + (0 if suite.cipher is EspCipher.AES_CBC else 4)
        both = [
            (0x10000000 + number, EspKeys(bytes([number]) * key_bytes, bytes([number]) * _MAC_BYTES[self.integrity]))
            for number in (1, 2)
        ]
        (spi_in, keys_in), (spi_out, keys_out) = both if self.initiator else reversed(both)
        port = PORT if self.udp_encapsulation else 0
        endpoints = Endpoints(ip_address(self.local), port, ip_address(self.remote), port, self.udp_encapsulation)
        return ChildSa(
            spi_in,
            spi_out,
            suite,
            keys_in,
            keys_out,
            endpoints,
            tuple(TrafficSelector.from_network(ip_network(network)) for network in self.local_networks),
            tuple(TrafficSelector.from_network(ip_network(network)) for network in self.remote_networks),
            1024,
            1,
        )


class PrintedEvents:
    """What the plane tells, on standard output."""

    def remote_moved(self, spi_in: int, remote: Address, remote_port: int) -> None:
        """See `DataPlaneEvents`."""
        print(f"moved {remote} {remote_port}", flush=True)

    def expired(self, spi_in: int, *, hard: bool) -> None:
        """See `DataPlaneEvents`."""
        print("hard lifetime over" if hard else "soft lifetime over", flush=True)


async def serve(settings: StaticPlane) -> None:
    """Carry packets until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    transport = Transport(loop, (ip_address("0.0.0.0"), ip_address("::")), 500, PORT)
    device = TunDevice.open(LinkSettings(TUN, settings.mtu_bytes, tuple(map(ip_network, settings.pools))))
    plane = UserspacePlane(loop, device, transport.open_esp(), PrintedEvents())
    transport.deliver_esp(plane)
    child = settings.child_sa()
    plane.install(child)

    def report() -> None:
        counters = plane.counters(child.spi_in)
        assert counters is not None
        print(json.dumps({**asdict(counters), **plane.statistics()}), flush=True)

    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, report)
    transport.start(lambda data, path: print(f"ike {data.hex()} {path}", flush=True))
    print("ready", flush=True)
    await stopping.wait()
    report()
    transport.close()
    plane.close()


if __name__ == "__main__":
    asyncio.run(serve(StaticPlane.from_json(sys.argv[1])))
