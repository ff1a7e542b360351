"""Virtual addresses for clients: pools, leases, and the habit of giving a device the address that it had before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from core.settings import PoolSettings

REMEMBERED_DEVICES = 65_536


class PoolExhausted(Exception):
    """Every address of the pool is in use."""


class _Range:
    """The host addresses of one network, without its first one, which is the gateway's own."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        self.network = network
        last = network.num_addresses - (2 if network.version == 4 else 1)
        self._fresh = range(2, last + 1)
        """Offsets that were never given out, lowest first."""
        self._released: OrderedDict[int, None] = OrderedDict()
        """Offsets that are free again, the one longest unused first."""
        self._used: dict[int, int] = {}
        """Offsets in use, and by how many sessions."""
        self._remembered: OrderedDict[str, int] = OrderedDict()

    @property
    def used(self) -> int:
        return len(self._used)

    def take(self, holder: str) -> int:
        """An offset into the network: the holder's last one where it is free, else the one longest unused."""
        offset = self._remembered.get(holder)
        if offset is None or offset in self._used:
            offset = self._next()
        else:
            del self._released[offset]
        self._used[offset] = 1
        self._remembered[holder] = offset
        self._remembered.move_to_end(holder)
        if len(self._remembered) > REMEMBERED_DEVICES:
            self._remembered.popitem(last=False)
        return offset

    def _next(self) -> int:
        if self._fresh:
            offset = self._fresh[0]
            self._fresh = self._fresh[1:]
            return offset
        if self._released:
            return self._released.popitem(last=False)[0]
        raise PoolExhausted

    def share(self, offset: int) -> None:
        self._used[offset] += 1

    def give_back(self, offset: int) -> None:
        sharers = self._used.get(offset, 0)
        if sharers > 1:
            self._used[offset] = sharers - 1
        elif sharers:
            del self._used[offset]
            self._released[offset] = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Addresses of one session."""

    pool: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None


class AddressPool:
    """One pool of the configuration."""

    def __init__(self, settings: PoolSettings) -> None:
        self.name = settings.name
        self.ipv4, self.ipv6 = settings.ipv4, settings.ipv6
        self._ranges4 = _Range(settings.ipv4) if settings.ipv4 is not None else None
        self._ranges6 = _Range(settings.ipv6) if settings.ipv6 is not None else None

    def lease(self, holder: str, *, wants_ipv4: bool, wants_ipv6: bool) -> Lease:
        """Addresses of the families that are wanted and that the pool has.

        Args:
            holder: whose they are; the same holder gets the same ones again where they are free.
            wants_ipv4: the client asked for an IPv4 address.
            wants_ipv6: the client asked for an IPv6 address.

        Raises:
            PoolExhausted: a wanted family has none left; nothing is taken then.
        """
        ipv4: IPv4Address | None = None
        ipv6: IPv6Address | None = None
        if wants_ipv4 and self.ipv4 is not None and self._ranges4 is not None:
            ipv4 = self.ipv4.network_address + self._ranges4.take(holder)
        if wants_ipv6 and self.ipv6 is not None and self._ranges6 is not None:
            try:
                ipv6 = self.ipv6.network_address + self._ranges6.take(holder)
            except PoolExhausted:
                self.release(Lease(self.name, ipv4, None))
                raise
        return Lease(self.name, ipv4, ipv6)

    def share(self, lease: Lease) -> None:
        """One more session has these addresses, which are in use; each has to release them."""
        for addresses, offset in self._offsets(lease):
            addresses.share(offset)

    def release(self, lease: Lease) -> None:
        """Give the addresses back; once too often does no harm."""
        for addresses, offset in self._offsets(lease):
            addresses.give_back(offset)

    def _offsets(self, lease: Lease) -> Iterator[tuple[_Range, int]]:
        for addresses, address in ((self._ranges4, lease.ipv4), (self._ranges6, lease.ipv6)):
            if addresses is not None and address is not None:
                yield addresses, int(address) - int(addresses.network.network_address)

    @property
    def leased(self) -> int:
        """How many sessions hold an address (the larger of the two families)."""
        return max(r.used if r is not None else 0 for r in (self._ranges4, self._ranges6))


class Pools:
    """All pools; the first one serves those whose rule names none."""

    def __init__(self, settings: tuple[PoolSettings, ...]) -> None:
        self._pools = {pool.name: AddressPool(pool) for pool in settings}
        self._first = next(iter(self._pools.values()), None)

    def get(self, name: str | None) -> AddressPool:
        """The pool of a name; raises PoolExhausted where there is none."""
        pool = self._find(name)
        if pool is None:
            raise PoolExhausted
        return pool

    def has(self, name: str | None, lease: Lease) -> bool:
        """Whether the addresses are of the pool of this name."""
        pool = self._find(name)
        return pool is not None and pool.name == lease.pool

    def _find(self, name: str | None) -> AddressPool | None:
        return self._first if name is None else self._pools.get(name)

    def share(self, lease: Lease) -> None:
        """One more session has these addresses."""
        self._pools[lease.pool].share(lease)

    def release(self, lease: Lease) -> None:
        """Give the addresses back to the pool that they are from."""
        pool = self._pools.get(lease.pool)
        if pool is not None:
            pool.release(lease)
