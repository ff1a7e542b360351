"""One connection to one LDAP server, by ldap3, which is told to trust nobody but the CAs of the settings.

ldap3 alone verifies no certificate, follows referrals with the user's password, and reads the schema of a server
before it is known; none of that happens here. Everything blocks, up to the timeouts of the settings.
"""

from __future__ import annotations

import contextlib
import math
import ssl
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aaa.directory.accounts import PPOLICY_CONTROL, BindAnswer
from aaa.directory.errors import (
    DirectoryError,
    DirectoryRefused,
    DirectoryUnavailable,
    PartialAnswer,
    ReferralRefused,
)
from core.settings import DirectorySettings

with warnings.catch_warnings():
    # It uses names that pyasn1 has since respelt.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPException

MOST_ENTRIES = 500_000
"""Of one search by pages. No company that one directory serves has more people."""
_SUCCESS, _SIZE_LIMIT_EXCEEDED, _REFERRAL, _NO_SUCH_OBJECT = 0, 4, 10, 32
_LIMITS = {3: "a time limit", 4: "a size limit", 11: "an administrative limit"}
_BUSY = {51, 52}
_PAGED_RESULTS = "1.2.840.113556.1.4.319"

Scope = Literal["BASE", "SUBTREE"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a directory."""

    dn: str
    attributes: Mapping[str, Sequence[bytes]]
    """By names in lower case."""

    def text(self, attribute: str) -> str:
        """The first value as text; empty where there is none, or none that is text."""
        values = self.attributes.get(attribute.lower(), ())
        with contextlib.suppress(UnicodeDecodeError, IndexError):
            return values[0].decode("utf-8").strip()
        return ""

    def texts(self, attribute: str) -> list[str]:
        """All values that are text.

        Raises:
            PartialAnswer: the server gave the first of them only ([MS-ADTS] 3.1.1.3.1.3.3, range retrieval).
        """
        name = attribute.lower()
        if any(key.startswith(f"{name};range=") for key in self.attributes):
            raise PartialAnswer(
                f"{self.dn} has more values of {attribute} than the server gives at once",
                fix='nested_groups = "member-of" or "in-chain" reads groups from the users\' side',
            )
        return [value.decode("utf-8") for value in self.attributes.get(name, ()) if _is_text(value)]


class _VerifiedTls(ldap3.Tls):  # type: ignore[misc]
    """Has Python's ssl check chain and name, the IP addresses too, before the first byte of LDAP goes through."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Replace the connection's socket; ldap3 calls it both for `ldaps://` and after StartTLS."""
        del do_handshake
        host = connection.server.host.strip("[]")
        connection.socket.settimeout(connection.server.connect_timeout)
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=host)


def tls_context(ca_file: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer that trusts these CAs only, and checks the server's name.

    Raises:
        DirectoryError: the file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:  # an SSLError is one too
        raise DirectoryError(
            f"the CA file {ca_file} can't be used: {error.strerror or error}", fix="PEM, one CA or several"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Client:
    """A connection under TLS. Close it."""

    def __init__(self, url: str, settings: DirectorySettings, context: ssl.SSLContext) -> None:
        """Connect, and bring up TLS.

        Args:
            url: of the settings.
            settings: of the directory.
            context: of `tls_context`.

        Raises:
            DirectoryUnavailable: there is no connection, or its other end is not who it should be.
        """
        self.url = url
        self._settings = settings
        server = ldap3.Server(
            url,
            tls=_VerifiedTls(context),
            get_info=ldap3.NONE,
            connect_timeout=settings.timeout_s,
            allowed_referral_hosts=[],
        )
        self._connection = ldap3.Connection(
            server,
            client_strategy=ldap3.SAFE_SYNC,
            auto_referrals=False,
            receive_timeout=math.ceil(settings.timeout_s),
            check_names=False,
            read_only=True,
        )
        try:
            with self._failing():
                self._connection.open(read_server_info=False)
                if not server.ssl:
                    self._connection.start_tls(read_server_info=False)
        except DirectoryError:
            if self._connection.socket is not None:
                self._connection.socket.close()
            raise

    def close(self) -> None:
        """Say goodbye; never raises."""
        with contextlib.suppress(LDAPException, OSError):
            self._connection.unbind()

    def bind(self, user: str, password: str) -> BindAnswer:
        """Offer a name and a password. An empty one would be none at all, and succeed (RFC 4513 section 5.1.2).

        Raises:
            DirectoryUnavailable: no answer.
            ReferralRefused: the server wants the password to go elsewhere.
            ValueError: the name or the password is empty.
        """
        if not user or not password:
            raise ValueError("a bind without name or password is an anonymous one")
        with self._failing():
            _, result, _, _ = self._connection.rebind(
                user=user,
                # Bytes, for of text the library refuses what it can't prepare (RFC 4013), as if the server had died.
                password=password.encode(),
                authentication=ldap3.SIMPLE,
                read_server_info=False,
                controls=[(PPOLICY_CONTROL, False, None)],
            )
        code = int(result["result"])
        if code == _REFERRAL:
            raise self._referral()
        if code in _BUSY:
            raise DirectoryUnavailable(f"{self.url}: {result['description']}: {result['message']}")
        control = (result.get("controls") or {}).get(PPOLICY_CONTROL) or {}
        value = control.get("value")
        return BindAnswer(code, str(result["message"] or ""), value if isinstance(value, bytes) else None)

    def bind_service(self, password: str) -> None:
        """Bind with the service account.

        Raises:
            DirectoryRefused: the directory does not take it.
        """
        answer = self.bind(self._settings.bind_dn or "", password)
        if answer.code != _SUCCESS:
            raise DirectoryRefused(
                f"{self.url} does not take the service account {self._settings.bind_dn}"
                f" (result {answer.code}{': ' + answer.message if answer.message else ''})",
                fix=f"correct bind_dn, or the password in {self._settings.bind_password_file}",
            )

    def search(
        self, base: str, filter_: str, attributes: Sequence[str], *, scope: Scope = "SUBTREE", most: int = 0
    ) -> list[Entry]:
        """Search in one go. Continuation references are not followed; what they lead to does not exist here.

        Args:
            base: where to begin; nothing is found where it does not exist.
            filter_: made by `filters`.
            attributes: to read.
            scope: below the base, or it alone.
            most: the server need not look for more, 0 for any number.

        Raises:
            DirectoryUnavailable: no answer.
            PartialAnswer: the server found more than it gives, and `most` did not ask for that.
            DirectoryRefused: the server does not let us.
        """
        result, response = self._search(base, filter_, attributes, scope, size_limit=most)
        if int(result["result"]) == _SIZE_LIMIT_EXCEEDED and most and len(_entries(response)) >= most:
            # By what we asked for; a limit of the server's own may be lower, and leave out what matters.
            return _entries(response)
        if int(result["result"]) == _NO_SUCH_OBJECT:
            return []
        self._check(result, base)
        return _entries(response)

    def pages(self, base: str, filter_: str, attributes: Sequence[str]) -> Iterator[Entry]:
        """Search by pages (RFC 2696), for all there is.

        Raises:
            DirectoryUnavailable: no answer.
            PartialAnswer: whatever keeps it from being all: a limit, a referral, a missing base, too many entries.
            DirectoryRefused: the server does not let us.
        """
        cookie: bytes | None = None
        found = 0
        while True:
            result, response = self._search(
                base, filter_, attributes, "SUBTREE", page_size=self._settings.page_size, cookie=cookie
            )
            self._check(result, base)
            references = [item for item in response if item.get("type") == "searchResRef"]
            if references and not self._settings.is_ad:
                # Active Directory has them at the root of every domain, to its own partitions without people.
                raise PartialAnswer(
                    f"{self.url} refers to another server for a part of {base}", fix="name a base without referrals"
                )
            entries = _entries(response)
            found += len(entries)
            if found > MOST_ENTRIES:
                raise PartialAnswer(f"{self.url} has more than {MOST_ENTRIES:,} entries below {base}")
            yield from entries
            control = (result.get("controls") or {}).get(_PAGED_RESULTS)
            if control is None:
                raise PartialAnswer(
                    f"{self.url} does not answer by pages", fix="allow paged results (RFC 2696) there"
                )
            cookie = control["value"]["cookie"]
            if not cookie:
                return

    def _search(
        self,
        base: str,
        filter_: str,
        attributes: Sequence[str],
        scope: Scope,
        *,
        size_limit: int = 0,
        page_size: int | None = None,
        cookie: bytes | None = None,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        with self._failing():
            _, result, response, _ = self._connection.search(
                base,
                filter_,
                search_scope=scope,
                attributes=list(attributes),
                size_limit=size_limit,
                paged_size=page_size,
                paged_cookie=cookie,
                paged_criticality=True,
            )
        return result, response or []

    def _check(self, result: Mapping[str, Any], base: str) -> None:
        code = int(result["result"])
        if code == _SUCCESS:
            return
        said = f"{result['description']}{': ' + result['message'] if result['message'] else ''}"
        if code == _REFERRAL:
            raise self._referral()
        if code in _LIMITS:
            raise PartialAnswer(
                f"{self.url} stopped at {_LIMITS[code]} of its own below {base}", fix="raise it there"
            )
        if code in _BUSY:
            raise DirectoryUnavailable(f"{self.url}: {said}")
        if code == _NO_SUCH_OBJECT:
            raise PartialAnswer(
                f"{self.url} has no {base}, or does not show it", fix="correct user_base or group_base"
            )
        raise DirectoryRefused(f"{self.url} refuses to search {base}: {said}", fix="see what the service account may")

    def _referral(self) -> ReferralRefused:
        return ReferralRefused(
            f"{self.url} refers to another server, which is not followed", fix="name the server that has the people"
        )

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever ldap3 and the network raise becomes one error that names the server."""
        try:
            yield
        except DirectoryError:
            raise
        except Exception as error:
            # Of an answer that is no LDAP, each layer below complains in its own way.
            raise DirectoryUnavailable(f"{self.url}: {_reason(error)}") from None


def _entries(response: Sequence[Mapping[str, Any]]) -> list[Entry]:
    return [
        Entry(
            str(item["dn"]),
            {name.lower(): tuple(values) for name, values in item["raw_attributes"].items() if values},
        )
        for item in response
        if item.get("type") == "searchResEntry"
    ]


def _reason(error: BaseException) -> str:
    """One line without what an attacker could make long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]


def _is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
