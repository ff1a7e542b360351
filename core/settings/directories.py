"""The settings of the company's directories: LDAP servers and Active Directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from core.settings.section import Section
from core.settings.values import Seconds

MOST_DIRECTORIES, MOST_SERVERS = 16, 16
NAME_PLACE = "{name}"
"""What a bind template has where the name goes that a person typed."""

LdapUrl = Annotated[str, Field(pattern=r"^ldaps?://([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:[0-9]{1,5})?$")]
"""`ldaps://` is TLS from the first byte, `ldap://` StartTLS before anything else. There is no third way."""
Attribute = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
NestedGroups = Literal["walk", "member-of", "in-chain"]

_LONGEST_FILTER = 1024


class DirectorySettings(Section):
    """One directory. What is left out follows from its kind."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    """Kept with each user of it, and shown in the audit log."""
    kind: Literal["openldap", "active-directory"] = "openldap"
    servers: tuple[LdapUrl, ...] = Field(min_length=1, max_length=MOST_SERVERS)
    """In the order in which they are tried; the certificate of each has to carry the name that stands here."""
    ca_file: Path
    """PEM: the CAs that the servers' certificates come from. No others are trusted."""
    bind_dn: str | None = Field(default=None, min_length=1, max_length=512)
    """Of the service account, which finds people. Active Directory also takes `account@domain`."""
    bind_password_file: Path | None = None
    bind_template: str | None = Field(default=None, max_length=512)
    """Instead of looking for the person before: `uid={name},ou=people,dc=corp,dc=example`, `{name}@corp.example`."""
    domains: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")], ...] = Field((), max_length=32)
    """That people may put before or after their names: with `CORP`, `CORP\\alice` is `alice`."""
    user_base: str = Field(min_length=1, max_length=512)
    user_filter: str = ""
    """Whoever it does not find is nobody; empty for the one of its kind."""
    group_base: str = Field(default="", max_length=512)
    """Empty means the user_base."""
    group_filter: str = ""
    name_attribute: Attribute | Literal[""] = ""
    """What users are called here; in it a typed name is looked for."""
    login_attributes: tuple[Attribute, ...] = Field((), max_length=8)
    """Others in which a name is looked for as it was typed, such as a mail address."""
    mail_attribute: Attribute = "mail"
    display_name_attribute: Attribute | Literal[""] = ""
    group_name_attribute: Attribute | Literal[""] = ""
    member_attribute: Attribute = "member"
    nested_groups: NestedGroups | None = None
    """How groups in groups are found: `walk` from a group to those that have it as a member, `member-of` by that
    attribute, `in-chain` by Active Directory's matching rule.
    """
    group_depth: int = Field(default=10, ge=1, le=64)
    groups_at_most: int = Field(default=1000, ge=1, le=10_000)
    """Of one user; whoever has more is refused, since a rule that denies might name one that was left out."""
    timeout_s: float = Field(default=5.0, gt=0, le=30)
    """For the connection, and for each answer."""
    dead_time_s: Seconds = 15.0
    """For how long a server that failed is left alone."""
    page_size: int = Field(default=500, ge=10, le=10_000)
    sync_interval_s: float = Field(default=900.0, ge=60)
    disable_limit_percent: int = Field(default=10, ge=0, le=100)
    """A sync that would disable more of the directory's users than this disables nobody, and says so."""

    @field_validator("name")
    @classmethod
    def _is_not_local(cls, name: str) -> str:
        if name == "local":
            raise ValueError("that is what users are marked with who come from no directory")
        return name

    @field_validator("bind_template")
    @classmethod
    def _has_a_place(cls, template: str | None) -> str | None:
        if template is not None and template.count(NAME_PLACE) != 1:
            raise ValueError(f"needs {NAME_PLACE} once, where the name goes")
        return template

    @field_validator("user_filter", "group_filter")
    @classmethod
    def _is_a_filter(cls, text: str) -> str:
        if not text:
            return text
        if len(text) > _LONGEST_FILTER or not _is_balanced(text):
            raise ValueError(f"must be a filter in parentheses, such as (objectClass=person), of {_LONGEST_FILTER}")
        return text

    @model_validator(mode="after")
    def _can_bind(self) -> DirectorySettings:
        if (self.bind_dn is None) != (self.bind_password_file is None):
            raise ValueError("bind_dn and bind_password_file belong together")
        if self.bind_dn is None and self.bind_template is None:
            raise ValueError("needs bind_dn and bind_password_file, or bind_template")
        return self

    @property
    def is_ad(self) -> bool:
        """Whether it is an Active Directory, or Samba's."""
        return self.kind == "active-directory"

    @property
    def has_service_account(self) -> bool:
        """Without one, nobody can be looked up who does not sign in, and nothing be synchronised."""
        return self.bind_dn is not None

    @property
    def effective_user_filter(self) -> str:
        """The filter of its kind where none is set. Computers and contacts are no people."""
        default = "(&(objectCategory=person)(objectClass=user))" if self.is_ad else "(objectClass=inetOrgPerson)"
        return self.user_filter or default

    @property
    def effective_group_filter(self) -> str:
        """The filter of its kind where none is set."""
        return self.group_filter or ("(objectClass=group)" if self.is_ad else "(objectClass=groupOfNames)")

    @property
    def effective_group_base(self) -> str:
        """Where groups are."""
        return self.group_base or self.user_base

    @property
    def effective_name_attribute(self) -> str:
        """The attribute that users are called by here."""
        return self.name_attribute or ("sAMAccountName" if self.is_ad else "uid")

    @property
    def effective_login_attributes(self) -> tuple[str, ...]:
        """Where a name is looked for as it was typed."""
        return self.login_attributes or (("userPrincipalName",) if self.is_ad else ())

    @property
    def effective_display_name_attribute(self) -> str:
        """The attribute with a person's full name."""
        return self.display_name_attribute or ("displayName" if self.is_ad else "cn")

    @property
    def effective_group_name_attribute(self) -> str:
        """The attribute by which rules name groups."""
        return self.group_name_attribute or ("sAMAccountName" if self.is_ad else "cn")

    @property
    def effective_nested_groups(self) -> NestedGroups:
        """The way that works with its kind: elsewhere AD's matching rule finds nothing, and does not say so."""
        return self.nested_groups or ("in-chain" if self.is_ad else "walk")

    @property
    def id_attribute(self) -> str:
        """What stays when a person is renamed, and is never given to another one."""
        return "objectGUID" if self.is_ad else "entryUUID"


def _is_balanced(text: str) -> bool:
    """Whether it is one expression in parentheses; those that are meant as text are escaped as `\\28` and `\\29`."""
    if not (text.startswith("(") and text.endswith(")")) or re.search(r"[\x00-\x1f]", text):
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0 and position != len(text) - 1:
            return False
    return depth == 0
