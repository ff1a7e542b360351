"""Both ends of an IKE SA ask at the same moment: such moments are rare, so they are made.

A router in between drops IKE's messages, and none of ESP's, until both ends have sent a request that the other has
not seen. When it lets them pass, they are sent again, and cross.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.lab.namespaces import Namespace
from tests.lab.processes import wait_for
from tests.lab.topology import GATEWAY_IPV4

IKE = "@th,64,32 0"
"""In UDP on port 4500: the non-ESP marker, where ESP has its SPI (RFC 3948 section 2.2)."""
RESPONSE = f"{IKE} @th,248,8 & 0x20 == 0x20"
"""The flag of IKE's header (RFC 7296 section 3.1)."""


class Crossing:
    """What lets requests of both sides cross.

    Args:
        router: between the client and the gateway.
        patience_s: how long either side may take to ask.
    """

    def __init__(self, router: Namespace, patience_s: float) -> None:
        self._router = router
        self._patience_s = patience_s

    def cross(
        self,
        client_asks: Callable[[], object],
        gateway_asks: Callable[[], object] | None = None,
        *,
        both_notice: bool = False,
    ) -> None:
        """Let both ask before either hears the other.

        Args:
            client_asks: has the client ask; called when the gateway has asked.
            gateway_asks: the same of the gateway, where it does not ask by itself.
            both_notice: let no answer pass before both requests were seen, so that both ends know of the collision.
        """
        self._router.nft(_held(IKE))
        try:
            if gateway_asks is not None:
                gateway_asks()
            wait_for(lambda: self._dropped()[0] > 0, self._patience_s, "the gateway's request", interval_s=0.05)
            client_asks()
            wait_for(lambda: self._dropped()[1] > 0, self._patience_s, "the client's request", interval_s=0.05)
            if both_notice:
                self._router.nft("delete table ip held\n" + _held(RESPONSE))
                wait_for(
                    lambda: min(self._dropped()) > 0, self._patience_s, "an answer of each side", interval_s=0.05
                )
        finally:
            self._router.run("nft", "delete", "table", "ip", "held")

    def _dropped(self) -> tuple[int, int]:
        """Messages of the gateway and of the client."""
        counts = re.findall(r"counter packets (\d+)", self._router.run("nft", "list", "table", "ip", "held"))
        of_gateway, of_client = map(int, counts)
        return of_gateway, of_client


def _held(what: str) -> str:
    """The rules that drop and count these of the messages."""
    return f"""
        table ip held {{
            chain passing {{
                type filter hook forward priority filter
                ip saddr {GATEWAY_IPV4} udp sport 4500 {what} counter drop
                ip daddr {GATEWAY_IPV4} udp dport 4500 {what} counter drop
            }}
        }}
    """
