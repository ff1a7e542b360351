"""Child SAs that followed one another by rekeying, and the policies that they share."""

from __future__ import annotations

from gateway.dataplane.xfrm.pair import Pair
from gateway.dataplane.xfrm.policies import Claim, Template


class Lineage:
    """Pairs with one reqid, oldest first.

    The kernel asks of a packet that comes in only that its state has the reqid of the policy. So all pairs of a
    lineage carry what the newest of them may, in both directions, and a restriction of one holds for all of them.
    """

    def __init__(self, number: int, reqid: int) -> None:
        self.number = number
        self.reqid = reqid
        self.pairs: list[Pair] = []
        self._sending: list[Pair] = []
        """Those that may send, in the order in which they were allowed to; the last one does."""

    def add(self, pair: Pair, *, sends: bool) -> None:
        """A pair is new."""
        self.pairs.append(pair)
        if sends:
            self._sending.append(pair)

    def start(self, pair: Pair) -> None:
        """A pair that waited sends."""
        self._sending.append(pair)

    def hold(self, pair: Pair) -> None:
        """It could not be started."""
        self._sending.remove(pair)

    def remove(self, pair: Pair) -> None:
        """A pair is gone; the one before it carries on."""
        for pairs in (self.pairs, self._sending):
            if pair in pairs:
                pairs.remove(pair)

    def claim(self) -> Claim | None:
        """What it asks of the policies; None when all pairs are gone.

        Raises:
            DataPlaneError: restrictions that the kernel can't say.
        """
        if not self.pairs:
            return None
        outward = None
        if self._sending:
            sending = self._sending[-1]
            ends = sending.endpoints
            outward = Template(self.reqid, ends.local, ends.remote, sending.sa.spi_out)
        restrictions = [pair.restriction for pair in self.pairs if pair.restriction is not None]
        return Claim(self.reqid, self.pairs[-1].policy_keys(restrictions), outward)


class Reqids:
    """Reqids that are the gateway's own: those whose first octet is its number among the programs that use IPsec.

    Args:
        xfrm_id: that number, 1 to 255.
    """

    def __init__(self, xfrm_id: int) -> None:
        self.xfrm_id = xfrm_id
        self._base = xfrm_id << 24
        self._used: set[int] = set()

    def __contains__(self, reqid: object) -> bool:
        """Whether it is one of ours."""
        return isinstance(reqid, int) and reqid & 0xFF00_0000 == self._base

    def take(self, lineage: int) -> int:
        """A free one: for most of the time, the number of the lineage."""
        number = lineage & 0xFF_FFFF
        while number == 0 or self._base | number in self._used:
            number = (number + 1) & 0xFF_FFFF
        self._used.add(self._base | number)
        return self._base | number

    def give_back(self, reqid: int) -> None:
        """The last pair that had it is gone."""
        self._used.discard(reqid)
