"""LDAP filters (RFC 4515) and names (RFC 4514), from texts that anyone may have typed.

Nothing that comes from outside gets into a filter but through `equals`, nor into a DN but through `fill_template`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from core.settings import DirectorySettings
from core.settings.directories import NAME_PLACE

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""LDAP_MATCHING_RULE_IN_CHAIN ([MS-ADTS] 3.1.1.3.4.4.3): follows group in group, on Active Directory only."""
LONGEST_NAME = 253
_SPECIAL_IN_DN = frozenset('\\,+"<>;=#')
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def equals(attribute: str, value: str | bytes, *, rule: str = "") -> str:
    """The filter that an attribute has this value, whatever that is.

    Every octet that is no ASCII letter or digit is written as a number, so that none is taken for syntax (RFC 4515
    section 3).

    Args:
        attribute: from the settings or from this program.
        value: from anywhere.
        rule: the OID of a matching rule.
    """
    octets = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    escaped = "".join(chr(octet) if chr(octet).isalnum() and octet < 0x80 else f"\\{octet:02x}" for octet in octets)
    return f"({attribute}:{rule}:={escaped})" if rule else f"({attribute}={escaped})"


def both(first: str, second: str) -> str:
    """The filter that both hold."""
    return f"(&{first}{second})"


def any_of(filters: Sequence[str]) -> str:
    """The filter that one of these holds; there has to be one."""
    if not filters:
        raise ValueError("a filter of nothing")
    return filters[0] if len(filters) == 1 else f"(|{''.join(filters)})"


def login_filter(settings: DirectorySettings, typed: str) -> str | None:
    """The filter that finds whoever may be meant by a name that was typed; None for what can be nobody's.

    Args:
        settings: of the directory.
        typed: `alice`, `CORP\\alice`, `alice@corp.example`.
    """
    whole = typed.strip()
    # A directory takes many spellings beyond ASCII for one name, and each would have its own limit of failures.
    if not 0 < len(whole) <= LONGEST_NAME or not whole.isprintable() or not whole.isascii():
        return None
    wanted = [equals(attribute, whole) for attribute in settings.effective_login_attributes]
    bare = bare_name(settings, whole)
    if bare is not None:
        wanted.insert(0, equals(settings.effective_name_attribute, bare))
    return both(settings.effective_user_filter, any_of(wanted)) if wanted else None


def bare_name(settings: DirectorySettings, typed: str) -> str | None:
    """The name without a domain that is this directory's; None where it has one that is not.

    `MALLORY\\alice` is not `alice`: another domain may have an Alice too.
    """
    domains = {domain.casefold() for domain in settings.domains}
    domain, backslash, name = typed.rpartition("\\")
    if backslash:
        return (name or None) if domain.casefold() in domains else None
    name, at, domain = typed.rpartition("@")
    if at:
        return (name or None) if domain.casefold() in domains else None
    return typed or None


def fill_template(template: str, name: str) -> str | None:
    """The name to bind with. None where it can't go into this template.

    Args:
        template: a DN (RFC 4514), or `{name}@domain`, or `DOMAIN\\{name}`.
        name: without a domain, as it was typed.
    """
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        return None
    if "=" in template:
        return template.replace(NAME_PLACE, escape_in_dn(name))
    # There is no way to escape in a name that is no DN, so only what needs no escaping goes in.
    return template.replace(NAME_PLACE, name) if _PLAIN_NAME.fullmatch(name) else None


def escape_in_dn(value: str) -> str:
    """A value as it may stand in a DN (RFC 4514 section 2.4); it can't be empty."""
    text = "".join(
        f"\\{octet:02x}" if (octet := ord(c)) < 0x20 else f"\\{c}" if c in _SPECIAL_IN_DN else c for c in value
    )
    if text.endswith(" "):
        text = text[:-1] + "\\20"
    return "\\20" + text[1:] if text.startswith(" ") else text


def normal_dn(dn: str) -> str:
    """A DN such that two spellings of it by the same server are equal: case, and spaces around its separators.

    Servers write a DN in `member` as it was when the member was added, and it may have been respelt since.
    """
    return re.sub(r"\s*(?<!\\)([,=+])\s*", r"\1", dn.strip()).casefold()
