"""The handshakes under way, and who may begin another one (RFC 7296 section 2.6, RFC 8019 section 4).

Two things are asked of whoever begins: a cookie, which shows that it receives at its address, and patience. A cookie
is asked for where there are many handshakes in all, or many of this source, or where this source begins them fast.
Only of a source that was proved so are requests dropped for their rate: else anybody could shut another one out in
its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from core.rate import BucketTable
from gateway.ike.config import ResponderConfig
from gateway.ike.cookie import CookieJar
from gateway.ike.path import Path

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

BURST_S = 4.0
"""So many seconds' worth of handshakes may come at once."""
_PREFIX_BITS_V6 = 64
_SALT_BYTES = 16


class TooMany(Exception):
    """No more handshakes, or none from there, for now; which limit it is, the message says."""


class HalfOpen:
    """All half-open SAs of one responder.

    Args:
        random: octets that no one can predict.
        now: monotonic seconds.
    """

    def __init__(self, random: Callable[[int], bytes], now: float) -> None:
        self._sas: dict[tuple[str, int, bytes], IkeSa] = {}
        self._by_source: Counter[str] = Counter()
        self._cookies = CookieJar(random, now)
        self._asked = BucketTable(random(_SALT_BYTES))
        """How fast sources begin without a cookie: what came so may have come from anybody."""
        self._proved = BucketTable(random(_SALT_BYTES))
        """How fast they begin with one."""

    def __len__(self) -> int:
        return len(self._sas)

    def find(self, path: Path, spi_i: bytes) -> IkeSa | None:
        """The SA that a first request from there has made before."""
        return self._sas.get((path.remote, path.remote_port, spi_i))

    def admit(
        self,
        config: ResponderConfig,
        path: Path,
        spi_i: bytes,
        nonce_and_cookie: Callable[[], tuple[bytes, bytes]],
        now: float,
    ) -> bytes | None:
        """Whether another handshake may begin.

        Args:
            config: the limits.
            path: where the request came from.
            spi_i: the client's SPI.
            nonce_and_cookie: of the request; decoded only where a cookie is asked for.
            now: monotonic seconds.

        Returns:
            The cookie that the request has to bring first; None where it has, or needs none.

        Raises:
            TooMany: there are enough, or this source is too fast.
        """
        source, rate = source_of(path), config.init_rate_per_address
        if (
            len(self._sas) >= config.cookie_threshold
            or self._by_source[source] >= config.cookie_threshold_per_address
            or not self._asked.take(source, rate, BURST_S * rate, now)
        ):
            nonce, cookie = nonce_and_cookie()
            if not self._cookies.check(cookie, nonce, path.remote, spi_i, now):
                return self._cookies.make(nonce, path.remote, spi_i, now)
            if not self._proved.take(source, rate, BURST_S * rate, now):
                raise TooMany(f"this source begins more than {rate:g} handshakes a second (init_rate_per_address)")
        if len(self._sas) >= config.half_open_limit:
            raise TooMany(f"{config.half_open_limit} handshakes are under way (half_open_limit)")
        if self._by_source[source] >= config.half_open_limit_per_address:
            limit = config.half_open_limit_per_address
            raise TooMany(f"{limit} handshakes of this source are under way (half_open_limit_per_address)")
        return None

    def add(self, sa: IkeSa, path: Path) -> None:
        """One has begun."""
        sa.half_open_key = source_of(path), (path.remote, path.remote_port, sa.spi_i)
        source, key = sa.half_open_key
        self._by_source[source] += 1
        self._sas[key] = sa

    def remove(self, sa: IkeSa) -> None:
        """One has come to its end, this or that way."""
        if sa.half_open_key is None:
            return
        source, key = sa.half_open_key
        sa.half_open_key = None
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]
        del self._sas[key]


def source_of(path: Path) -> str:
    """Whom a handshake counts for: an IPv4 address, or an IPv6 /64, which one customer has whole."""
    if path.ip_version == 4:
        return path.remote
    return hex(int(IPv6Address(path.remote.partition("%")[0])) >> (128 - _PREFIX_BITS_V6))
