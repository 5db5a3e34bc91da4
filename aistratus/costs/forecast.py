"""Forecasts a month's cost, with a range, from the cost of its days so far.

Standing costs continue as they are. The node's cost varies from day to day: the mean of the latest days is taken for
each day that is left, and their standard deviation for the range, which holds in four of five cases if the days vary as
before. The range never goes below what is spent and what stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from aistratus.costs import meter
from aistratus.costs.meter import NOTHING, Tariff
from aistratus.costs.spans import Span

DAY_MS: Final = 86_400_000
DAYS: Final = 14
"""The number of past days that count."""
FOUR_OF_FIVE: Final = Decimal("1.2816")
"""80 % of a normal distribution lie within this many standard deviations."""
FEW: Final = 3
"""With fewer days than this the range is a guess: up to three times the mean."""


@dataclass(frozen=True)
class Forecast:
    """USD by the end of the month: expected, and the range; `days`: the number of past days it is based on."""

    usd: Decimal
    low: Decimal
    high: Decimal
    days: int


def forecast(spans: Sequence[Span], tariff: Tariff, now_ms: int, known_ms: int) -> Forecast:
    """The forecast for the current UTC month.

    Args:
        known_ms: the first moment that anything is known of.
    """
    begin_ms, end_ms = meter.month_of(now_ms)
    spent = meter.bill(meter.stretches(spans, tariff, now_ms), begin_ms, now_ms).usd
    stands = meter.stretches((), tariff, end_ms)
    certain = spent + meter.bill(stands, now_ms, end_ms).usd
    if tariff.now is not None and not tariff.now.lines:
        return Forecast(certain, certain, certain, DAYS)  # it was taken down: nothing is left that could cost more
    node = meter.stretches(spans, replace(tariff, standings=_addresses(tariff)), now_ms)
    back = range(1, DAYS + 1)
    days = [now_ms - number * DAY_MS for number in back if now_ms - number * DAY_MS >= known_ms]
    each = [meter.bill(node, since, since + DAY_MS).usd for since in days]
    left = Decimal(end_ms - now_ms) / DAY_MS
    if not each:
        # Less than a day is known: the part of it that is, as if all days were so.
        part = Decimal(max(now_ms - known_ms, meter.HOUR_MS)) / DAY_MS
        each = [meter.bill(node, known_ms, now_ms).usd / part]
    mean = sum(each, NOTHING) / len(each)
    expected = certain + mean * left
    if len(days) < FEW:
        return Forecast(expected, certain, certain + 3 * mean * left, len(days))
    spread = FOUR_OF_FIVE * _deviation(each, mean) * left.sqrt() * (1 + 1 / Decimal(len(each))).sqrt()
    return Forecast(expected, max(certain, expected - spread), expected + spread, len(days))


def _addresses(tariff: Tariff) -> tuple[meter.Standing, ...]:
    """The standings without their costs: they are kept because the node's address is priced by them."""
    key = {"": meter.Line()}
    return tuple(replace(one, lines=key if one.lines else {}) for one in tariff.standings)


def _deviation(values: Sequence[Decimal], mean: Decimal) -> Decimal:
    return (sum(((value - mean) ** 2 for value in values), NOTHING) / max(1, len(values) - 1)).sqrt()
