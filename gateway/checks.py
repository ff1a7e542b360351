"""What `ostiary check` says about the gateway: ESP, TUN, permissions, ports, forwarding."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address

from core.checks import Check
from core.errors import OstiaryError
from core.settings import GatewaySettings, Settings
from gateway.client_checks import tunnel_checks
from gateway.dataplane.choose import pool_networks, site_networks
from gateway.dataplane.kernel_esp import KernelEsp, kernel_esp
from gateway.dataplane.links import forwarding_enabled
from gateway.ike.policy import POLICIES
from gateway.shared_keys import load_ppks, load_site_peers

_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_NET_RAW = 10, 12, 13
_TUN_DEVICE = "/dev/net/tun"


def checks(settings: Settings) -> list[Check]:
    """All findings; nothing is changed, and sockets are closed again."""
    gateway = settings.gateway
    kernel = kernel_esp()
    in_kernel = kernel.available and gateway.data_plane != "userspace"
    return [
        proposal_policy(gateway),
        data_plane(gateway, kernel),
        *([] if in_kernel else [_tun()]),
        capabilities(_effective_capabilities(), in_kernel=in_kernel),
        *(_port(address, port) for address in gateway.listen for port in (gateway.ike_port, gateway.natt_port)),
        _control_port(gateway),
        _forwarding(gateway),
        *shared_keys(gateway),
        *tunnel_checks(settings),
    ]


def proposal_policy(settings: GatewaySettings) -> Check:
    """The weaknesses of the policy that was chosen."""
    name, policy = "gateway: proposal policy", POLICIES[settings.proposal_policy]
    if policy.weaknesses:
        fix = 'set gateway.proposal_policy to "modern" when no such client is left'
        return Check(name, None, f"{policy.name}: {'; '.join(policy.weaknesses)}", fix)
    return Check(name, True, policy.name)


def data_plane(settings: GatewaySettings, kernel: KernelEsp) -> Check:
    """Which data plane the gateway would take, and what it can't do."""
    name = "gateway: data plane"
    if settings.data_plane == "userspace":
        return Check(name, True, "userspace, ESP in Python (the settings say so)")
    if not kernel.available:
        if settings.data_plane == "kernel":
            return Check(name, False, f"the settings ask for the kernel's ESP, but {kernel.reason}", kernel.fix)
        return Check(name, True, f"userspace, ESP in Python ({kernel.reason})")
    if kernel.missing:
        fix = "load the kernel's modules for them, or see that no client needs them"
        return Check(name, None, f"kernel, which lacks {', '.join(kernel.missing)}", fix)
    return Check(name, True, f"kernel ({kernel.reason})")


def _tun() -> Check:
    name = "gateway: TUN device"
    try:
        os.close(os.open(_TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        fix = "modprobe tun; in a container, pass the device in (--device /dev/net/tun)"
        return Check(name, False, f"{_TUN_DEVICE}: {error.strerror}", fix)
    return Check(name, True, f"{_TUN_DEVICE} can be opened")


def capabilities(held: int, *, in_kernel: bool) -> Check:
    """Whether the process may do what the gateway has to.

    Args:
        held: effective capabilities, one bit each.
        in_kernel: ESP is the kernel's, so that no socket has to carry it.
    """
    name = "gateway: permissions"
    wanted = {
        "CAP_NET_ADMIN": _CAP_NET_ADMIN,
        "CAP_NET_BIND_SERVICE": _CAP_NET_BIND_SERVICE,
    }
    missing = [capability for capability, bit in wanted.items() if not held >> bit & 1]
    if missing:
        fix = f"run as root, or with AmbientCapabilities={' '.join(wanted)}{'' if in_kernel else ' CAP_NET_RAW'}"
        return Check(name, False, f"missing {' and '.join(missing)}", fix)
    if in_kernel:
        return Check(name, True, "CAP_NET_ADMIN and CAP_NET_BIND_SERVICE are held")
    if not held >> _CAP_NET_RAW & 1:
        fix = "add CAP_NET_RAW; without it only clients behind a NAT, or that force UDP, can send ESP"
        return Check(name, None, "plain ESP is off: no CAP_NET_RAW", fix)
    return Check(name, True, "CAP_NET_ADMIN, CAP_NET_BIND_SERVICE and CAP_NET_RAW are held")


def _effective_capabilities() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _port(address: IPv4Address | IPv6Address, port: int) -> Check:
    problem = _bind_problem(address, port)
    name = f"gateway: UDP {address} port {port}"
    if problem is None:
        return Check(name, True, "free")
    if problem == "Address already in use":
        fix = "fine if the gateway runs; else stop what holds it (`ss -ulpn` shows it)"
        return Check(name, None, "in use", fix)
    return Check(name, False, problem, "set gateway.listen to addresses of this machine, and the ports")


def _control_port(settings: GatewaySettings) -> Check:
    problem = _bind_problem(settings.control_address, settings.control_port)
    name = f"gateway: control on UDP {settings.control_address} port {settings.control_port}"
    if problem is None:
        return Check(name, True, "free")
    if problem == "Address already in use":
        return Check(name, None, "in use", "fine if the gateway runs; else stop what holds it")
    return Check(name, False, problem, "set gateway.control_address and gateway.control_port")


def _bind_problem(address: IPv4Address | IPv6Address, port: int) -> str | None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if address.version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(address), port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _forwarding(settings: GatewaySettings) -> Check:
    name = "gateway: IP forwarding"
    on4, on6 = forwarding_enabled()
    versions = {network.version for network in pool_networks(settings) + site_networks(settings)}
    wanted = {
        "net.ipv4.ip_forward": on4 or 4 not in versions,
        "net.ipv6.conf.all.forwarding": on6 or 6 not in versions,
    }
    off = [key for key, on in wanted.items() if not on]
    if off:
        fix = "; ".join(f"sysctl -w {key}=1" for key in off) + " (and in /etc/sysctl.d to keep it)"
        return Check(name, None, "clients reach the gateway itself, but no network behind it", fix)
    return Check(name, True, "on")


def shared_keys(settings: GatewaySettings) -> list[Check]:
    """Whether the keys that are shared beforehand can be read, and would keep anybody out; nothing where none are."""
    found = []
    for name, owners, load in (
        ("gateway: keys of sites", settings.site_peers, load_site_peers),
        ("gateway: post-quantum keys", settings.ppks, load_ppks),
    ):
        if not owners:
            continue
        try:
            load(settings)
        except OstiaryError as error:
            found.append(Check(name, False, error.message, error.fix or ""))
        else:
            found.append(Check(name, True, ", ".join(owner.name for owner in owners)))
    return found
