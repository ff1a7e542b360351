"""What the kernel of a namespace knows of IPsec: its security associations with their counters, and its policies."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from tests.lab.namespaces import Namespace

_STATE = re.compile(
    r"^src (?P<source>\S+) dst (?P<destination>\S+)\n\tproto esp spi (?P<spi>0x[0-9a-f]+)\S* reqid (?P<reqid>\d+)",
    re.MULTILINE,
)
_CURRENT = re.compile(r"lifetime current:\s+(\d+)\(bytes\), (\d+)\(packets\)")
_ALGORITHM = re.compile(r"^\t(?:aead|enc) (\S+)", re.MULTILINE)
_ENCAPSULATION = re.compile(r"^\tencap type espinudp sport (\d+) dport (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KernelSa:
    """One direction of a child SA."""

    source: str
    destination: str
    spi: int
    reqid: int
    packets: int
    inner_bytes: int
    algorithm: str
    """The kernel's name of the encryption."""
    extended_sequence_numbers: bool
    udp_ports: tuple[int, int] | None
    """Of the encapsulation, source and destination."""


def kernel_sas(namespace: Namespace) -> list[KernelSa]:
    """Its ESP associations."""
    text = namespace.ip("-s", "xfrm", "state")
    starts = [*(found.start() for found in _STATE.finditer(text)), len(text)]
    return [_sa(text[start:end]) for start, end in itertools.pairwise(starts)]


def packets_to(namespace: Namespace, address: str) -> int:
    """How many ESP packets its associations towards this address have carried."""
    return sum(sa.packets for sa in kernel_sas(namespace) if sa.destination == address)


def policies(namespace: Namespace) -> list[str]:
    """Its policies, one text each, sorted; those of sockets, which end with the socket, are left out."""
    text = namespace.ip("xfrm", "policy")
    return [
        policy for policy in re.split(r"^(?=src )", text, flags=re.MULTILINE) if policy and "socket " not in policy
    ]


def _sa(text: str) -> KernelSa:
    state, current, algorithm = _STATE.search(text), _CURRENT.search(text), _ALGORITHM.search(text)
    assert state
    assert current
    assert algorithm
    encapsulation = _ENCAPSULATION.search(text)
    return KernelSa(
        source=state["source"],
        destination=state["destination"],
        spi=int(state["spi"], 16),
        reqid=int(state["reqid"]),
        packets=int(current[2]),
        inner_bytes=int(current[1]),
        algorithm=algorithm[1],
        extended_sequence_numbers=re.search(r"^\t.*flag.*\besn\b", text, re.MULTILINE) is not None,
        udp_ports=(int(encapsulation[1]), int(encapsulation[2])) if encapsulation else None,
    )
