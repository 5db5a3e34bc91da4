"""Days as bars: what a day is, and its bar at a terminal. `days.py` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Day:
    """One bar: amounts by what they were spent on.

    month: what the day's month, which AWS counts in UTC, had cost by its end.
    """

    day: date
    parts: Mapping[str, Decimal]
    month: Decimal

    @property
    def total(self) -> Decimal:
        return sum(self.parts.values(), Decimal(0))


def bar(value: Decimal, most: Decimal, width: int) -> str:
    """A bar of block characters, as long as its share of `width` characters; what is more than nothing is seen."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(float(value / most) * width * 8))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
