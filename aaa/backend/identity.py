"""What a peer may mean by the identity that it gave, and how that is shown."""

from __future__ import annotations

from collections.abc import Collection

LONGEST_IDENTITY = 253
_LONGEST_SHOWN = 128
_WINDOWS_MACHINE_PREFIX = "host/"


def user_candidates(identity: str) -> tuple[str, ...]:
    """The user names that an identity can stand for, the most specific first.

    `DOMAIN\\alice` and `alice@example.org` are both what clients send for `alice`; a user whose name has the
    `@` itself comes first. Empty for what can be no user's name.
    """
    text = identity.strip()
    if not 0 < len(text) <= LONGEST_IDENTITY or not text.isprintable():
        return ()
    name = text.rpartition("\\")[2].lower()
    local = name.partition("@")[0]
    return tuple(dict.fromkeys(candidate for candidate in (name, local) if candidate))


def vouched_candidates(name: str, domains: Collection[str]) -> tuple[str, ...]:
    """The users of ours that a name can stand for which somebody else vouches for, the most specific first.

    Args:
        name: as they say it: `alice`, `alice@corp.example`, `CORP\\alice`.
        domains: in these the part without the domain is ours as well. In any other, `alice` is somebody else.
    """
    text = name.strip().lower()
    if not 0 < len(text) <= LONGEST_IDENTITY or not text.isprintable():
        return ()
    if "\\" in text:
        domain, _, local = text.rpartition("\\")
        return (local,) if local and domain in domains else ()
    local, _, domain = text.rpartition("@")
    return (text, local) if local and domain in domains else (text,)


def limiter_key(identity: str) -> str:
    """One key for all the spellings of an identity, so that respelling it buys no further attempts."""
    candidates = user_candidates(identity)
    return candidates[-1] if candidates else ""


def shown(text: str, longest: int = _LONGEST_SHOWN) -> str:
    """What a peer sent as it may stand in a log: what can't be printed is escaped, and the length has an end."""
    text = text[:longest]
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")[:longest]


def certificate_holder(identity: str) -> str:
    """What to look for in a certificate: the identity, without what Windows puts before the name of a machine."""
    claimed = identity.strip()
    if claimed[: len(_WINDOWS_MACHINE_PREFIX)].lower() == _WINDOWS_MACHINE_PREFIX:
        return claimed[len(_WINDOWS_MACHINE_PREFIX) :]
    return claimed
