"""What was on when, and what that has cost: pure, to the second, from the signs that others leave.

Signs (`wire.Sign`) become spans: from a start, or from the moment since when a witness says that an instance runs, to
its stop. Each sign may be missing, double, or a little off: starts and witnesses within two minutes are of one start;
where a stop is missing, the span ends with the last sign of life, and says that this is assumed. So a figure is never
above what was seen, and what may be missing is bounded by how often a witness writes.

A span costs the hour of its machine and of its address, at least a minute of them, and of a burstable type what its
model worked beyond the type's baseline. What stands (volume, secret, alarms,
rules) costs by the hour or by the calendar month, which AWS counts in UTC, as it does its budgets. EC2 bills neither
the seconds in which an instance is `pending` nor those in which it stops; the former are counted here, as nobody
records their end. Sources: EC2 user guide, "Instance lifecycle"; EC2 API reference, StartInstances (a minute at least).

It ships with the functions, so that the guard counts as the command line does: standard library and `wire` only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

from aistratus.wire import SEEN, STOP, WORKER, Sign

SAME_MS: Final = 120_000
"""Two starts that are told less than this apart are one: a call, EC2's LaunchTime and a booted system."""
FRESH_MS: Final = 600_000
"""Without anybody to ask, what was seen so recently still runs: the guard looks every few minutes."""
LEAST_MS: Final = 60_000
"""EC2 bills a minute for each start at least."""
HOUR_MS: Final = 3_600_000
KEPT_STANDINGS: Final = 100
"""Older changes of what stood are forgotten, as DynamoDB takes 400 KB an item."""

ADDRESS: Final = "address"
CREDITS: Final = "CPU credits"
NOTHING: Final = Decimal(0)


@dataclass(frozen=True)
class Span:
    """An instance ran from `begin_ms` to `end_ms`.

    type: empty where nobody knew it.
    busy_ms: for how long of it its model has worked, as its workers said.
    running: it still does.
    assumed: nobody recorded its stop; it ends with the last sign of life.
    """

    instance: str
    type: str
    begin_ms: int
    end_ms: int
    running: bool = False
    assumed: bool = False
    busy_ms: int = 0


@dataclass
class _Open:
    begin: int
    last: int
    type: str
    busy: dict[int, int] = field(default_factory=dict)
    """By worker, which is known by when it began; what it says last is of all its time."""


def spans(signs: Iterable[Sign], now_ms: int, *, running: Collection[str] | None = None) -> list[Span]:
    """When what ran, by instance and in order.

    Args:
        signs: in any order. Those from the future (a clock that was wrong) count as of now.
        running: the instances that run now, as EC2 says; `None`: nobody asked it.
    """
    of: dict[str, list[Sign]] = defaultdict(list)
    for sign in signs:
        of[sign.instance].append(replace(sign, at_ms=min(sign.at_ms, now_ms), since_ms=min(sign.since_ms, now_ms)))
    made: list[Span] = []
    for instance, its in sorted(of.items()):
        alive = None if running is None else instance in running
        made += _typed(_Life(instance).told(its, now_ms, alive))
    return made


class _Life:
    """The spans of one instance, from its signs.

    A sign that it was seen is good for all the time between the two moments that it names. So signs are taken in the
    order in which what they are about began, and a stop counts where nothing says that it ran on.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._done: list[Span] = []
        self._open: _Open | None = None

    def told(self, signs: Iterable[Sign], now_ms: int, alive: bool | None) -> list[Span]:
        """Its spans in order. `alive`: does it run now? `None`: nobody asked."""
        signs = list(signs)
        stops = sorted((sign.at_ms for sign in signs if sign.verb == STOP), reverse=True)
        for sign in sorted((sign for sign in signs if sign.verb != STOP), key=_begin):
            while stops and stops[-1] < _begin(sign)[0]:
                self._stop(stops.pop())
            self._seen(sign)
        for stop in reversed(stops):
            self._stop(stop)
        if self._open is not None:
            on = now_ms - self._open.last <= FRESH_MS if alive is None else alive
            self._close(now_ms if on else self._open.last, running=on, assumed=not on)
        return self._done

    def _stop(self, at_ms: int) -> None:
        """A stop that was refused, or told too early, is one after which it was seen to run on."""
        if self._open is not None and self._open.last <= at_ms + SAME_MS:
            self._close(at_ms)

    def _seen(self, sign: Sign) -> None:
        since, at_ms = _begin(sign)
        ended = self._done[-1].end_ms if self._done else 0
        # A worker may have begun again on a machine that ran all the time.
        slack = FRESH_MS if sign.by == WORKER else SAME_MS
        if self._open is not None and since > self._open.last + slack:
            self._close(self._open.last, assumed=True)
        if self._open is not None:
            self._open.last = max(self._open.last, at_ms)
            self._open.type = sign.type or self._open.type
        elif at_ms >= ended:
            self._open = _Open(max(since, ended), at_ms, sign.type)
        if self._open is not None and sign.busy_ms:
            self._open.busy[sign.since_ms] = max(self._open.busy.get(sign.since_ms, 0), sign.busy_ms)

    def _close(self, end_ms: int, *, running: bool = False, assumed: bool = False) -> None:
        life, self._open = self._open, None
        if life is not None:
            end = max(end_ms, life.begin)
            busy = min(sum(life.busy.values()), end - life.begin)
            self._done.append(Span(self._instance, life.type, life.begin, end, running, assumed, busy))


def _begin(sign: Sign) -> tuple[int, int]:
    """Since when, and by when a sign says that it ran."""
    since = sign.since_ms if sign.verb == SEEN else sign.at_ms
    return min(since, sign.at_ms), sign.at_ms


def _typed(found: Sequence[Span]) -> list[Span]:
    """Who leaves signs may not know the type: it is then that of the span before, or after."""
    known = [span.type for span in found if span.type]
    typed, last = [], known[0] if known else ""
    for span in found:
        last = span.type or last
        typed.append(replace(span, type=last))
    return typed


# --- what it costs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What one thing costs as long as it stands, in USD without tax: a calendar month, and an hour; `None`: unknown."""

    month: Decimal | None = NOTHING
    hour: Decimal | None = NOTHING


@dataclass(frozen=True)
class Standing:
    """What stood from a moment on, by resource key; nothing after it was taken down.

    address_hour: what an hour costs of the public address that a running node has; 0 where it has none.
    """

    since_ms: int
    lines: Mapping[str, Line]
    address_hour: Decimal | None = NOTHING


@dataclass(frozen=True)
class Burst:
    """What an hour costs (USD) in which a burstable machine computes with all it has, and what each hour is free of it.

    Above a type's baseline AWS takes money for surplus credits, which are settled at the latest when it stops.
    Source: EC2 user guide, "Unlimited mode for burstable performance instances".
    """

    busy_hour: Decimal
    baseline_hour: Decimal


@dataclass(frozen=True)
class Tariff:
    """What stood when, what an hour of each type of machine costs (USD), and what burstable types cost beyond that."""

    standings: tuple[Standing, ...] = ()
    hours: Mapping[str, Decimal] = field(default_factory=dict)
    bursts: Mapping[str, Burst] = field(default_factory=dict)

    @property
    def now(self) -> Standing | None:
        """What stands now; `None` if nobody ever wrote it down."""
        return self.standings[-1] if self.standings else None

    def changed(self, standing: Standing) -> Tariff:
        """The same with another change of what stands; unchanged if it is none."""
        if (now := self.now) is not None and (now.lines, now.address_hour) == (standing.lines, standing.address_hour):
            return self
        return replace(self, standings=(*self.standings, standing)[-KEPT_STANDINGS:])

    def document(self) -> dict[str, Any]:
        """As it lies in the jobs table: amounts as text, since DynamoDB's numbers come back as floats."""
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
        """From `document`; nothing where there is none."""
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
    """Something that costs evenly from one moment to another: so much an hour, and so much a calendar month.

    on: it goes on costing.
    """

    what: str
    begin_ms: int
    end_ms: int
    line: Line
    on: bool = False

    def usd(self, begin_ms: int, end_ms: int) -> Decimal | None:
        """What it costs of this time; `None` if a price is unknown."""
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
    """USD by what they were spent on, and what has no known price."""

    lines: Mapping[str, Decimal]
    unknown: frozenset[str] = frozenset()

    @property
    def usd(self) -> Decimal:
        """All that is known."""
        return sum(self.lines.values(), NOTHING)


def stretches(found: Iterable[Span], tariff: Tariff, now_ms: int) -> list[Stretch]:
    """What these spans and what stood cost, until now."""
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
    """What a burstable machine cost beyond its price, if its model worked with all processors; spread over its time."""
    burst = tariff.bursts.get(span.type)
    if burst is None:
        return NOTHING
    worked, on = Decimal(span.busy_ms) / HOUR_MS, Decimal(span.end_ms - span.begin_ms) / HOUR_MS
    return burst.busy_hour * worked - burst.baseline_hour * on


def of_node(what: str) -> bool:
    """Is this line paid for only while a machine runs?"""
    return what.startswith("machine ") or what in (ADDRESS, CREDITS)


def _at(standings: Sequence[Standing], moment_ms: int) -> Standing | None:
    """What stood then. A node runs before `up` has ended, and so before anything is written down."""
    earlier = [one for one in standings if one.since_ms <= moment_ms and one.lines]
    return earlier[-1] if earlier else next((one for one in standings if one.lines), None)


def bill(made: Iterable[Stretch], begin_ms: int, end_ms: int) -> Bill:
    """What all of it costs of this time."""
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
    """What the next hour costs if all that is on stays on."""
    on = [replace(stretch, end_ms=now_ms + HOUR_MS) for stretch in made if stretch.on]
    return bill(on, now_ms, now_ms + HOUR_MS)


# --- time -----------------------------------------------------------------------------------------------------------


def month_of(moment_ms: int) -> tuple[int, int]:
    """The UTC month of a moment, as its first and its last millisecond plus one."""
    first = datetime.fromtimestamp(moment_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return _ms(first), _ms((first + timedelta(days=32)).replace(day=1))


def months(begin_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """The UTC months that this time touches."""
    month = month_of(begin_ms)
    while month[0] < end_ms:
        yield month
        month = month_of(month[1])


def days(begin_ms: int, end_ms: int, zone: tzinfo | None = UTC) -> Iterator[tuple[date, int, int]]:
    """The days of a time zone (`None`: this machine's), cut to this time; one is 23 or 25 hours long now and then."""
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
    """Which part of a month this time is."""
    return Decimal(min(end_ms, month[1]) - max(begin_ms, month[0])) / Decimal(month[1] - month[0])
