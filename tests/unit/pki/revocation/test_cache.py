from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pki.revocation import cache as cache_module
from pki.revocation.cache import RevocationCache
from pki.revocation.crl import CheckedCrl, check_crl
from pki.revocation.evidence import CLOCK_SKEW, Evidence
from tests.unit.pki.foreign_forge import Company, user_certificate
from tests.unit.pki.forge import NOW
from tests.unit.pki.revocation.responder import HOUR, crl

CORP = Company()
ISSUER = CORP.issuing.certificate
ALICE = user_certificate(CORP.issuing)
MINUTE = timedelta(minutes=1)


def evidence(this_update: datetime = NOW, *, revoked: bool = False) -> Evidence:
    return Evidence(revoked, "OCSP", this_update, this_update + 2 * HOUR)


def checked(this_update: datetime = NOW, size: int = 1) -> CheckedCrl:
    return check_crl(
        crl(CORP.issuing, range(1, size + 1), this_update=this_update, next_update=this_update + 2 * HOUR),
        ISSUER,
        this_update,
    )


@pytest.fixture
def cache() -> RevocationCache:
    return RevocationCache(HOUR, 100_000)


def test_keeps_an_answer_until_its_end(cache: RevocationCache) -> None:
    cache.keep_answer(ALICE, ISSUER, evidence(), NOW)
    kept = cache.answer(ALICE, ISSUER, NOW + 2 * HOUR)
    assert kept is not None
    assert (kept.statement, kept.refresh_at) == (evidence(), NOW + HOUR)
    assert cache.answer(ALICE, ISSUER, NOW + 2 * HOUR + MINUTE) is None
    # What has ended is gone, even for one whose clock goes back.
    assert cache.answer(ALICE, ISSUER, NOW) is None


def test_keeps_answers_apart(cache: RevocationCache) -> None:
    cache.keep_answer(ALICE, ISSUER, evidence(), NOW)
    assert cache.answer(user_certificate(CORP.issuing, serial=2), ISSUER, NOW) is None
    assert cache.answer(ALICE, CORP.root.certificate, NOW) is None


def test_a_newer_one_is_not_replaced_by_an_older(cache: RevocationCache) -> None:
    cache.keep_answer(ALICE, ISSUER, evidence(revoked=True), NOW)
    cache.keep_answer(ALICE, ISSUER, evidence(NOW - MINUTE), NOW + MINUTE)
    kept = cache.answer(ALICE, ISSUER, NOW)
    assert kept is not None
    assert kept.statement.revoked
    cache.keep_answer(ALICE, ISSUER, evidence(NOW + MINUTE), NOW + MINUTE)
    kept = cache.answer(ALICE, ISSUER, NOW)
    assert kept is not None
    assert not kept.statement.revoked


def test_the_same_again_does_not_make_it_older(cache: RevocationCache) -> None:
    cache.keep_crl(ISSUER, "http://a/", checked(), NOW + 30 * MINUTE)
    cache.keep_crl(ISSUER, "http://a/", checked(), NOW)
    kept = cache.crl(ISSUER, "http://a/", NOW)
    assert kept is not None
    assert kept.refresh_at == NOW + 30 * MINUTE + HOUR
    assert kept.statement.expires_at == NOW + 2 * HOUR + CLOCK_SKEW


def test_lists_are_bounded_in_bytes_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    big = checked(size=200)
    cache = RevocationCache(HOUR, 3 * big.size_bytes)
    for number in range(5):
        cache.keep_crl(ISSUER, str(number), big, NOW)
    assert [number for number in range(5) if cache.crl(ISSUER, str(number), NOW)] == [2, 3, 4]
    # One is kept, however large.
    tiny = RevocationCache(HOUR, 1)
    tiny.keep_crl(ISSUER, "0", big, NOW)
    assert tiny.crl(ISSUER, "0", NOW) is not None
    monkeypatch.setattr(cache_module, "MOST_CRLS", 2)
    for number in range(5):
        cache.keep_crl(ISSUER, str(number), checked(), NOW)
    assert sum(cache.crl(ISSUER, str(number), NOW) is not None for number in range(5)) == 2


def test_answers_are_bounded_and_those_in_use_stay(cache: RevocationCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MOST_ANSWERS", 3)
    certificates = [user_certificate(CORP.issuing, serial=number) for number in range(1, 5)]
    for certificate in certificates[:3]:
        cache.keep_answer(certificate, ISSUER, evidence(), NOW)
    assert cache.answer(certificates[0], ISSUER, NOW)
    cache.keep_answer(certificates[3], ISSUER, evidence(), NOW)
    assert [cache.answer(one, ISSUER, NOW) is not None for one in certificates] == [True, False, True, True]


def test_failures_are_remembered_for_a_while(cache: RevocationCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.keep_failure("a", "no answer", NOW + MINUTE)
    assert cache.failure("a", NOW) == "no answer"
    assert cache.failure("a", NOW + MINUTE) is None
    assert cache.failure("b", NOW) is None
    monkeypatch.setattr(cache_module, "MOST_FAILURES", 2)
    for key in "bcd":
        cache.keep_failure(key, key, NOW + MINUTE)
    assert [cache.failure(key, NOW) for key in "abcd"] == [None, None, "c", "d"]
