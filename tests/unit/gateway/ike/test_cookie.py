"""Cookies: bound to nonce, address and SPI, and short-lived."""

from __future__ import annotations

from random import Random

import pytest

from gateway.ike.cookie import ROTATION_S, CookieJar

NONCE, ADDRESS, SPI = b"n" * 32, "198.51.100.7", b"spi-i..."
START = 5000.0


@pytest.fixture
def jar() -> CookieJar:
    return CookieJar(Random(1).randbytes, START)


def test_a_cookie_is_good_for_its_request(jar: CookieJar) -> None:
    cookie = jar.make(NONCE, ADDRESS, SPI, START)
    assert 1 <= len(cookie) <= 64
    assert jar.check(cookie, NONCE, ADDRESS, SPI, START)


@pytest.mark.parametrize(
    ("nonce", "address", "spi"),
    [
        (b"m" * 32, ADDRESS, SPI),
        (NONCE[:-1], ADDRESS, SPI),
        (NONCE, "198.51.100.8", SPI),
        (NONCE, ADDRESS, b"spi-i..!"),
        (NONCE + b"\0" + ADDRESS.encode(), "", SPI),
    ],
)
def test_and_for_no_other(jar: CookieJar, nonce: bytes, address: str, spi: bytes) -> None:
    assert not jar.check(jar.make(NONCE, ADDRESS, SPI, START), nonce, address, spi, START)


@pytest.mark.parametrize("bit", range(0, 17 * 8, 5))
def test_a_changed_cookie_is_not_taken(jar: CookieJar, bit: int) -> None:
    cookie = bytearray(jar.make(NONCE, ADDRESS, SPI, START))
    cookie[bit // 8] ^= 1 << bit % 8
    assert not jar.check(bytes(cookie), NONCE, ADDRESS, SPI, START)


@pytest.mark.parametrize("cookie", [b"", b"\0", b"\0" * 16, b"\0" * 17, b"\0" * 18, b"\0" * 64])
def test_nor_is_one_of_another_length(jar: CookieJar, cookie: bytes) -> None:
    assert not jar.check(cookie, NONCE, ADDRESS, SPI, START)


@pytest.mark.parametrize(
    ("age_s", "good"),
    [
        (0.0, True),
        (ROTATION_S - 1, True),
        (ROTATION_S + 1, True),
        (2 * ROTATION_S + 1, False),
        (1000 * ROTATION_S, False),
    ],
)
def test_it_lives_through_one_rotation(jar: CookieJar, age_s: float, good: bool) -> None:
    cookie = jar.make(NONCE, ADDRESS, SPI, START)
    assert jar.check(cookie, NONCE, ADDRESS, SPI, START + age_s) is good


def test_it_does_not_live_through_two_even_under_load(jar: CookieJar) -> None:
    cookie = jar.make(NONCE, ADDRESS, SPI, START)
    for second in range(int(2 * ROTATION_S)):
        jar.make(NONCE, ADDRESS, SPI, START + second)
    assert not jar.check(cookie, NONCE, ADDRESS, SPI, START + 2 * ROTATION_S)


def test_versions_wrap(jar: CookieJar) -> None:
    for turn in range(600):
        now = START + turn * ROTATION_S
        cookie = jar.make(NONCE, ADDRESS, SPI, now)
        assert jar.check(cookie, NONCE, ADDRESS, SPI, now)
        assert jar.check(cookie, NONCE, ADDRESS, SPI, now + ROTATION_S)


def test_two_jars_do_not_share_a_secret() -> None:
    one, other = CookieJar(Random(1).randbytes, START), CookieJar(Random(2).randbytes, START)
    assert not other.check(one.make(NONCE, ADDRESS, SPI, START), NONCE, ADDRESS, SPI, START)
