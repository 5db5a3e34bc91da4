"""`rate(…)`, `cron(…)` and `at(…)`, as EventBridge reads them.

A cron expression has six fields: minutes, hours, day of the month, month, day of the week (1 is Sunday), year. One of
the two kinds of day is `?`, which says nothing. Besides lists, ranges and steps there are `L` (the last), `W` (the
weekday that is nearest) and `#` (the n-th in its month).
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

UNITS: Final = {"minute": 60, "hour": 3_600, "day": 86_400}
MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
LOOK_AHEAD_DAYS: Final = 366 * 9
"""A 29th of February is at most eight years away."""

Next = Callable[[float], float | None]
"""Seconds since the epoch → those of the first moment after it; `None` if there is none any more."""


def parse(expression: str, timezone: str = "UTC", *, one_time: bool = False) -> Next:
    """The moments of an expression.

    Args:
        timezone: where `cron` and `at` are read.
        one_time: `at(…)` is allowed.

    Raises:
        ValueError: AWS would refuse it.
    """
    form = re.fullmatch(r"(rate|cron|at)\((.*)\)", expression)
    if form is None or (form[1] == "at" and not one_time):
        raise ValueError(f"{expression!r} isn't a schedule")
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    if form[1] == "rate":
        period = _period(form[2])
        return lambda after: after + period
    if form[1] == "at":
        moment = datetime.strptime(form[2], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=zone).timestamp()
        return lambda after: moment if moment > after else None
    cron = _Cron.parse(form[2].split())
    return lambda after: cron.after(after, zone)


def _period(text: str) -> float:
    """Seconds of `30 minutes`. One of a unit is singular, more are plural."""
    form = re.fullmatch(r"([1-9]\d*) (minute|hour|day)(s?)", text)
    if form is None or (form[1] == "1") == bool(form[3]):
        raise ValueError(f"rate({text}) isn't a rate")
    return float(int(form[1]) * UNITS[form[2]])


@dataclass(frozen=True)
class _Cron:
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    years: frozenset[int]
    fits: Callable[[date], bool]

    @classmethod
    def parse(cls, fields: list[str]) -> _Cron:
        if len(fields) != 6:
            raise ValueError("cron has six fields")
        minutes, hours, of_month, months, of_week, years = (field.upper() for field in fields)
        if (of_month == "?") == (of_week == "?"):
            raise ValueError("one of the two kinds of day is ?")
        return cls(
            tuple(sorted(_numbers(minutes, 0, 59))),
            tuple(sorted(_numbers(hours, 0, 23))),
            _numbers(months, 1, 12, MONTHS),
            _numbers(years, 1970, 2199),
            _day_of_month(of_month) if of_week == "?" else _day_of_week(of_week),
        )

    def after(self, moment: float, zone: tzinfo) -> float | None:
        """Walks whole days, then the times of the day that fits."""
        start = datetime.fromtimestamp(moment, zone).date()
        for ahead in range(-1, LOOK_AHEAD_DAYS):
            day = start + timedelta(days=ahead)
            if day.month not in self.months or day.year not in self.years or not self.fits(day):
                continue
            for hour in self.hours:
                for minute in self.minutes:
                    found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()
                    if found > moment:
                        return found
        return None


def _numbers(field: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    """The values that a field of lists, ranges and steps stands for."""

    def number(text: str) -> int:
        value = names.index(text) + low if text in names else int(text)
        if not low <= value <= high:
            raise ValueError(f"{text} isn't between {low} and {high}")
        return value

    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = low if first == "*" else number(first)
        end = high if first == "*" or (step and not last) else number(last or first)
        every = int(step) if step else 1
        if every < 1 or end < begin:
            raise ValueError(f"{part!r} is no part of a schedule")
        found.update(range(begin, end + 1, every))
    return frozenset(found)


def _day_of_month(field: str) -> Callable[[date], bool]:
    if field in ("L", "LW"):
        return lambda day: day == _nearest_weekday(day, _length(day), really=field == "LW")
    if form := re.fullmatch(r"(\d+)W", field):
        wanted = int(form[1])
        return lambda day: wanted <= _length(day) and day == _nearest_weekday(day, wanted, really=True)
    days = _numbers(field, 1, 31)
    return lambda day: day.day in days


def _day_of_week(field: str) -> Callable[[date], bool]:
    if form := re.fullmatch(r"(\w+)#([1-5])", field):
        (wanted,), nth = _numbers(form[1], 1, 7, DAYS), int(form[2])
        return lambda day: _weekday(day) == wanted and (day.day - 1) // 7 + 1 == nth
    if form := re.fullmatch(r"(\w*)L", field):
        (wanted,) = _numbers(form[1] or "7", 1, 7, DAYS)
        return lambda day: _weekday(day) == wanted and day.day + 7 > _length(day)
    days = _numbers(field, 1, 7, DAYS)
    return lambda day: _weekday(day) in days


def _weekday(day: date) -> int:
    return day.isoweekday() % 7 + 1


def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_weekday(day: date, number: int, *, really: bool) -> date:
    """That day of the month, or with `really` the weekday beside it that is in the same month."""
    found = day.replace(day=number)
    if not really or found.isoweekday() < 6:
        return found
    step = -1 if found.isoweekday() == 6 else 1
    beside = found + timedelta(days=step)
    return beside if beside.month == found.month else found - timedelta(days=2 * step)
