"""The EAP Identity (RFC 3748 section 5.1): what the peer calls itself before it has proven anything."""

from __future__ import annotations

from aaa.eap.errors import LimitExceeded

MAX_IDENTITY_BYTES = 253
"""The longest network access identifier (RFC 7542 section 2.2); also what a RADIUS User-Name holds."""


def decode_identity(data: bytes) -> str:
    """The identity as typed. UTF-8 is what RFC 3748 asks for; other bytes are read as Latin-1, which never fails.

    Characters that don't print (control, bidirectional) become U+FFFD: the text goes into logs and pages, and
    no user is called so.

    Raises:
        LimitExceeded: longer than `MAX_IDENTITY_BYTES`.
    """
    if len(data) > MAX_IDENTITY_BYTES:
        raise LimitExceeded(f"EAP identity of {len(data)} bytes, at most {MAX_IDENTITY_BYTES} are taken")
    raw = data.rstrip(b"\0")  # some clients count the terminator of a C string in
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def without_domain(name: bytes) -> bytes:
    """The user name alone of `DOMAIN\\user`, as RFC 2759 section 4 hashes it; `user@realm` stays whole.

    The domain ends at the first backslash: so it does for the clients, and both have to hash the same.
    """
    return name[name.find(b"\\") + 1 :]
