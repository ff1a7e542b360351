from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.access_hours import AccessHours
from core.settings import RuleSettings

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_S = 3600.0


def hours(**values: Any) -> AccessHours:
    made = AccessHours.from_settings(
        RuleSettings.model_validate({"name": "rule", "time_zone": "Europe/Berlin", **values})
    )
    assert made is not None
    return made


def at(text: str) -> datetime:
    """In Berlin; 2026-11-23 is a Monday."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def test_a_rule_without_holds_at_all_times() -> None:
    assert AccessHours.from_settings(RuleSettings(name="rule", time_zone="Europe/Berlin")) is None


@pytest.mark.parametrize(
    ("moment", "left_h"),
    [
        ("2026-11-23T07:59:59", None),
        ("2026-11-23T08:00:00", 10.5),
        ("2026-11-23T18:00:00", 0.5),
        ("2026-11-23T18:30:00", None),
        ("2026-11-28T12:00:00", None),
    ],
)
def test_hours_of_some_days(moment: str, left_h: float | None) -> None:
    office = hours(days=["mon", "tue", "wed", "thu", "fri"], hours="08:00-18:30")
    assert office.left_s(at(moment)) == (left_h * HOUR_S if left_h is not None else None)


@pytest.mark.parametrize(
    ("moment", "left_h"),
    [
        ("2026-11-27T21:59:00", None),
        ("2026-11-27T22:00:00", 8.0),
        ("2026-11-28T05:00:00", 1.0),
        ("2026-11-28T06:00:00", None),
        ("2026-11-27T05:00:00", None),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(moment: str, left_h: float | None) -> None:
    assert hours(days=["fri"], hours="22:00-06:00").left_s(at(moment)) == (left_h * HOUR_S if left_h else None)


def test_days_in_a_row_are_one_time() -> None:
    weekend = hours(days=["sat", "sun"])
    assert weekend.left_s(at("2026-11-28T00:00:00")) == 48 * HOUR_S
    assert weekend.left_s(at("2026-11-30T00:00:00")) is None
    assert hours(days=["mon", "tue", "wed", "thu", "fri", "sat", "sun"]).left_s(at("2026-11-28T00:00:00")) == math.inf


def test_the_day_on_which_the_clock_goes_back_has_25_hours() -> None:
    assert hours(days=["sun"]).left_s(at("2026-10-25T00:00:00")) == 25 * HOUR_S
    assert hours(hours="01:00-04:00").left_s(at("2026-03-29T01:00:00")) == 2 * HOUR_S


@given(
    st.sets(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1),
    st.times(),
    st.times(),
    st.integers(1_600_000_000, 2_200_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_until_they_end_they_hold(days: set[str], begin: Any, end: Any, moment: datetime) -> None:
    span = f"{begin:%H:%M}-{end:%H:%M}"
    some = hours(days=sorted(days), **({} if span[:5] == span[6:] else {"hours": span}))
    left_s = some.left_s(moment)
    if left_s is None or left_s == math.inf:
        return
    last = moment + timedelta(seconds=left_s) - timedelta(microseconds=1)
    assert some.left_s(last) == pytest.approx(1e-6)
    assert some.left_s(last + timedelta(microseconds=1)) is None
