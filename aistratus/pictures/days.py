"""A chart of a period's days: above the month's cumulative cost against its limits, below the cost of each day.

Colours have a contrast to white of at least 3:1, texts of at least 4.5:1. Source: WCAG 2.2, 1.4.3 and 1.4.11.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor, log10
from typing import Final

from aistratus.pictures.bars import Day
from aistratus.pictures.shapes import INK, Box, Line, Picture, Shape, Words

COLOURS: Final = ("#6f7d92", "#2f6fb3", "#c46a10", "#3a8457", "#9b59b6", "#c0392b")
"""The first is for standing costs."""
SO_FAR: Final = "#2f6fb3"
OVER: Final = "#b3261e"
DIM: Final = "#55555f"
GRID: Final = "#dcdce2"
AXIS: Final = "#8a8a99"

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT = 64, 730
"""Horizontal bounds of the bars; the legend is to their right."""
LINE: Final = 18
"""Distance between two lines of text."""
REST: Final = "everything else"
MOST_LABELS: Final = 12


@dataclass(frozen=True)
class Panel:
    """A field for bars, from `top` to `bottom`, whose scale ends at `most` and has a line every `step`."""

    top: float
    bottom: float
    most: float
    step: float

    @classmethod
    def of(cls, top: float, bottom: float, greatest: float) -> Panel:
        """One whose scale ends at a round number."""
        most, step = _scale(greatest)
        return cls(top, bottom, most, step)

    def y(self, value: float) -> float:
        return self.bottom - value / self.most * (self.bottom - self.top)


def days(given: Sequence[Day], *, title: str, notes: Sequence[str], unit: str, lines: Mapping[str, Decimal]) -> Picture:
    """The chart, with its legend.

    Args:
        notes: lines below the title, as of when among them.
        unit: of all amounts, such as `EUR`.
        lines: what a month is held against, by name.
    """
    head = 44 + LINE * len(notes)
    middle = head + (HEIGHT - head) * 0.42
    totals = [*(float(day.month) for day in given), *map(float, lines.values())]
    month = Panel.of(head + 24, middle, max(totals, default=0))
    daily = Panel.of(middle + 48, HEIGHT - 46, float(max((day.total for day in given), default=0)))
    shapes: list[Shape] = [
        Words(x=LEFT, y=28, text=title, size=17),
        *(Words(x=LEFT, y=48 + LINE * number, text=note, colour=DIM) for number, note in enumerate(notes)),
        *_frame(month, f"{unit} since the month began (UTC)"),
        *_frame(daily, f"{unit} a day"),
        *_so_far(month, given, unit),
        *_limits(month, lines),
        *_each_day(daily, given, unit),
        *_labels(given),
    ]
    return Picture(WIDTH, HEIGHT, title, shapes)


def _frame(panel: Panel, label: str) -> Iterator[Shape]:
    places = _places_after_point(panel.step)
    yield Words(x=LEFT, y=panel.top - 10, text=label)
    for number in range(round(panel.most / panel.step) + 1):
        value = number * panel.step
        y = panel.y(value)
        yield Line(x1=LEFT, x2=RIGHT, y=y, colour=GRID if number else AXIS)
        yield Words(x=LEFT - 8, y=y + 4, text=f"{value:.{places}f}", colour=DIM, anchor="end")


def _places(count: int) -> Iterator[tuple[float, float]]:
    """Each bar's left edge, and the width of a bar."""
    room = (RIGHT - LEFT) / max(1, count)
    width = min(40.0, room * 0.72)
    for number in range(count):
        yield LEFT + room * (number + 0.5) - width / 2, width


def _so_far(panel: Panel, given: Sequence[Day], unit: str) -> Iterator[Shape]:
    for day, (x, width) in zip(given, _places(len(given)), strict=True):
        if day.month > 0:
            y, tip = panel.y(float(day.month)), f"by {day.day}: {unit} {day.month:.4f}"
            yield Box(x=x, y=y, width=width, height=panel.bottom - y, colour=SO_FAR, tip=tip)


def _limits(panel: Panel, lines: Mapping[str, Decimal]) -> Iterator[Shape]:
    """Limit lines with names at their right: the upper's above its line, the lower's below, so they don't overlap."""
    ordered = sorted(lines.items(), key=lambda line: line[1])
    for number, (name, value) in enumerate(ordered):
        y = panel.y(float(value))
        yield Line(x1=LEFT, x2=RIGHT, y=y, colour=OVER, dashed=True)
        yield Words(x=RIGHT + 10, y=y + (12 if number < len(ordered) - 1 else 0), text=f"{name} {value:.2f}")


def _each_day(panel: Panel, given: Sequence[Day], unit: str) -> Iterator[Shape]:
    colours = _colours(given)
    for day, (x, width) in zip(given, _places(len(given)), strict=True):
        reached = 0.0
        for name, amount in _parts(day, colours).items():
            if amount <= 0:
                continue
            upper, lower = panel.y(reached + float(amount)), panel.y(reached)
            reached += float(amount)
            tip = f"{day.day} {name}: {unit} {amount:.4f}"
            yield Box(x=x, y=upper, width=width, height=lower - upper, colour=colours[name], tip=tip)
    for number, (name, colour) in enumerate(colours.items()):
        y = panel.top + 4 + number * (LINE * 2 - 4)
        together = sum((_parts(day, colours).get(name, Decimal(0)) for day in given), Decimal(0))
        yield Box(x=RIGHT + 10, y=y - 9, width=10, height=10, colour=colour)
        yield Words(x=RIGHT + 26, y=y, text=name, colour=INK)
        yield Words(x=RIGHT + 26, y=y + 14, text=f"{together:.2f}", colour=DIM)


def _colours(given: Sequence[Day]) -> dict[str, str]:
    """A colour for each item; where there are more items than colours, the cheapest share the last."""
    together: dict[str, Decimal] = defaultdict(Decimal)
    for day in given:
        for name, amount in day.parts.items():
            together[name] += amount
    names = list(together)
    if len(names) > len(COLOURS):
        dear = sorted(names[1:], key=together.__getitem__, reverse=True)[: len(COLOURS) - 2]
        names = [*names[:1], *(name for name in names if name in dear), REST]
    return dict(zip(names, COLOURS, strict=False))


def _parts(day: Day, colours: Mapping[str, str]) -> dict[str, Decimal]:
    parts: dict[str, Decimal] = dict.fromkeys(colours, Decimal(0))
    for name, amount in day.parts.items():
        parts[name if name in parts else REST] += amount
    return parts


def _labels(given: Sequence[Day]) -> Iterator[Shape]:
    every = ceil(len(given) / MOST_LABELS) or 1
    for number, (day, (x, width)) in enumerate(zip(given, _places(len(given)), strict=True)):
        if number % every == 0:
            text = f"{day.day.day} {day.day:%b}"
            yield Words(x=x + width / 2, y=HEIGHT - 28, text=text, colour=DIM, anchor="middle")
    yield Words(x=(LEFT + RIGHT) / 2, y=HEIGHT - 10, text="day (this machine's time zone)", anchor="middle")


def _places_after_point(step: float) -> int:
    """Decimals that show its multiples exactly: none, or at least two, as in amounts of money."""
    _, _, fraction = f"{step:.9f}".rstrip("0").partition(".")
    return max(2, len(fraction)) if fraction else 0


def _scale(greatest: float) -> tuple[float, float]:
    """A round top of the scale, and the distance between its lines."""
    if greatest <= 0:
        return 1.0, 0.25
    rough = greatest / 5
    size: float = 10.0 ** floor(log10(rough))
    step: float = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough)
    return step * ceil(greatest / step), step
