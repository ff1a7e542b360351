"""Decides on a whole path: what is known, what has to be asked, whom, and for how long.

Every certificate but the root is checked, all at the same time. For each one, sources are asked one after the
other, OCSP first, the next one as soon as the one before has failed or lets wait. The same question is never under
way twice, what was fetched too late for one sign-in is there for the next, and what was just seen to fail is
left alone for a while.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import structlog
from cryptography import x509

from core.settings import RevocationSettings
from pki.revocation.cache import Kept, RevocationCache, fingerprint
from pki.revocation.crl import CheckedCrl, check_crl, look_up
from pki.revocation.destinations import Destinations
from pki.revocation.evidence import (
    Busy,
    Evidence,
    NotKnown,
    NotUsable,
    OtherIssuer,
    PathStatus,
    RevocationState,
    Stapled,
)
from pki.revocation.fetch import Fetcher
from pki.revocation.locations import crl_urls, ocsp_urls
from pki.revocation.ocsp import LARGEST_RESPONSE_BYTES, check_ocsp_response, ocsp_request

NEXT_SOURCE_AFTER_S = 1.0
"""So long the first source may let wait before the next one is asked as well."""
REFRESH_WAIT_S = 1.0
"""So long a sign-in waits for something newer than what is known and still counts."""
RETRY_AFTER = timedelta(seconds=30)
"""So long a source that failed is left alone."""
FETCHES_AT_ONCE = 4
MOST_WAITING_FETCHES = 64
MOST_STAPLED = 8
"""Responses and lists that a peer may send along; more are not looked at."""
LARGEST_STAPLED_BYTES = 64 * 1024
_NONCE_BYTES = 16
_MOST_REMEMBERED_OUTAGES = 1024
_LONGEST_SHOWN_URL = 200

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(slots=True)
class Sources:
    """Where one authority's certificates are asked for."""

    authority: str
    ocsp_urls: tuple[str, ...]
    crl_urls: tuple[str, ...]
    """The operator's; empty means what the certificates name."""
    destinations: Destinations
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FETCHES_AT_ONCE))
    """One slow authority must not take the place of the others."""
    waiting: int = 0

    def key(self, url: str) -> Hashable:
        """What is known of a source is known for one authority: another one may not be allowed to ask it."""
        return (self.authority, url)

    def ocsp_of(self, certificate: x509.Certificate) -> tuple[str, ...]:
        """The responders to ask."""
        return self.ocsp_urls or ocsp_urls(certificate)

    def crls_of(self, certificate: x509.Certificate) -> tuple[str, ...]:
        """The lists to fetch."""
        return self.crl_urls or crl_urls(certificate)


@dataclass(frozen=True, slots=True)
class _Question:
    """One certificate of a path."""

    sources: Sources
    certificate: x509.Certificate
    issuer: x509.Certificate


_Attempt = tuple[str, Callable[[], "asyncio.Task[Evidence]"]]
"""A source by name, and how to ask it."""


class PathChecker:
    """Checks paths. Used on one event loop.

    Args:
        settings: how long to wait and to remember.
        fetcher: fetches by HTTP.
        now: the time, aware.
        random: gives as many random bytes as it is asked for.
    """

    def __init__(
        self,
        settings: RevocationSettings,
        fetcher: Fetcher,
        now: Callable[[], datetime],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._now = now
        self._random = random
        self._lifetime = timedelta(seconds=settings.cache_lifetime_s)
        self._cache = RevocationCache(self._lifetime, 4 * settings.crl_limit_bytes)
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._outages: OrderedDict[Hashable, datetime] = OrderedDict()

    async def check(self, sources: Sources, path: Sequence[x509.Certificate], stapled: Stapled) -> PathStatus:
        """Whether any certificate of a path was revoked; ends within `timeout_s`.

        Args:
            sources: of the authority that the path belongs to.
            path: from the client's certificate to the root, checked but for revocation.
            stapled: what the client sent along.
        """
        questions = [_Question(sources, certificate, issuer) for certificate, issuer in pairwise(path)]
        self._take_stapled(questions, stapled)
        findings = await asyncio.gather(*(self._find(question) for question in questions))
        for state in (RevocationState.REVOKED, RevocationState.UNKNOWN):
            reasons = [finding.reason for finding in findings if finding.state is state]
            if reasons:
                return PathStatus(state, "; ".join(reasons))
        return PathStatus(RevocationState.GOOD, "; ".join(finding.reason for finding in findings))

    async def _find(self, question: _Question) -> PathStatus:
        now = self._now()
        known = self._known(question, now)
        fresh = [kept.statement for kept in known if now < kept.refresh_at]
        final = [kept.statement for kept in known if kept.statement.final]
        if final or fresh:
            return _status(question, _worst(final or fresh))
        wait_s = min(REFRESH_WAIT_S, self._settings.timeout_s) if known else self._settings.timeout_s
        answer, problems = await _ask(list(self._attempts(question)), wait_s)
        if answer is not None:
            return _status(question, answer)
        because = "; ".join(problems) or "it names no OCSP responder and no CRL that could be asked"
        if known:
            newest = max((kept.statement for kept in known), key=lambda statement: statement.this_update)
            return _status(question, newest, f", nothing newer: {because}")
        return PathStatus(
            RevocationState.UNKNOWN, f"nobody says whether {_name(question.certificate)} was revoked: {because}"
        )

    # --- What is known --------------------------------------------------------------------------------------

    def _known(self, question: _Question, now: datetime) -> list[Kept[Evidence]]:
        certificate, issuer = question.certificate, question.issuer
        answer = self._cache.answer(certificate, issuer, now)
        known = [answer] if answer is not None else []
        for url in ("", *question.sources.crls_of(certificate)):
            kept = self._cache.crl(issuer, url, now)
            if kept is not None:
                try:
                    known.append(Kept(look_up(kept.statement, certificate, now), kept.refresh_at))
                except NotUsable:
                    continue
        return known

    def _take_stapled(self, questions: Sequence[_Question], stapled: Stapled) -> None:
        """Keep what a peer sent, as far as it can be believed. It is its own choice, so that it ages from the time
        at which it was signed."""
        now = self._now()
        for der in stapled.ocsp_responses[:MOST_STAPLED]:
            for question in questions:
                try:
                    answer = check_ocsp_response(der, question.certificate, question.issuer, now)
                except NotUsable:
                    continue
                if answer.unchecked_responder is None:
                    evidence = answer.evidence
                    self._cache.keep_answer(question.certificate, question.issuer, evidence, evidence.this_update)
        for der in stapled.crls[:MOST_STAPLED]:
            if len(der) > LARGEST_STAPLED_BYTES:
                continue
            for question in questions:
                try:
                    crl = check_crl(der, question.issuer, now)
                except NotUsable:
                    continue
                self._cache.keep_crl(question.issuer, "", crl, crl.this_update)

    # --- Asking ---------------------------------------------------------------------------------------------

    def _attempts(self, question: _Question) -> Iterator[_Attempt]:
        for url in question.sources.ocsp_of(question.certificate):
            yield f"OCSP {url[:_LONGEST_SHOWN_URL]}", partial(self._ask_responder, question, url)
        for url in question.sources.crls_of(question.certificate):
            yield f"CRL {url[:_LONGEST_SHOWN_URL]}", partial(self._ask_list, question, url)

    def _ask_responder(self, question: _Question, url: str) -> asyncio.Task[Evidence]:
        key = ("ocsp", url, fingerprint(question.issuer), question.certificate.serial_number)
        return self._shared(key, self._by_ocsp(question, url, key))

    def _ask_list(self, question: _Question, url: str) -> asyncio.Task[Evidence]:
        key = ("in list", url, fingerprint(question.issuer), question.certificate.serial_number)
        return self._shared(key, self._by_crl(question, url))

    async def _by_ocsp(self, question: _Question, url: str, key: Hashable) -> Evidence:
        certificate, issuer, sources = question.certificate, question.issuer, question.sources
        self._raise_failure(key, self._now())
        nonce = self._random(_NONCE_BYTES)
        der = await self._fetch(sources, url, ocsp_request(certificate, issuer, nonce), LARGEST_RESPONSE_BYTES)
        now = self._now()
        try:
            answer = check_ocsp_response(der, certificate, issuer, now, nonce=nonce)
            if answer.unchecked_responder is not None:
                await self._check_responder(question, answer.unchecked_responder)
        except NotUsable as error:
            self._not_usable(sources, url, key, error)
            raise
        self._worked(sources, url)
        self._cache.keep_answer(certificate, issuer, answer.evidence, now)
        return answer.evidence

    async def _check_responder(self, question: _Question, responder: x509.Certificate) -> None:
        """By CRLs only, so that responders don't vouch for each other in a circle; where the CA names none, it leaves
        the choice to us, and the certificate's own end has to do (RFC 6960 section 4.2.2.2.1)."""
        problem = "no CRL says so"
        urls = question.sources.crls_of(responder)
        for url in urls:
            try:
                crl = await self._crl(question.sources, url, question.issuer)
                evidence = look_up(crl, responder, self._now())
            except NotUsable as error:
                problem = error.message
                continue
            if evidence.revoked:
                raise NotUsable(f"the OCSP responder's certificate was revoked {evidence.detail}")
            return
        if urls:
            raise NotUsable(f"it is not known whether the OCSP responder's certificate was revoked: {problem}")

    async def _by_crl(self, question: _Question, url: str) -> Evidence:
        crl = await self._crl(question.sources, url, question.issuer)
        return look_up(crl, question.certificate, self._now())

    async def _crl(self, sources: Sources, url: str, issuer: x509.Certificate) -> CheckedCrl:
        now = self._now()
        kept = self._cache.crl(issuer, url, now)
        if kept is not None and now < kept.refresh_at:
            return kept.statement
        key = ("list", url, fingerprint(issuer))
        self._raise_failure(key, now)
        return await self._shared(key, self._fetch_crl(sources, url, issuer, key))

    async def _fetch_crl(self, sources: Sources, url: str, issuer: x509.Certificate, key: Hashable) -> CheckedCrl:
        # Another CA of the path may be waiting for the same list.
        limit_bytes = self._settings.crl_limit_bytes
        der = await self._shared(("get", sources.key(url)), self._fetch(sources, url, b"", limit_bytes))
        now = self._now()
        try:
            crl = check_crl(der, issuer, now)
        except NotUsable as error:
            self._not_usable(sources, url, key, error)
            raise
        self._worked(sources, url)
        self._cache.keep_crl(issuer, url, crl, now)
        return crl

    async def _fetch(self, sources: Sources, url: str, body: bytes, limit_bytes: int) -> bytes:
        key = sources.key(url)
        self._raise_failure(key, self._now())
        if sources.waiting >= MOST_WAITING_FETCHES:
            raise Busy("too much is being fetched for this authority")
        sources.waiting += 1
        try:
            async with sources.slots:
                # It may have failed while this one waited for its turn.
                self._raise_failure(key, self._now())
                if body:
                    media_type = "application/ocsp-request"
                    document = await self._fetcher.post(
                        url, sources.destinations, body, media_type, limit_bytes=limit_bytes
                    )
                else:
                    document = await self._fetcher.get(url, sources.destinations, limit_bytes=limit_bytes)
        except Busy:
            raise
        except NotUsable as error:
            if self._cache.failure(key, self._now()) is None:
                self._cache.keep_failure(key, error.message, self._now() + RETRY_AFTER)
                self._failed(sources, url, error)
            raise
        finally:
            sources.waiting -= 1
        return document

    def _shared(self, key: Hashable, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """The task that does this work; one that does it already takes the place of a second one."""
        task = self._under_way.get(key)
        if task is not None:
            work.close()
            return task
        task = asyncio.get_running_loop().create_task(work)
        self._under_way[key] = task
        task.add_done_callback(lambda done: self._done(key, done))
        return task

    def _done(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            # Nobody may be waiting for it any more; asyncio complains about errors that nobody has seen.
            error = task.exception()
            if error is not None and not isinstance(error, NotUsable):
                _log.error("a revocation check stumbled", exc_info=error)

    # --- Failures -------------------------------------------------------------------------------------------

    def _raise_failure(self, key: Hashable, now: datetime) -> None:
        reason = self._cache.failure(key, now)
        if reason is not None:
            raise NotUsable(reason)

    def _not_usable(self, sources: Sources, url: str, key: Hashable, error: NotUsable) -> None:
        """It answered, but with nothing to believe for this certificate or CA."""
        if isinstance(error, OtherIssuer):
            self._cache.keep_failure(key, error.message, self._now() + self._lifetime)
            return
        self._cache.keep_failure(key, error.message, self._now() + RETRY_AFTER)
        if not isinstance(error, NotKnown):
            self._failed(sources, url, error)

    def _failed(self, sources: Sources, url: str, error: NotUsable) -> None:
        if sources.key(url) in self._outages:
            return
        self._outages[sources.key(url)] = self._now()
        if len(self._outages) > _MOST_REMEMBERED_OUTAGES:
            self._outages.popitem(last=False)
        _log.warning("a revocation source fails", authority=sources.authority, url=url, reason=error.message)

    def _worked(self, sources: Sources, url: str) -> None:
        since = self._outages.pop(sources.key(url), None)
        if since is not None:
            failed_s = round((self._now() - since).total_seconds())
            _log.warning("a revocation source works again", authority=sources.authority, url=url, failed_s=failed_s)


async def _ask(attempts: Sequence[_Attempt], wait_s: float) -> tuple[Evidence | None, list[str]]:
    """The first answer that can be believed, or why there is none."""
    loop = asyncio.get_running_loop()
    deadline, next_at = loop.time() + wait_s, 0.0
    left = list(attempts)
    asked: dict[asyncio.Task[Evidence], str] = {}
    problems: list[str] = []
    while left or asked:
        now = loop.time()
        if left and (not asked or now >= next_at):
            name, ask = left.pop(0)
            asked[ask()] = name
            next_at = now + NEXT_SOURCE_AFTER_S
        timeout = min(deadline, next_at) if left else deadline
        # Not cancelled where it takes too long: what it brings is kept for the next sign-in.
        done, _ = await asyncio.wait(asked, timeout=max(timeout - now, 0.0), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            name = asked.pop(task)
            try:
                return task.result(), problems
            except NotUsable as error:
                problems.append(f"{name}: {error.message}")
            except Exception:
                # It was logged where it happened.
                problems.append(f"{name}: internal error")
        if loop.time() >= deadline:
            problems += [f"{name}: no answer in time" for name in asked.values()]
            break
    return None, problems


def _worst(statements: Sequence[Evidence]) -> Evidence:
    """Where two contradict each other, the one that says revoked counts."""
    return next((statement for statement in statements if statement.revoked), statements[0])


def _status(question: _Question, evidence: Evidence, note: str = "") -> PathStatus:
    name = _name(question.certificate)
    said = f"{evidence.source} of {evidence.this_update:%Y-%m-%d %H:%M} UTC{note}"
    if evidence.revoked:
        return PathStatus(RevocationState.REVOKED, f"{name} was revoked {evidence.detail} (by {said})")
    return PathStatus(RevocationState.GOOD, f"{name} is good by {said}")


def _name(certificate: x509.Certificate) -> str:
    return f"the certificate {certificate.serial_number:x}"
