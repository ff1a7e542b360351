"""Slows down guessing at the sign-in: failures are counted in the database, so a restart forgives nothing.

Three counts run at once, each over a window that begins with its first failure. The tight one is for one account
from one address. The wide one for an account from anywhere is loose on purpose: nobody on the internet shall be
able to lock the security team out by failing in its name.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import IPv4Address, ip_address, ip_network

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.clock import utc_now
from web.models import SignInFailures

WINDOW = timedelta(minutes=15)
PAIR_LIMIT = 5
ADDRESS_LIMIT = 20
ACCOUNT_LIMIT = 100
IPV6_PREFIX = 64
"""One subscriber has a whole /64, so that is what counts as one address."""


def wait_s(session: Session, account: str, address: str) -> float:
    """Seconds for which attempts are refused; 0 lets the attempt pass."""
    now = utc_now()
    limits = _limits(account, address)
    rows = session.scalars(
        select(SignInFailures).where(SignInFailures.key.in_(limits), SignInFailures.window_ends_at > now)
    )
    return max(
        ((row.window_ends_at - now).total_seconds() for row in rows if row.count >= limits[row.key]), default=0.0
    )


def add_failure(session: Session, account: str, address: str) -> bool:
    """Count one failure; True when it is the one that closes the door."""
    now = utc_now()
    session.execute(delete(SignInFailures).where(SignInFailures.window_ends_at <= now))
    closed = False
    for key, limit in _limits(account, address).items():
        closed |= _count(session, key, now) == limit
    return closed


def add_wrong_code(session: Session, token_hash: bytes) -> bool:
    """Count one wrong code in an open session; True when these are too many.

    The counts above are not enough: whoever has closed the door at the sign-in would be free to go on guessing here.
    """
    return _count(session, _session_key(token_hash), utc_now()) >= PAIR_LIMIT


def forget_wrong_codes(session: Session, token_hash: bytes) -> None:
    """A code was right."""
    session.execute(delete(SignInFailures).where(SignInFailures.key == _session_key(token_hash)))


def _session_key(token_hash: bytes) -> str:
    return f"session:{token_hash.hex()}"


def _count(session: Session, key: str, now: datetime) -> int:
    row = session.get(SignInFailures, key, with_for_update=True)
    if row is None or row.window_ends_at <= now:
        row = session.merge(SignInFailures(key=key, count=0, window_ends_at=now + WINDOW))
    row.count += 1
    return row.count


def forget(session: Session, account: str, address: str) -> None:
    """Both factors were right: the account's counts begin anew. The address keeps its own."""
    keys = [key for key in _limits(account, address) if key.startswith(("pair:", "account:"))]
    session.execute(delete(SignInFailures).where(SignInFailures.key.in_(keys)))


def _limits(account: str, address: str) -> dict[str, int]:
    place = network(address)
    name = account[:64].lower()
    return {
        f"pair:{name}@{place}": PAIR_LIMIT,
        f"address:{place}": ADDRESS_LIMIT,
        f"account:{name}": ACCOUNT_LIMIT,
    }


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, however it is written, or a subscriber's /64 of IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:45]
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        # A socket that takes both names IPv4 clients so; in one /64 they would share one count.
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, IPV6_PREFIX), strict=False).network_address)
