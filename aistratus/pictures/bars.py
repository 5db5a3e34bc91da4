"""Days as bars: for a terminal, and as an SVG that needs no other program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from html import escape
from math import ceil, floor, log10

COLOURS = ("#7f8ea3", "#2f6fb3", "#d9822b", "#4c9a6a", "#9b59b6", "#c0392b")
"""The first is for what stands whether it is used or not."""
WIDTH, HEIGHT = 900, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 84, 32
"""Pixels: the picture, and what is kept free around the bars."""
EIGHTHS = " ▏▎▍▌▋▊▉"

STYLE = """\
  text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1d1d23; font-size: 12px; }
  .title { font-size: 16px; font-weight: 600; }
  .small { fill: #55555f; }
  .grid { stroke: #dcdce2; stroke-width: 1; }
  .axis { stroke: #8a8a99; stroke-width: 1; }"""


@dataclass(frozen=True)
class Day:
    """One bar: amounts by what they were spent on."""

    day: date
    parts: Mapping[str, Decimal]

    @property
    def total(self) -> Decimal:
        return sum(self.parts.values(), Decimal(0))


def bar(value: Decimal, most: Decimal, width: int) -> str:
    """A bar of block characters, as long as its share of `width` characters; what is more than nothing is seen."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(float(value / most) * width * 8))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def svg(days: Sequence[Day], *, title: str, subtitle: str, sign: str) -> str:
    """The days as stacked bars, with what they stand for.

    Args:
        sign: the currency's, before each amount.
    """
    names = list(dict.fromkeys(name for day in days for name in day.parts))
    most = max((day.total for day in days), default=Decimal(0))
    top, step = _scale(float(most))
    parts = [*_head(title, subtitle), *_legend(names, days, sign), *_grid(top, step, sign)]
    parts += _bars(days, names, top)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(title: str, subtitle: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<style>\n{STYLE}\n</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text class="title" x="{LEFT}" y="26">{escape(title)}</text>',
        f'<text class="small" x="{LEFT}" y="46">{escape(subtitle)}</text>',
    ]


def _legend(names: Sequence[str], days: Sequence[Day], sign: str) -> list[str]:
    lines, x = [], float(LEFT)
    for number, name in enumerate(names):
        total = sum((day.parts.get(name, Decimal(0)) for day in days), Decimal(0))
        text = f"{name} {sign}{total:.2f}"
        lines.append(f'<rect x="{x:.0f}" y="58" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>')
        lines.append(f'<text class="small" x="{x + 15:.0f}" y="67">{escape(text)}</text>')
        x += 32 + 6.6 * len(text)
    return lines


def _grid(top: float, step: float, sign: str) -> list[str]:
    places = max(2, -floor(log10(step))) if step < 1 else 0
    lines = []
    for number in range(round(top / step) + 1):
        y = _y(number * step, top)
        lines.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        text = f"{sign}{number * step:.{places}f}"
        lines.append(f'<text class="small" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    return lines


def _bars(days: Sequence[Day], names: Sequence[str], top: float) -> list[str]:
    room = (WIDTH - LEFT - RIGHT) / max(1, len(days))
    width = min(40.0, room * 0.72)
    every = ceil(len(days) / 16) or 1
    lines = []
    for number, day in enumerate(days):
        x, reached = LEFT + room * (number + 0.5) - width / 2, 0.0
        for name, colour in zip(names, (COLOURS[n % len(COLOURS)] for n in range(len(names))), strict=True):
            amount = float(day.parts.get(name, 0))
            upper, lower = _y(reached + amount, top), _y(reached, top)
            reached += amount
            if amount:
                lines.append(
                    f'<rect x="{x:.1f}" y="{upper:.1f}" width="{width:.1f}" height="{lower - upper:.1f}" '
                    f'fill="{colour}"><title>{escape(f"{day.day} {name}: {amount:.4f}")}</title></rect>'
                )
        if number % every == 0:
            middle = x + width / 2
            label = f"{day.day.day} {day.day:%b}"
            lines.append(
                f'<text class="small" x="{middle:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>'
            )
    y = HEIGHT - BOTTOM
    return [*lines, f'<line class="axis" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>']


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _scale(most: float) -> tuple[float, float]:
    """A round top of the scale, and the distance of its lines."""
    if most <= 0:
        return 1.0, 0.25
    rough = most / 4
    size: float = 10.0 ** floor(log10(rough))
    step: float = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough)
    return step * ceil(most / step), step
