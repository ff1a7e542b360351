"""An established IKE SA as bytes, and back: for restarts, failover and balance between workers.

The bytes hold keys: whoever stores them encrypts them. Times are kept as seconds from the moment of the
snapshot, for a monotonic clock means nothing to another process. ESP counters belong to the data plane.

In it are keys, suites, SPIs, windows and cached answers, path, NAT and MOBIKE state, what the peer is and can do, the
child SAs that are live, and how long the session may last. Not in it are what belongs to the session (its assignment:
whoever restores an SA sets that), what a ticket would be made of, our exchanges that wait for their turn, and child
SAs that were replaced and wait for their removal. Nothing stores snapshots yet: no process takes over from another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from gateway.ike.child import Child, Wish
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import Encr, Group, Integ, Prf
from gateway.ike.errors import InvalidSyntax
from gateway.ike.exchanges import extensions
from gateway.ike.exchanges.mobike import Mobility
from gateway.ike.exchanges.redirect import Willing
from gateway.ike.keymat import ChildKeys, IkeKeys, child_key_sizes, ike_key_sizes
from gateway.ike.path import Path
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.proposals import ChildSuite, IkeSuite
from gateway.ike.sa import IkeSa, Owner
from gateway.ike.selectors import parse_selectors, selectors_to_bytes
from gateway.ike.states import State
from gateway.ike.timers import Timer
from gateway.ike.window import Answered

VERSION = 5
_SPI_BYTES = 8
_KEY_FIELDS = ("d", "ai", "ar", "ei", "er", "pi", "pr")


class SnapshotError(Exception):
    """The SA is not at a quiet moment, or the bytes are not a snapshot that this version reads."""


def snapshot(sa: IkeSa, now: float) -> bytes:
    """Write an SA.

    Raises:
        SnapshotError: not established, or an exchange is under way.
    """
    if sa.state is not State.ESTABLISHED or sa.keys is None or sa.channel is None:
        raise SnapshotError("the SA is not established")
    if sa.peer.in_progress or sa.peer.has_gap or sa.own.message_id is not None or sa.unfinished:
        raise SnapshotError("an exchange is under way")
    mobility = sa.mobility
    if mobility is not None and mobility.held is not None:
        raise SnapshotError("the peer has not shown yet that it receives where it is")
    suite, session_until = sa.suite, sa.timers.get(Timer.SESSION_END)
    record: dict[str, Any] = {
        "version": VERSION,
        "spi_i": sa.spi_i.hex(),
        "spi_r": sa.spi_r.hex(),
        "suite": [suite.encr, suite.key_bits, suite.integ, suite.prf, suite.group, *suite.additional],
        "keys": [getattr(sa.keys, name).hex() for name in _KEY_FIELDS],
        "path": list(sa.path),
        "nat": [sa.nat_local, sa.nat_remote],
        "fragments": sa.peer_fragments,
        "window": sa.peer.window,
        "mobility": None if mobility is None else [mobility.last_update + 1, *mobility.peer_addresses],
        "redirect": _redirect_record(sa.willing),
        "client": sa.client,
        "peer_identity": sa.peer_identity,
        "peer_next_id": sa.peer.next_id,
        "answered": [
            [message_id, kept.request.hex(), [datagram.hex() for datagram in kept.response]]
            for message_id, kept in sa.peer.answered.items()
        ],
        "own_next_id": sa.own.next_id,
        "quiet_s": now - sa.last_received,
        "session_left_s": None if session_until is None else session_until - now,
        "is_initiator": sa.is_initiator,
        "children": [_child_record(child) for child in sa.children.values() if child.is_live],
    }
    return json.dumps(record, separators=(",", ":")).encode()


def restore(data: bytes, owner: Owner, config: ResponderConfig, random: Callable[[int], bytes], now: float) -> IkeSa:
    """Read an SA that `snapshot` wrote; its liveness is checked soon.

    Raises:
        SnapshotError: not such bytes, or of a version that is not known.
    """
    try:
        record = json.loads(data)
        if record["version"] != VERSION:
            raise SnapshotError(f"snapshot of version {record['version']}, this one reads {VERSION}")
        return _restore(record, owner, config, random, now)
    except (KeyError, TypeError, ValueError, RecursionError, InvalidSyntax) as error:
        raise SnapshotError(f"not a snapshot: {type(error).__name__}") from None


def _restore(
    record: dict[str, Any], owner: Owner, config: ResponderConfig, random: Callable[[int], bytes], now: float
) -> IkeSa:
    encr, key_bits, integ, prf, group, *additional = record["suite"]
    suite = IkeSuite(Encr(encr), key_bits, Integ(integ), Prf(prf), Group(group), tuple(map(Group, additional)))
    local, local_port, remote, remote_port = record["path"]
    spi_i, spi_r = _sized((record["spi_i"], record["spi_r"]), (_SPI_BYTES, _SPI_BYTES))
    sa = IkeSa(
        owner,
        config,
        random,
        spi_i=spi_i,
        spi_r=spi_r,
        suite=suite,
        path=Path(_text(local), _number(local_port), _text(remote), _number(remote_port)),
        is_initiator=bool(record["is_initiator"]),
    )
    sa.peer_fragments = bool(record["fragments"])
    sa.use_keys(IkeKeys(*_sized(record["keys"], ike_key_sizes(suite))))
    sa.nat_local, sa.nat_remote = map(bool, record["nat"])
    extensions.widen_window(sa, _number(record["window"]))
    if record["mobility"] is not None:
        next_update, *addresses = record["mobility"]
        sa.mobility = Mobility(
            tuple(str(ip_address(_text(a))) for a in addresses), last_update=_number(next_update) - 1
        )
    if record["redirect"] is not None:
        sa.willing = Willing(())
        sa.willing.is_willing = True
        if record["redirect"]:
            sa.willing.came_from, _ = GatewayId.parse(bytes.fromhex(record["redirect"]))
    sa.client, sa.peer_identity = _text(record["client"]), _text(record["peer_identity"])
    sa.peer.next_id = _number(record["peer_next_id"])
    for message_id, request, response in record["answered"]:
        datagrams = tuple(bytes.fromhex(datagram) for datagram in response)
        sa.peer.restore_answer(_number(message_id), Answered(bytes.fromhex(request), datagrams))
    sa.own.next_id = _number(record["own_next_id"])
    sa.children = {child.spi_in: child for child in map(_child, record["children"])}
    left_s = record["session_left_s"]
    sa.resume(now - record["quiet_s"], None if left_s is None else now + left_s, now)
    return sa


def _redirect_record(willing: Willing | None) -> str | None:
    """The gateway that sent the peer here, empty where none did; None where it does not understand REDIRECT."""
    if willing is None or not willing.is_willing:
        return None
    return "" if willing.came_from is None else willing.came_from.to_bytes().hex()


def _child_record(child: Child) -> dict[str, Any]:
    keys = child.keys
    return {
        "spi_in": child.spi_in,
        "spi_out": child.spi_out,
        "suite": [child.suite.encr, child.suite.key_bits, child.suite.integ, child.suite.esn],
        "key_exchange": [group for group in (child.suite.group, *child.suite.additional) if group is not None],
        "keys": [key.hex() for key in (keys.encr_i, keys.integ_i, keys.encr_r, keys.integ_r)],
        "local": selectors_to_bytes(child.local_selectors).hex(),
        "remote": selectors_to_bytes(child.remote_selectors).hex(),
        "wish": [selectors_to_bytes(side).hex() for side in child.wish],
        "lineage": child.lineage,
        "initiated": child.initiated,
    }


def _child(record: dict[str, Any]) -> Child:
    encr, key_bits, integ, esn = record["suite"]
    group, *additional = map(Group, record["key_exchange"]) if record["key_exchange"] else (None,)
    remote_wish, local_wish = (parse_selectors(bytes.fromhex(side)) for side in record["wish"])
    suite = ChildSuite(Encr(encr), key_bits, Integ(integ), bool(esn), group, tuple(additional))
    return Child(
        spi_in=_number(record["spi_in"]),
        spi_out=_number(record["spi_out"]),
        suite=suite,
        keys=ChildKeys(*_sized(record["keys"], child_key_sizes(suite))),
        local_selectors=parse_selectors(bytes.fromhex(record["local"])),
        remote_selectors=parse_selectors(bytes.fromhex(record["remote"])),
        lineage=_number(record["lineage"]),
        wish=Wish(remote_wish, local_wish),
        initiated=bool(record["initiated"]),
    )


def _sized(values: Iterable[str], sizes: tuple[int, ...]) -> list[bytes]:
    found = [bytes.fromhex(value) for value in values]
    if tuple(map(len, found)) != sizes:
        raise ValueError("a key or SPI of the wrong size")
    return found


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ValueError("a number that is none")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text that is none")
    return value
