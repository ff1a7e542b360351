"""What in the kernel is this gateway's: how that is told, and what a gateway that was killed has left behind.

Every state and policy has a reqid whose first octet is `gateway.xfrm_id`; the policies of last resort, which have no
reqid, have it in their priority. What has neither belongs to another program, and is never touched. That no living
gateway has the same number is made sure by a socket with a name in the network namespace, which the kernel takes away
with the process that holds it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from core.errors import OstiaryError
from gateway.dataplane.links import LinkSettings, gateway_address
from gateway.dataplane.xfrm.explain import explain, explain_policy
from gateway.dataplane.xfrm.lineages import Reqids
from gateway.dataplane.xfrm.policies import PolicyKey, last_resort_policy
from gateway.dataplane.xfrm.selectors import Selector
from gateway.dataplane.xfrm.sockets import Request, XfrmSocket
from gateway.dataplane.xfrm.structures import Action, Command, Direction

_GONE = (0, errno.ESRCH, errno.ENOENT)


class AlreadyOwned(OstiaryError):
    """Another gateway lives in this network namespace, with the same number."""


class Ownership:
    """Held from `claim` to `close`, or the end of the process."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def claim(cls, xfrm_id: int) -> Ownership:
        """Take the number.

        Raises:
            AlreadyOwned: a living process has it.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.bind(f"\0ostiary-xfrm-{xfrm_id}")
        except OSError as error:
            sock.close()
            raise AlreadyOwned(
                f"another gateway on this machine has gateway.xfrm_id = {xfrm_id}",
                fix="stop it, or give this one another gateway.xfrm_id",
            ) from error
        return cls(sock)

    def close(self) -> None:
        """Give it back."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What was found and removed."""

    states: int
    policies: int


def remove_leftovers(xfrm: XfrmSocket, reqids: Reqids) -> Leftovers:
    """Remove every state and policy with a reqid of ours; call it while none of them is in use.

    The policies of last resort go last: packets of clients are not let through in the clear in between.

    Raises:
        KernelSilent: no answer.
    """
    states = [state.id for state in xfrm.dump_states() if state.is_esp and state.reqid in reqids]
    found = xfrm.dump_policies()
    policies = [policy for policy in found if policy.reqids and all(reqid in reqids for reqid in policy.reqids)]
    policies += [policy for policy in found if policy.is_last_resort(reqids.xfrm_id)]
    requests: list[Request] = [(Command.DELSA, one.to_bytes()) for one in states]
    requests += [(Command.DELPOLICY, policy.delete()) for policy in policies]
    gone = [verdict.code in _GONE for verdict in xfrm.execute(requests)]
    return Leftovers(sum(gone[: len(states)]), sum(gone[len(states) :]))


def guard(xfrm: XfrmSocket, reqids: Reqids, link: LinkSettings, *, through_interface: bool) -> None:
    """Let no packet of pools and sites pass in the clear: neither from an address of theirs without ESP, nor to one.

    Args:
        link: what is routed to clients and sites.
        through_interface: packets to clients are routed to an XFRM interface, which sends none in the clear.

    Raises:
        OstiaryError: it can't.
        KernelSilent: no answer.
    """
    requests: list[Request] = [
        (Command.NEWPOLICY, last_resort_policy(key, action, reqids.xfrm_id))
        for key, action in _guards(link, through_interface)
    ]
    for verdict in xfrm.execute(requests):
        if verdict.code:
            reason = explain_policy(verdict) if verdict.code == errno.EEXIST else explain(verdict, "a policy")
            raise OstiaryError(
                f"the kernel's ESP can't be used for the address pools: {reason}",
                fix='see `ip xfrm policy`, and set gateway.data_plane = "userspace" where that program has to stay',
            )


def _guards(link: LinkSettings, through_interface: bool) -> Iterable[tuple[PolicyKey, Action]]:
    for pool in link.pools:
        own, bits = int(gateway_address(pool)), pool.max_prefixlen
        # The gateway's own address is in the pool too; with itself it speaks in the clear.
        with_itself = Selector(pool.version, own, bits, own, bits)
        yield (Direction.IN, with_itself), Action.ALLOW
        if not through_interface:
            yield (Direction.OUT, with_itself), Action.ALLOW
    for behind in (*link.pools, *link.sites):
        network, prefix = int(behind.network_address), behind.prefixlen
        from_there = Selector(behind.version, network, prefix, 0, 0)
        yield (Direction.IN, from_there), Action.BLOCK
        yield (Direction.FWD, from_there), Action.BLOCK
        if not through_interface:
            yield (Direction.OUT, Selector(behind.version, 0, 0, network, prefix)), Action.BLOCK
