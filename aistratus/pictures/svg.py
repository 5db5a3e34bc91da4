"""The stack's diagram as SVG, with a layout of our own, so that it needs no other program.

Each group of the stack is a band, one below the other in the order of declaration. Within a band a resource is one
column to the right of the last resource in the band that it depends on, and near the height of its dependencies. Arrows
inside a band are solid, those between bands thin and dashed. An arrow's tooltip names its ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean

from aistratus.core.graph import Stack
from aistratus.core.resource import Resource
from aistratus.pictures.text import edges

LETTER = 6.9
"""Width (pixels) of an average letter of a key; generous, because fonts differ."""
HEIGHT, ROW, GAP = 36, 48, 70
"""Pixels: a box, the distance between the tops of two boxes, the space between two columns."""
MARGIN, HEAD = 16, 30
"""Pixels: around everything, and for a band's name."""

TINTS = ("#eef3fb", "#eef8f1", "#fbf4ea", "#f6eefb", "#fbeeee", "#edf7f8", "#f7f7ea", "#f1f1f4")

STYLE = """\
  text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1d1d23; }
  .group { font-size: 14px; font-weight: 600; fill: #55555f; }
  .key { font-size: 12px; font-weight: 600; }
  .kind { font-size: 10px; fill: #666672; }
  .box { fill: #ffffff; stroke: #8a8a99; }
  .band { stroke: #c8c8d0; }
  .edge { fill: none; stroke: #6b6b7a; stroke-width: 1.2; }
  .far { stroke: #a3a3b3; stroke-width: 0.9; stroke-dasharray: 4 3; }
  .edge:hover { stroke: #c2410c; stroke-width: 2.4; }"""


@dataclass(frozen=True)
class Place:
    """Where a box stands: its left upper corner."""

    x: float
    y: float


def svg(stack: Stack) -> str:
    """The stack as a complete SVG document."""
    width = max((len(text) for r in stack.resources for text in (r.key, r.kind)), default=10) * LETTER + 20
    places: dict[str, Place] = {}
    bands: list[tuple[str, float, float]] = []
    top = float(MARGIN)
    for name, group in stack.groups.items():
        head = HEAD if name else 0
        rows = _arrange(stack, group)
        for key, (column, row) in rows.items():
            places[key] = Place(2 * MARGIN + column * (width + GAP), top + head + row * ROW)
        bottom = max((places[key].y for key in rows), default=top) + HEIGHT + MARGIN
        bands.append((name, top, bottom - top))
        top = bottom + MARGIN
    right = max((place.x for place in places.values()), default=0) + width + 2 * MARGIN
    return "\n".join([*_head(right, top), *_bands(bands, right), *_arrows(stack, places, width),
                      *_boxes(stack, places, width), "</svg>"]) + "\n"  # fmt: skip


def _arrange(stack: Stack, group: Sequence[Resource]) -> dict[str, tuple[int, int]]:
    """Column and row of each key of a group."""
    inside = {resource.key for resource in group}
    columns: dict[str, int] = {}
    for key in (key for key in stack.order if key in inside):
        columns[key] = max((columns[parent] + 1 for parent in stack.graph[key] & inside), default=0)
    rows: dict[str, int] = {}
    declared = {resource.key: number for number, resource in enumerate(group)}
    for column in range(max(columns.values(), default=-1) + 1):
        here = sorted((key for key in columns if columns[key] == column), key=declared.__getitem__)
        here.sort(key=lambda key: _height(stack, key, rows))
        rows |= {key: row for row, key in enumerate(here)}
    return {key: (columns[key], rows[key]) for key in declared}


def _height(stack: Stack, key: str, rows: Mapping[str, int]) -> float:
    """The mean row of its dependencies in earlier columns: near it, arrows are short and rarely cross."""
    before = [rows[parent] for parent in stack.graph[key] if parent in rows]
    return mean(before) if before else 0.0


def _head(width: float, height: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="The declared stack">',
        f"<style>\n{STYLE}\n</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0.8 L8,4 L0,7.2 z" fill="#6b6b7a"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]


def _bands(bands: Sequence[tuple[str, float, float]], right: float) -> list[str]:
    lines = []
    for number, (name, top, height) in enumerate(bands):
        lines.append(
            f'<rect class="band" x="{MARGIN}" y="{top:.0f}" width="{right - 2 * MARGIN:.0f}" height="{height:.0f}" '
            f'rx="8" fill="{TINTS[number % len(TINTS)]}"/>'
        )
        if name:
            lines.append(f'<text class="group" x="{2 * MARGIN}" y="{top + 20:.0f}">{escape(name)}</text>')
    return lines


def _boxes(stack: Stack, places: Mapping[str, Place], width: float) -> list[str]:
    lines = []
    for resource in stack.resources:
        place = places[resource.key]
        middle = place.x + width / 2
        lines.append(
            f'<g><rect class="box" x="{place.x:.0f}" y="{place.y:.0f}" width="{width:.0f}" height="{HEIGHT}" rx="5"/>'
            f'<text class="key" x="{middle:.0f}" y="{place.y + 15:.0f}" text-anchor="middle">{escape(resource.key)}'
            f'</text><text class="kind" x="{middle:.0f}" y="{place.y + 29:.0f}" text-anchor="middle">'
            f"{escape(resource.kind)}</text></g>"
        )
    return lines


def _arrows(stack: Stack, places: Mapping[str, Place], width: float) -> list[str]:
    group_of = stack.group_of
    lines = []
    # The far ones first, so that they lie below the strong ones.
    for first, then in sorted(edges(stack), key=lambda edge: group_of[edge[0]] == group_of[edge[1]]):
        far = group_of[first] != group_of[then]
        start, end = places[first], places[then]
        path = _between_bands(start, end, width) if far else _inside_band(start, end, width)
        lines.append(
            f'<path class="edge{" far" if far else ""}" d="{path}" marker-end="url(#tip)">'
            f"<title>{escape(first)} → {escape(then)}</title></path>"
        )
    return lines


def _inside_band(start: Place, end: Place, width: float) -> str:
    """From the right side of a box to the left side of one in a later column."""
    x1, y1 = start.x + width, start.y + HEIGHT / 2
    x2, y2 = end.x, end.y + HEIGHT / 2
    bend = GAP / 2
    return f"M{x1:.0f},{y1:.0f} C{x1 + bend:.0f},{y1:.0f} {x2 - bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"


def _between_bands(start: Place, end: Place, width: float) -> str:
    """From the right side of a box to the left side of one in another band, with room to turn."""
    x1, y1 = start.x + width, start.y + HEIGHT / 2 + 8
    x2, y2 = end.x, end.y + HEIGHT / 2 - 8
    bend = GAP * 0.9
    return f"M{x1:.0f},{y1:.0f} C{x1 + bend:.0f},{y1:.0f} {x2 - bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
