"""A day's cost as a bar, and the bar in a terminal. `days.py` draws the same bars as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Day:
    """One bar: amounts by item.

    month: what the day's month, which AWS counts in UTC, had cost by its end.
    """

    day: date
    parts: Mapping[str, Decimal]
    month: Decimal

    @property
    def total(self) -> Decimal:
        return sum(self.parts.values(), Decimal(0))


def bar(value: Decimal, most: Decimal, width: int) -> str:
    """A bar of block characters, its share of `width` characters; any amount above zero is visible."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(float(value / most) * width * 8))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
