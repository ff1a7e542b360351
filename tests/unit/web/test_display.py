"""Values as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from web import display

NOW = datetime(2026, 5, 4, 17, 3, 21, 500000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1449, "1.4 kB"),
        (99_499, "99.5 kB"),
        (99_500, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (42_000_000_000, "42.0 GB"),
        (7 * 10**18, "7000 PB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    """Decimal units, never four digits before the point below the largest unit."""
    assert display.human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (119, "1 min"),
        (3600, "1 h"),
        (3 * 3600 + 12 * 60 + 5, "3 h 12 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """The two largest units, seconds only alone."""
    assert display.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-4, "just now"),
        (4, "just now"),
        (-59, "59 s ago"),
        (-119, "1 min ago"),
        (-7199, "1 h ago"),
        (-86_400 * 40, "40 d ago"),
        (8 * 3600 - 3, "in 8 h"),
        (61, "in 2 min"),
    ],
)
def test_relative_times(seconds: float, text: str) -> None:
    """The past is rounded down, the future up."""
    assert display.relative(NOW + timedelta(seconds=seconds), NOW) == text


def test_time_elements_carry_the_exact_time() -> None:
    """For machines and on hover; another zone is turned into UTC."""
    elsewhere = NOW.astimezone(datetime.strptime("+0200", "%z").tzinfo)
    assert display.clock(elsewhere) == (
        '<time datetime="2026-05-04T17:03:21.500+00:00" title="2026-05-04 17:03:21 UTC">2026-05-04 17:03:21</time>'
    )
    assert 'title="2026-05-04 17:03:21 UTC"' in display.ago(elsewhere)
    assert 'title="since 2026-05-04 17:03:21 UTC"' in display.since(elsewhere)
    assert display.ago(None) == "&ndash;"


@pytest.mark.parametrize(("hours_ago", "text"), [(0, "17:03 UTC"), (18, "3 May, 23:03 UTC")])
def test_a_recent_time_has_its_day_where_that_is_not_today(
    monkeypatch: pytest.MonkeyPatch, hours_ago: int, text: str
) -> None:
    """The exact time is on hover."""
    monkeypatch.setattr(display, "utc_now", lambda: NOW)
    shown = display.lately(NOW - timedelta(hours=hours_ago))
    assert f">{text}</time>" in shown
    assert f'title="{display.exact(NOW - timedelta(hours=hours_ago))}"' in shown


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.7:4500", "192.0.2.7"),
        ("[2001:db8::7]:4500", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_hosts(address: str, host: str) -> None:
    """The port says nothing to a person."""
    assert display.host(address) == host


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42, "0.4 ms"), (9.96, "10.0 ms"), (12.4, "12 ms"), (999.4, "999 ms"), (1402.5, "1.40 s")],
)
def test_milliseconds(value: float, text: str) -> None:
    """As many digits as mean something."""
    assert display.milliseconds(value) == text


@pytest.mark.parametrize(
    ("action", "words"),
    [("device.revoke", "Device revoked"), ("moon.phase-change", "Moon: phase change"), ("odd", "Odd"), ("", "")],
)
def test_actions(action: str, words: str) -> None:
    """Those that are not in the list are spelt out."""
    assert display.action_words(action) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (0, "0"),
        (["a", 1, None], "a, 1, -"),
        ({"a": 1, "b": [2]}, "a 1, b 2"),
        ([], ""),
    ],
)
def test_facts(value: object, text: str) -> None:
    """Whatever JSON an event's detail holds."""
    assert display.fact(value) == text


def test_names() -> None:
    """Of causes, of long identifiers, and what is unknown stays as it is."""
    assert display.cause_words("ADMIN_RESET") == "Admin reset"
    assert display.cause_words("") == "Unknown cause"
    assert display.shortened("5d6bacd13297b88d3183a869357fd8aa") == "5d6bacd13297…"
    assert display.shortened("ines-laptop") == "ines-laptop"


def test_every_action_that_the_console_writes_has_words() -> None:
    """A new one is to be said in words too."""
    import re
    from pathlib import Path

    root = Path(__file__).parents[3]
    pattern = re.compile(r'"((?:user|device|session|certificate|invitation|console|sign-in|gateway|ca)\.[a-z-]+)"')
    written = {
        action
        for part in ("web", "aaa", "pki", "posture")
        for file in (root / part).rglob("*.py")
        if file.name != "display.py"
        for action in pattern.findall(file.read_text(encoding="utf-8"))
    }
    assert written - set(display.ACTIONS) - {"user.name", "device.id", "gateway.ostiary"} == set()


def test_qr_codes_need_nothing_that_the_policy_forbids() -> None:
    """One inline element, black on white, with a name for who can't see it; other text, other picture."""
    import re

    from web.qr import qr_svg

    picture = qr_svg("otpauth://totp/Ostiary:maria?secret=JBSWY3DPEHPK3PXP&issuer=Ostiary")
    assert re.fullmatch(
        r'<svg role="img" aria-label="QR code[^"]*" viewBox="0 0 \d+ \d+">(<path [^>]*/>)+</svg>', picture
    )
    assert 'fill="#fff"' in picture
    assert 'stroke="#000"' in picture
    assert "style" not in picture
    assert qr_svg("otpauth://totp/Ostiary:jude") != picture


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("plain", "plain"),
        ("run `ostiary check` now", "run <code>ostiary check</code> now"),
        ("`a` and `b`", "<code>a</code> and <code>b</code>"),
        ("one ` alone", "one ` alone"),
        ("<b> `<i>`", "&lt;b&gt; <code>&lt;i&gt;</code>"),
        ("", ""),
    ],
)
def test_code_within_text(text: str, markup: str) -> None:
    """Nothing in it is markup of its own."""
    assert display.with_code(text) == markup
