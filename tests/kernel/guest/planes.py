"""Kernel data planes without IKE: a gateway's and a client's, whose child SA has fixed keys, and packets between.

    client ── 198.51.100.2, .3, 2001:db8:2::2, ::3 ── 198.51.100.1, .9, 2001:db8:2::1, ::9 ── gateway ── inside
    10.99.0.2, fd99::2                                      10.99.0.1, fd99::1 │ 10.1.0.1  10.1.0.10
                                                                               │ fd01::1   fd01::10

The gateway's plane is opened as the gateway opens it, with the device to the clients. The client has one without:
its inner addresses are on its loopback device, and its policies alone decide.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import Any, Self

from core.settings import GatewaySettings, PoolSettings
from gateway.dataplane.choose import pool_networks
from gateway.dataplane.interface import (
    Address,
    ChildSa,
    Counters,
    Endpoints,
    EspCipher,
    EspIntegrity,
    EspKeys,
    EspLifetime,
    EspSuite,
)
from gateway.dataplane.links import LinkSettings
from gateway.dataplane.xfrm.lineages import Reqids
from gateway.dataplane.xfrm.opening import open_kernel_plane
from gateway.dataplane.xfrm.plane import KernelPlane
from gateway.dataplane.xfrm.socket_options import bypass_policies, decapsulate_in_kernel
from gateway.dataplane.xfrm.sockets import XfrmEvents, XfrmSocket
from gateway.ike.selectors import TrafficSelector
from tests.lab.namespaces import Lab, Namespace, default_route, link

GCM = EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False)
ESN = replace(GCM, key_bits=256, esn=True)
CLIENT_INNER, CLIENT_INNER_6 = "10.99.0.2", "fd99::2"
SERVER, SERVER_6 = "10.1.0.10", "fd01::10"
GATEWAY_OWN, GATEWAY_OWN_6 = "10.99.0.1", "fd99::1"
GATEWAY, GATEWAY_OTHER = "198.51.100.1", "198.51.100.9"
GATEWAY_6, GATEWAY_OTHER_6 = "2001:db8:2::1", "2001:db8:2::9"
CLIENT, CLIENT_OTHER = "198.51.100.2", "198.51.100.3"
CLIENT_6, CLIENT_OTHER_6 = "2001:db8:2::2", "2001:db8:2::3"
NATT_PORT = 4500
ECHO_PORT = 7
GATEWAY_SPI, CLIENT_SPI = 0xC0DE0001, 0xC11E0001
CLIENTS_ID = 7
"""The `xfrm_id` of the client's plane."""
_MAC_BYTES = {
    EspIntegrity.HMAC_SHA1_96: 20,
    EspIntegrity.HMAC_SHA2_256_128: 32,
    EspIntegrity.HMAC_SHA2_384_192: 48,
    EspIntegrity.HMAC_SHA2_512_256: 64,
}
_payloads = (f"datagram {number}".encode() for number in itertools.count())
_ANSWER_S = 1.0
_SILENCE_S = 0.1


class Timer:
    """A call that is to come."""

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due, self.callback = due, callback

    def cancel(self) -> None:
        """It shall not."""
        self.callback = lambda: None


class Loop:
    """An event loop that runs while a test waits."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        """See `asyncio.AbstractEventLoop`."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def remove_reader(self, fd: int, /) -> bool:
        """See `asyncio.AbstractEventLoop`."""
        self._selector.unregister(fd)
        return True

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """See `asyncio.AbstractEventLoop`."""
        timer = Timer(time.monotonic() + delay, callback)
        self._timers.append(timer)
        return timer

    def run(self, seconds: float = 0.0, until: Callable[[], object] | None = None) -> None:
        """Serve for so long, or until this is true; once at least."""
        deadline = time.monotonic() + seconds
        while True:
            for key, _ in self._selector.select(0.01):
                key.data()
            for timer in [timer for timer in self._timers if timer.due <= time.monotonic()]:
                self._timers.remove(timer)
                timer.callback()
            if time.monotonic() >= deadline or (until is not None and until()):
                return


@dataclass
class Told:
    """What a plane told."""

    moves: list[tuple[int, str, int]] = field(default_factory=list)
    ends: list[tuple[int, str]] = field(default_factory=list)

    def remote_moved(self, spi_in: int, remote: Address, remote_port: int) -> None:
        """See `DataPlaneEvents`."""
        self.moves.append((spi_in, str(remote), remote_port))

    def expired(self, spi_in: int, *, hard: bool) -> None:
        """See `DataPlaneEvents`."""
        self.ends.append((spi_in, "hard" if hard else "soft"))


@dataclass(frozen=True, slots=True)
class Road:
    """The namespaces of the picture above."""

    client: Namespace
    gateway: Namespace
    inside: Namespace


@cache
def build_road(lab: Lab) -> Road:
    """Build the picture above, without the planes; once for a lab."""
    client, gateway, inside = (
        lab.namespace("roamer"),
        lab.namespace("plane", forwarding=True),
        lab.namespace("server"),
    )
    link(
        client,
        gateway,
        names=("eth0", "outside"),
        first_addresses=(f"{CLIENT}/24", f"{CLIENT_OTHER}/24", f"{CLIENT_6}/64", f"{CLIENT_OTHER_6}/64"),
        second_addresses=(f"{GATEWAY}/24", f"{GATEWAY_OTHER}/24", f"{GATEWAY_6}/64", f"{GATEWAY_OTHER_6}/64"),
    )
    link(
        gateway,
        inside,
        names=("inside", "eth0"),
        first_addresses=("10.1.0.1/24", "fd01::1/64"),
        second_addresses=(f"{SERVER}/24", f"{SERVER_6}/64"),
    )
    default_route(inside, "10.1.0.1", "fd01::1")
    client.ip("address", "add", f"{CLIENT_INNER}/32", "dev", "lo")
    client.ip("address", "add", f"{CLIENT_INNER_6}/128", "dev", "lo", "nodad")
    for network in ("10.1.0.0/16", "10.99.0.0/24"):
        client.ip("route", "add", network, "via", GATEWAY, "src", CLIENT_INNER)
    for network in ("fd01::/32", "fd99::/64"):
        client.ip("-6", "route", "add", network, "via", GATEWAY_6, "src", CLIENT_INNER_6)
    # Another network behind the gateway, to be told from the first one.
    inside.ip("address", "add", "10.1.7.10/24", "dev", "lo")
    gateway.ip("route", "add", "10.1.7.0/24", "via", SERVER)
    return Road(client, gateway, inside)


def selectors_of(
    *networks: str, protocol: int = 0, ports: tuple[int, int] = (0, 65_535)
) -> tuple[TrafficSelector, ...]:
    """Traffic selectors of networks, all alike in protocol and ports."""
    return tuple(
        replace(
            TrafficSelector.from_network(ip_network(network)),
            protocol=protocol,
            start_port=ports[0],
            end_port=ports[1],
        )
        for network in networks
    )


def child_sa(
    suite: EspSuite = GCM, *, number: int = 0, version: int = 4, udp: bool = True, **changes: Any
) -> ChildSa:
    """The gateway's half of a child SA; those with different numbers have different SPIs and keys."""
    salt = 0 if suite.cipher is EspCipher.AES_CBC else 4
    first, second = (
        EspKeys(
            bytes([fill + number]) * (suite.key_bits // 8 + salt), bytes([fill]) * _MAC_BYTES.get(suite.integrity, 0)
        )
        for fill in (10, 100)
    )
    port = NATT_PORT if udp else 0
    local, remote = (GATEWAY, CLIENT) if version == 4 else (GATEWAY_6, CLIENT_6)
    fields: dict[str, Any] = {
        "spi_in": GATEWAY_SPI + number,
        "spi_out": CLIENT_SPI + number,
        "suite": suite,
        "keys_in": first,
        "keys_out": second,
        "endpoints": Endpoints(ip_address(local), port, ip_address(remote), port, udp),
        "local_selectors": selectors_of("10.1.0.0/16", "10.99.0.1/32", "fd01::/64", "fd99::1/128"),
        "remote_selectors": selectors_of(f"{CLIENT_INNER}/32", f"{CLIENT_INNER_6}/128"),
        "replay_window_packets": 128,
        "lineage": 1,
        "lifetime": EspLifetime(),
    }
    return ChildSa(**{**fields, **changes})


def reversed_endpoints(ends: Endpoints) -> Endpoints:
    """The same as the other end has them."""
    return Endpoints(ends.remote, ends.remote_port, ends.local, ends.local_port, ends.udp_encapsulation)


def other_half(child: ChildSa) -> ChildSa:
    """The same child SA as the client has it; its lifetime is not limited."""
    return replace(
        child,
        spi_in=child.spi_out,
        spi_out=child.spi_in,
        keys_in=child.keys_out,
        keys_out=child.keys_in,
        endpoints=reversed_endpoints(child.endpoints),
        local_selectors=child.remote_selectors,
        remote_selectors=child.local_selectors,
        lifetime=EspLifetime(),
    )


class Planes:
    """Both planes, opened, in a `with` block."""

    def __init__(self, road: Road, *, xfrm_interface: str = "auto") -> None:
        self.road = road
        self.loop = Loop()
        self.told, self.client_told = Told(), Told()
        self.settings = GatewaySettings.model_validate(
            {
                "xfrm_interface": xfrm_interface,
                "link_name": "vpn0",
                "pools": [PoolSettings.model_validate({"name": "p", "ipv4": "10.99.0.0/24", "ipv6": "fd99::/64"})],
            }
        )
        self._stack = contextlib.ExitStack()
        self._paths: dict[tuple[str, int], Path] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.gateway = self.road.gateway.call(self.open_gateway)
            stack.callback(self.road.gateway.call, self.gateway.close)
            self.client = self.road.client.call(self._open_client)
            stack.callback(self.client.close)
            for namespace in (self.road.gateway, self.road.client):
                for family in (socket.AF_INET, socket.AF_INET6):
                    stack.enter_context(self.natt_socket(namespace, family))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def open_gateway(self) -> KernelPlane:
        """The gateway's plane, as `ostiary gateway` opens it; in a thread of the gateway's namespace."""
        device = LinkSettings(self.settings.link_name, 1400, pool_networks(self.settings))
        return open_kernel_plane(self.loop, self.settings, device, self.told, "for a test")

    def _open_client(self) -> KernelPlane:
        xfrm, heard = XfrmSocket(), XfrmEvents()

        def release() -> None:
            heard.close()
            xfrm.close()

        return KernelPlane(self.loop, xfrm, heard, self.client_told, Reqids(CLIENTS_ID), if_id=0, release=release)

    @staticmethod
    def natt_socket(namespace: Namespace, family: int, port: int = NATT_PORT) -> socket.socket:
        """A socket that takes ESP in UDP, as the gateway's does."""

        def make() -> socket.socket:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("", port))
            bypass_policies(sock)
            decapsulate_in_kernel(sock)
            return sock

        return namespace.call(make)

    def install(self, child: ChildSa) -> None:
        """On both ends."""
        self.gateway.install(child)
        self.client.install(other_half(child))

    def counters(self, child: ChildSa) -> Counters:
        """The gateway's."""
        counters = self.gateway.counters(child.spi_in)
        assert counters is not None
        return counters

    # --- Packets --------------------------------------------------------------------------------------------

    def udp(self, namespace: Namespace, address: str, port: int = 0) -> socket.socket:
        """A socket for datagrams of one inner address."""

        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, port))
            return sock

        return self._stack.enter_context(namespace.call(make))

    def path(self, server: str = SERVER, *, port: int = ECHO_PORT) -> Path:
        """Two sockets, a client's and one on a host behind the gateway, or on the gateway itself."""
        path = self._paths.get((server, port))
        if path is None:
            far = self.road.gateway if server in (GATEWAY_OWN, GATEWAY_OWN_6) else self.road.inside
            near = self.udp(self.road.client, CLIENT_INNER_6 if ":" in server else CLIENT_INNER)
            path = self._paths[server, port] = Path(near, self.udp(far, server, port))
        return path


@dataclass
class Path:
    """A socket at each end of the tunnel."""

    near: socket.socket
    far: socket.socket

    def up(self, payload: bytes = b"", wait_s: float = _SILENCE_S) -> bool:
        """Whether a datagram of the client arrives."""
        payload = payload or next(_payloads)
        self.near.sendto(payload, self.far.getsockname()[:2])
        return self._arrives(self.far, payload, wait_s)

    def down(self, payload: bytes = b"", wait_s: float = _SILENCE_S) -> bool:
        """Whether a datagram to the client arrives."""
        payload = payload or next(_payloads)
        try:
            self.far.sendto(payload, self.near.getsockname()[:2])
        except OSError:
            return False
        return self._arrives(self.near, payload, wait_s)

    def carries(self, payload: bytes = b"") -> bool:
        """Whether datagrams pass in both directions."""
        return self.up(payload, _ANSWER_S) and self.down(payload, _ANSWER_S)

    @staticmethod
    def _arrives(sock: socket.socket, payload: bytes, wait_s: float) -> bool:
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            with contextlib.suppress(TimeoutError):
                # What an earlier call gave up is passed over.
                if sock.recv(65_535) == payload:
                    return True
        return False


@contextlib.contextmanager
def other_owner(namespace: Namespace) -> Iterator[XfrmSocket]:
    """The netlink socket of another program, for what such a one might do."""
    with namespace.call(XfrmSocket) as xfrm:
        yield xfrm
