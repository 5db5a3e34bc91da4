"""Meters costs from what ran, and when, and its prices: pure, to the second.

A span costs the hourly price of its machine and of its public address, for at least a minute; a burstable type also
costs the CPU credits that its model used beyond the type's baseline. Standing costs (volume, secret, alarms, rules) are
hourly or by calendar month, in UTC, as AWS bills and budgets. EC2 bills neither the seconds in which an instance is
`pending` nor those in which it stops; the former are counted here, because nothing records their end. Sources: EC2 user
guide, "Instance lifecycle"; EC2 API reference, StartInstances (a minute at least).

It ships with the functions, so that the guard meters with the same code: standard library and `spans` only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

from aistratus.costs.spans import Span

LEAST_MS: Final = 60_000
"""EC2 bills at least a minute for each start."""
HOUR_MS: Final = 3_600_000
KEPT_STANDINGS: Final = 100
"""Older changes of the standing costs are dropped, because a DynamoDB item holds at most 400 KB."""

ADDRESS: Final = "address"
CREDITS: Final = "CPU credits"
NOTHING: Final = Decimal(0)


def of_last_month(last: Mapping[str, Any], month: str, usd: float) -> bool:
    """Whether a budget still reports the last month's figure. AWS computes it up to three times a day.

    A month begins at nothing, so a figure that isn't below the one that was told last can't be trusted on its first
    day. The budget's `LastUpdatedTime` doesn't tell: it is when we have changed it. Source: Budgets API reference,
    Budget.

    Args:
        last: the last daily summary (`wire.SUMMARY_PK`): its day, and what the month had cost by then.
        month: the one that has begun, such as `2026-11`.
    """
    return not str(last.get("day", month)).startswith(month) and 0 < float(last.get("usd", 0)) <= usd


@dataclass(frozen=True)
class Line:
    """One resource's standing cost in USD without tax, per calendar month and per hour; `None`: unknown."""

    month: Decimal | None = NOTHING
    hour: Decimal | None = NOTHING


@dataclass(frozen=True)
class Standing:
    """The standing costs from a time on, by resource key; empty after `down`.

    address_hour: what an hour costs of the public address that a running node has; 0 where it has none.
    """

    since_ms: int
    lines: Mapping[str, Line]
    address_hour: Decimal | None = NOTHING


@dataclass(frozen=True)
class Burst:
    """A burstable type: the credits' price (USD) of an hour at full load, and what each hour includes for free.

    Above a type's baseline AWS takes money for surplus credits, which are settled at the latest when it stops.
    Source: EC2 user guide, "Unlimited mode for burstable performance instances".
    """

    busy_hour: Decimal
    baseline_hour: Decimal


@dataclass(frozen=True)
class Tariff:
    """Standing costs over time, each instance type's hourly price (USD), and burstable types' credits."""

    standings: tuple[Standing, ...] = ()
    hours: Mapping[str, Decimal] = field(default_factory=dict)
    bursts: Mapping[str, Burst] = field(default_factory=dict)

    @property
    def now(self) -> Standing | None:
        """The current standing costs; `None` if none were ever recorded."""
        return self.standings[-1] if self.standings else None

    def changed(self, standing: Standing) -> Tariff:
        """The tariff with new standing costs; the same if they haven't changed."""
        if (now := self.now) is not None and (now.lines, now.address_hour) == (standing.lines, standing.address_hour):
            return self
        return replace(self, standings=(*self.standings, standing)[-KEPT_STANDINGS:])

    def document(self) -> dict[str, Any]:
        """The form in the jobs table: amounts as text, because numbers would come back as floats."""
        return {
            "hours": {kind: str(usd) for kind, usd in self.hours.items()},
            "bursts": {kind: [str(one.busy_hour), str(one.baseline_hour)] for kind, one in self.bursts.items()},
            "standings": [
                {
                    "since_ms": one.since_ms,
                    "address_hour": _text(one.address_hour),
                    "lines": {key: [_text(line.month), _text(line.hour)] for key, line in one.lines.items()},
                }
                for one in self.standings
            ],
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Tariff:
        """Reads `document`'s form; an empty tariff from an empty item."""
        standings = tuple(
            Standing(
                since_ms=int(one["since_ms"]),
                lines={key: Line(*map(_number, amounts)) for key, amounts in one["lines"].items()},
                address_hour=_number(one["address_hour"]),
            )
            for one in document.get("standings", ())
        )
        hours = {kind: Decimal(usd) for kind, usd in document.get("hours", {}).items()}
        bursts = {kind: Burst(*map(Decimal, usd)) for kind, usd in document.get("bursts", {}).items()}
        return cls(standings, hours, bursts)


def _text(amount: Decimal | None) -> str:
    return "unknown" if amount is None else str(amount)


def _number(text: str) -> Decimal | None:
    return None if text == "unknown" else Decimal(text)


@dataclass(frozen=True)
class Stretch:
    """A constant cost from one time to another, per hour and per calendar month.

    on: it goes on costing.
    """

    what: str
    begin_ms: int
    end_ms: int
    line: Line
    on: bool = False

    def usd(self, begin_ms: int, end_ms: int) -> Decimal | None:
        """Its cost within this period; `None` if a price is unknown."""
        begin, end = max(begin_ms, self.begin_ms), min(end_ms, self.end_ms)
        if begin >= end:
            return NOTHING
        if self.line.hour is None or self.line.month is None:
            return None
        cost = self.line.hour * (end - begin) / HOUR_MS
        if self.line.month:
            cost += sum((self.line.month * _within(month, begin, end) for month in months(begin, end)), NOTHING)
        return cost


@dataclass(frozen=True)
class Bill:
    """USD by item, and the items without a known price."""

    lines: Mapping[str, Decimal]
    unknown: frozenset[str] = frozenset()

    @property
    def usd(self) -> Decimal:
        """The sum of the known amounts."""
        return sum(self.lines.values(), NOTHING)


def stretches(found: Iterable[Span], tariff: Tariff, now_ms: int) -> list[Stretch]:
    """The costs of these spans and of what stood, until now."""
    made = []
    for span in found:
        end = max(span.end_ms, span.begin_ms + LEAST_MS)
        kind = span.type or "of unknown type"
        machine = Line(hour=tariff.hours.get(span.type))
        made.append(Stretch(f"machine {kind}", span.begin_ms, end, machine, span.running))
        standing = _at(tariff.standings, span.begin_ms)
        if standing is not None and standing.address_hour != 0:
            made.append(Stretch(ADDRESS, span.begin_ms, end, Line(hour=standing.address_hour), span.running))
        if (surplus := _surplus(span, tariff)) > 0:
            made.append(Stretch(CREDITS, span.begin_ms, end, Line(hour=surplus * HOUR_MS / (end - span.begin_ms))))
    following = [one.since_ms for one in tariff.standings[1:]] + [now_ms]
    for standing, end in zip(tariff.standings, following, strict=False):
        on = standing is tariff.now
        made += [Stretch(key, standing.since_ms, end, line, on) for key, line in standing.lines.items()]
    return made


def _surplus(span: Span, tariff: Tariff) -> Decimal:
    """A burstable machine's credits, as if its model used all processors; spread over its time."""
    burst = tariff.bursts.get(span.type)
    if burst is None:
        return NOTHING
    worked, on = Decimal(span.busy_ms) / HOUR_MS, Decimal(span.end_ms - span.begin_ms) / HOUR_MS
    return burst.busy_hour * worked - burst.baseline_hour * on


def of_node(what: str) -> bool:
    """Whether this item costs only while a machine runs."""
    return what.startswith("machine ") or what in (ADDRESS, CREDITS)


def _at(standings: Sequence[Standing], moment_ms: int) -> Standing | None:
    """The standing costs at a time. A node runs before `up` has ended, and so before the first record."""
    earlier = [one for one in standings if one.since_ms <= moment_ms and one.lines]
    return earlier[-1] if earlier else next((one for one in standings if one.lines), None)


def bill(made: Iterable[Stretch], begin_ms: int, end_ms: int) -> Bill:
    """The cost of all of them within this period."""
    lines: dict[str, Decimal] = defaultdict(Decimal)
    unknown = set()
    for stretch in made:
        usd = stretch.usd(begin_ms, end_ms)
        if usd is None:
            unknown.add(stretch.what)
        elif usd:
            lines[stretch.what] += usd
    return Bill(dict(lines), frozenset(unknown))


def per_hour(made: Iterable[Stretch], now_ms: int) -> Bill:
    """The cost of the next hour if everything keeps running."""
    on = [replace(stretch, end_ms=now_ms + HOUR_MS) for stretch in made if stretch.on]
    return bill(on, now_ms, now_ms + HOUR_MS)


# --- time -----------------------------------------------------------------------------------------------------------


def month_of(moment_ms: int) -> tuple[int, int]:
    """The UTC month of a time: its first millisecond, and the next month's."""
    first = datetime.fromtimestamp(moment_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return _ms(first), _ms((first + timedelta(days=32)).replace(day=1))


def months(begin_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """The UTC months that this period touches."""
    month = month_of(begin_ms)
    while month[0] < end_ms:
        yield month
        month = month_of(month[1])


def days(begin_ms: int, end_ms: int, zone: tzinfo | None = UTC) -> Iterator[tuple[date, int, int]]:
    """The days of a time zone (`None`: this machine's) within this period; some have 23 or 25 hours."""
    moment = begin_ms
    while moment < end_ms:
        day = datetime.fromtimestamp(moment / 1000, UTC).astimezone(zone).date()
        until = min(end_ms, _midnight(day + timedelta(days=1), zone))
        yield day, moment, until
        moment = until


def _midnight(day: date, zone: tzinfo | None) -> int:
    local = datetime(day.year, day.month, day.day)
    return _ms(local.astimezone() if zone is None else local.replace(tzinfo=zone))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _within(month: tuple[int, int], begin_ms: int, end_ms: int) -> Decimal:
    """The fraction of a month that this period is."""
    return Decimal(min(end_ms, month[1]) - max(begin_ms, month[0])) / Decimal(month[1] - month[0])
