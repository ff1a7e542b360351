"""What a client is to be told, whichever client it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from aaa.decision import Context, DeviceIdentity, Posture, Rule, Subject, decide
from aaa.interface import Network
from aaa.models import User
from core.settings import Settings
from core.settings.values import EVERYTHING
from posture.models import Device

CONNECTION = "Ostiary"
"""What the connection is called on the device."""

# In the order in which one of them is likely to be what the device will sign in with.
_METHODS = ("eap-mschapv2", "eap-tls", "certificate", "eap-ttls", "eap-peap")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client connects, as whom, and what it will reach."""

    identity: str
    """The gateway's name, which its certificate carries."""
    host: str
    """Where packets go: an address where one is known, else the name."""
    user_name: str
    networks: tuple[Network, ...] = EVERYTHING
    """For clients that do not learn their routes from the gateway."""

    @property
    def is_full_tunnel(self) -> bool:
        """Whether all IPv4 traffic goes into the tunnel; what becomes of IPv6, `networks` say."""
        return any(network.version == 4 and network.prefixlen == 0 for network in self.networks)


def target_for(session: Session, settings: Settings, device: Device) -> Target:
    """What this device's client is to be told, as the rules are now.

    Rules may give the device other networks with one way to sign in than with another; those of the first way that
    they allow are taken, and those of the gateway where they allow none.
    """
    gateway = settings.gateway
    addresses: Sequence[object] = gateway.public_addresses
    owner = session.get(User, device.owner)
    networks = gateway.networks
    if owner is not None:
        subject = Subject(owner.name, tuple(owner.groups), owner.disabled)
        rules = [Rule.from_settings(rule) for rule in settings.aaa.rules]
        machine = DeviceIdentity(device.id, device.name, device.owner)
        for method in _METHODS:
            decision = decide(subject, machine, Posture("trusted"), Context(method, gateway.name), rules)
            if decision.allowed:
                networks = decision.networks or gateway.networks
                break
    return Target(
        identity=gateway.identity,
        host=str(addresses[0]) if addresses else gateway.identity,
        user_name=device.owner,
        networks=networks,
    )
