"""When a rule holds: days of the week and hours of the day, in the time of some place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from core.settings import RuleSettings

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK_DAYS = 7


@dataclass(frozen=True, slots=True)
class AccessHours:
    """Hours that belong to the day on which they begin, and may end on the next."""

    days: frozenset[int]
    """0 is Monday."""
    begin: time
    end: time
    """Not after `begin`: on the next day."""
    zone: ZoneInfo

    @classmethod
    def from_settings(cls, settings: RuleSettings) -> AccessHours | None:
        """As a rule has them; None where it holds at all times."""
        if not settings.days and settings.hours is None:
            return None
        begin, end = (settings.hours or "00:00-00:00").split("-")
        days = frozenset(_DAYS.index(day) for day in settings.days or _DAYS)
        return cls(days, time.fromisoformat(begin), time.fromisoformat(end), ZoneInfo(settings.time_zone))

    def left_s(self, at: datetime) -> float | None:
        """Seconds until they end; infinite where they never do, None outside of them.

        Args:
            at: a moment, with its time zone.
        """
        end = at
        for _ in range(_WEEK_DAYS + 1):
            later = self._end_of_those_that_hold(end)
            if later is None:
                break
            end = later
        else:
            return math.inf
        return (end - at).total_seconds() if end > at else None

    def _end_of_those_that_hold(self, at: datetime) -> datetime | None:
        today = at.astimezone(self.zone).date()
        for day in (today, today - timedelta(days=1)):
            if day.weekday() in self.days:
                begin = self._moment(day, self.begin)
                end = self._moment(day if self.end > self.begin else day + timedelta(days=1), self.end)
                if begin <= at < end:
                    return end
        return None

    def _moment(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, self.zone).astimezone(UTC)

    def __str__(self) -> str:
        days = ", ".join(_DAYS[day] for day in sorted(self.days)) if len(self.days) < _WEEK_DAYS else "every day"
        hours = "" if self.begin == self.end else f" {self.begin:%H:%M}-{self.end:%H:%M}"
        return f"{days}{hours} {self.zone.key}"
