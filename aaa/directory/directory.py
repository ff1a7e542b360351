"""One directory: is this the password of this person, who is this person, who is there at all. Everything blocks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from aaa.directory import accounts, filters
from aaa.directory.accounts import AD_ATTRIBUTES, OPENLDAP_ATTRIBUTES, UNKNOWN_USER, AccountState, BindAnswer
from aaa.directory.client import Client, Entry
from aaa.directory.errors import DirectoryError, DirectoryUnavailable
from aaa.directory.groups import GroupGraph, attributes_of_groups, groups_of
from aaa.directory.model import DirectoryUser
from aaa.directory.servers import Servers
from aaa.interface import Refusal
from core.clock import utc_now
from core.secrets import Secret
from core.settings import DirectorySettings

LONGEST_PASSWORD = 1024
_LARGEST_PASSWORD_FILE = 4096
_OTHERS = 0o077

AMBIGUOUS_USER = Refusal("ambiguous-user", "the directory has several people of this name")


class Directory:
    """Asks one directory. Threads may share it; every call makes a connection of its own.

    Args:
        settings: of the directory.
        now: the time.
        monotonic: for how long servers are left alone.

    Raises:
        DirectoryError: the CA file or the file with the password can't be used.
    """

    def __init__(
        self,
        settings: DirectorySettings,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.servers = Servers(settings, monotonic)
        self._now = now
        self._service_password = read_password(settings.bind_password_file) if settings.bind_password_file else None
        status = AD_ATTRIBUTES if settings.is_ad else OPENLDAP_ATTRIBUTES
        self._attributes = [
            settings.effective_name_attribute,
            settings.id_attribute,
            settings.mail_attribute,
            settings.effective_display_name_attribute,
            *(["memberOf"] if settings.effective_nested_groups != "walk" else []),
            *status,
        ]

    def sign_in(self, name: str, password: str) -> DirectoryUser | Refusal:
        """Check a password.

        Args:
            name: as it was typed.
            password: as it was typed.

        Returns:
            The person, with no state that stands against signing in; or why not. The refusal is for the audit log:
            whoever typed the password is told that it did not work, and no more, after as many questions.
        """
        if not 0 < len(password) <= LONGEST_PASSWORD or "\x00" in password:
            return accounts.WRONG_PASSWORD
        try:
            return self._again_elsewhere(lambda client: self._sign_in(client, name, password))
        except DirectoryError as error:
            return refusal_of(error)

    def lookup(self, name: str) -> DirectoryUser | Refusal:
        """Who somebody is, by a name as it may be typed, whatever the state of the account.

        Raises:
            DirectoryError: there is no service account.
        """
        self._need_service_account()
        try:
            return self._again_elsewhere(lambda client: self._look_up(client, name))
        except DirectoryError as error:
            return refusal_of(error)

    def everybody(self) -> Iterator[DirectoryUser]:
        """All people, by pages; those without a name or an id that could be used are left out.

        Raises:
            DirectoryError: the directory can't be asked, or gave a part. Then nothing follows from who is missing.
        """
        self._need_service_account()
        settings = self.settings
        with self.servers.connection() as client:
            self._bind_service(client)
            groups = client.pages(
                settings.effective_group_base, settings.effective_group_filter, attributes_of_groups(settings)
            )
            graph = GroupGraph(settings, list(groups))
            for entry in client.pages(settings.user_base, settings.effective_user_filter, self._attributes):
                user = self._user(entry, graph.groups_of(entry))
                if user.name and user.id:
                    yield user

    def check(self) -> Iterator[tuple[str, str | DirectoryError]]:
        """Ask each server now: its URL, and what works there or does not."""
        for url, opened in self.servers.open_each():
            if isinstance(opened, DirectoryError):
                yield url, opened
                continue
            try:
                yield url, self._check_one(opened)
            except DirectoryError as error:
                yield url, error
            finally:
                opened.close()

    def _check_one(self, client: Client) -> str:
        if self._service_password is None:
            return "TLS is right; no service account, so people can sign in but not be looked up or synchronised"
        self._bind_service(client)
        settings = self.settings
        found = client.search(
            settings.user_base, settings.effective_user_filter, [settings.effective_name_attribute], most=1
        )
        if not found:
            raise DirectoryError(
                f"{client.url} shows nobody below {settings.user_base}",
                fix="correct user_base or user_filter, or let the service account read",
            )
        return "TLS and the service account are right, people are found"

    def _again_elsewhere(self, ask: Callable[[Client], DirectoryUser | Refusal]) -> DirectoryUser | Refusal:
        """Ask, and where the server dies over it, ask the next one once."""
        try:
            with self.servers.connection() as client:
                return ask(client)
        except DirectoryUnavailable:
            if not any(state.failure == "" for state in self.servers.states()):
                raise
        with self.servers.connection() as client:
            return ask(client)

    def _look_up(self, client: Client, name: str) -> DirectoryUser | Refusal:
        self._bind_service(client)
        entry = self._find(client, name)
        if isinstance(entry, Refusal):
            return entry
        return self._user(entry, groups_of(client, self.settings, entry))

    def _sign_in(self, client: Client, name: str, password: str) -> DirectoryUser | Refusal:
        if self.settings.bind_template is not None:
            return self._sign_in_by_template(client, name, password)
        return self._sign_in_by_search(client, name, password)

    def _sign_in_by_search(self, client: Client, name: str, password: str) -> DirectoryUser | Refusal:
        self._bind_service(client)
        entry = self._find(client, name)
        if isinstance(entry, Refusal):
            # As many questions as for somebody who exists, so that the time tells nobody who does.
            client.bind(
                f"{self.settings.effective_name_attribute}=-{secrets.token_hex(8)},{self.settings.user_base}", "-"
            )
            return entry
        refusal = self._refused(client.bind(entry.dn, password), entry)
        if refusal is not None:
            return refusal
        self._bind_service(client)
        return self._user(entry, groups_of(client, self.settings, entry))

    def _sign_in_by_template(self, client: Client, name: str, password: str) -> DirectoryUser | Refusal:
        bare = filters.bare_name(self.settings, name.strip())
        bind_as = filters.fill_template(self.settings.bind_template or "", bare) if bare else None
        if bare is None or bind_as is None:
            return UNKNOWN_USER
        refusal = accounts.refusal_of_bind(client.bind(bind_as, password))
        if refusal is not None:
            return refusal
        if self._service_password is not None:
            self._bind_service(client)
        entry = self._find(client, bare)
        if isinstance(entry, Refusal):
            return entry
        # Whose password it was, and who has the name elsewhere below the base, may be two people.
        if "=" in bind_as:
            if filters.normal_dn(entry.dn) != filters.normal_dn(bind_as):
                return AMBIGUOUS_USER
        else:
            # Active Directory knows a name in several ways: one's principal may be another one's account.
            if accounts.refusal_of_bind(client.bind(entry.dn, password)) is not None:
                return AMBIGUOUS_USER
            if self._service_password is not None:
                self._bind_service(client)
        refusal = self._refused(BindAnswer(0), entry)
        return refusal or self._user(entry, groups_of(client, self.settings, entry))

    def _refused(self, answer: BindAnswer, entry: Entry) -> Refusal | None:
        """What the server says of the password comes first; its word on a lock is final, the entry's may be old."""
        refusal = accounts.refusal_of_bind(answer)
        return refusal or accounts.refusal_of(self._states(entry) - {AccountState.LOCKED})

    def _find(self, client: Client, name: str) -> Entry | Refusal:
        wanted = filters.login_filter(self.settings, name)
        if wanted is None:
            return UNKNOWN_USER
        found = client.search(self.settings.user_base, wanted, self._attributes, most=2)
        if len(found) > 1:
            return AMBIGUOUS_USER
        return found[0] if found else UNKNOWN_USER

    def _user(self, entry: Entry, groups: tuple[str, ...]) -> DirectoryUser:
        settings = self.settings
        return DirectoryUser(
            directory=settings.name,
            name=entry.text(settings.effective_name_attribute).lower(),
            dn=entry.dn,
            id=self._id(entry),
            mail=entry.text(settings.mail_attribute),
            display_name=entry.text(settings.effective_display_name_attribute),
            groups=groups,
            states=self._states(entry),
        )

    def _id(self, entry: Entry) -> str:
        if not self.settings.is_ad:
            return entry.text(self.settings.id_attribute).lower()
        values = entry.attributes.get(self.settings.id_attribute.lower(), ())
        return values[0].hex() if values else ""

    def _states(self, entry: Entry) -> frozenset[AccountState]:
        return accounts.states_of(entry.attributes, self._now(), is_ad=self.settings.is_ad)

    def _bind_service(self, client: Client) -> None:
        self._need_service_account()
        if self._service_password is not None:
            client.bind_service(self._service_password.reveal().decode())

    def _need_service_account(self) -> None:
        if self._service_password is None:
            raise DirectoryError(
                f"directory {self.settings.name} has no service account, so nobody can be looked up in it",
                fix="set bind_dn and bind_password_file",
            )


def refusal_of(error: DirectoryError) -> Refusal:
    """A sign-in that the directory could not decide on fails closed, and says which server and why."""
    return Refusal(error.code, error.message)


def read_password(file: Path) -> Secret:
    """The service account's password: the file's text without one line end.

    Raises:
        DirectoryError: it can't be read, can be read by others, or is no password.
    """
    try:
        mode = file.stat().st_mode
        content = file.read_bytes()
    except OSError as error:
        raise DirectoryError(f"the password file {file} can't be read: {error.strerror}") from None
    if mode & _OTHERS:
        raise DirectoryError(
            f"the password file {file} can be read by others than its owner", fix=f"chmod 600 {file}"
        )
    password = content.removesuffix(b"\n").removesuffix(b"\r")
    try:
        is_text = bool(password.decode())
    except UnicodeDecodeError:
        is_text = False
    if not is_text or len(content) > _LARGEST_PASSWORD_FILE:
        raise DirectoryError(f"the password file {file} has no password", fix="one line of UTF-8")
    return Secret(password)
