"""A picture's shapes, and its two output formats: SVG, and PNG for where SVG isn't displayed.

Both are written from the same shapes, so that they look the same. Lengths are in pixels of the SVG, from the upper left
corner; a PNG has `SCALE` pixels for each, so that it is sharp on a high-resolution screen.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SCALE: Final = 2
"""PNG pixels per SVG pixel."""
INK: Final = "#1d1d23"
DASH: Final = (6, 4)
"""A dashed line: drawn, left out."""
ANCHORS: Final = {"start": "ls", "middle": "ms", "end": "rs"}
"""Pillow's names for a text's anchor: its left end, middle or right end, on the baseline."""

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A filled rectangle. tip: the tooltip in an SVG."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    tip: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A horizontal line."""

    x1: float
    x2: float
    y: float
    colour: str
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Words:
    """A line of text on its baseline. Pillow's own font knows ASCII and little more, and no euro sign."""

    x: float
    y: float
    text: str
    size: int = 12
    colour: str = INK
    anchor: Anchor = "start"


Shape = Box | Line | Words


@dataclass(frozen=True)
class Picture:
    """Shapes on white, later ones over earlier; `name` is the text alternative."""

    width: int
    height: int
    name: str
    shapes: Sequence[Shape]


def svg(picture: Picture) -> bytes:
    """A self-contained SVG document."""
    size = f'width="{picture.width}" height="{picture.height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture.width} {picture.height}" {size} '
        f'role="img" aria-label="{escape(picture.name)}" '
        'font-family="system-ui, &quot;Segoe UI&quot;, Helvetica, Arial, sans-serif">',
        f'<rect {size} fill="#ffffff"/>',
        *map(_element, picture.shapes),
        "</svg>",
    ]
    return ("\n".join(lines) + "\n").encode()


def _element(shape: Shape) -> str:
    match shape:
        case Box():
            tip = f"<title>{escape(shape.tip)}</title>"
            head = (
                f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}" '
                f'fill="{shape.colour}"'
            )
            return f"{head}>{tip}</rect>" if shape.tip else f"{head}/>"
        case Line():
            dashes = f' stroke-dasharray="{DASH[0]} {DASH[1]}"' if shape.dashed else ""
            return (
                f'<line x1="{shape.x1:.1f}" y1="{shape.y:.1f}" x2="{shape.x2:.1f}" y2="{shape.y:.1f}" '
                f'stroke="{shape.colour}"{dashes}/>'
            )
        case Words():
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            return (
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size}" fill="{shape.colour}"{anchor}>'
                f"{escape(shape.text, quote=False)}</text>"
            )


def png(picture: Picture) -> bytes:
    """A PNG with `SCALE` times as many pixels each way, in Pillow's own font."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (picture.width * SCALE, picture.height * SCALE), "#ffffff")
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        _paint(draw, shape)
    # A palette leaves the colours of areas as they are and makes the file half as large.
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    written = io.BytesIO()
    few.save(written, "PNG", optimize=True, dpi=(96 * SCALE, 96 * SCALE))
    return written.getvalue()


def _paint(draw: ImageDraw, shape: Shape) -> None:
    from PIL import ImageFont

    match shape:
        case Box():
            left, top, right, bottom = _pixels(shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)
            # Pillow paints the last pixel too; what is more than nothing is seen.
            draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), fill=shape.colour)
        case Line():
            for start, end in _dashes(shape.x1, shape.x2) if shape.dashed else ((shape.x1, shape.x2),):
                left, top, right, _ = _pixels(start, shape.y, end, shape.y)
                draw.rectangle((left, top - SCALE // 2, right - 1, top - SCALE // 2 + SCALE - 1), fill=shape.colour)
        case Words():
            font = ImageFont.load_default(shape.size * SCALE)
            x, y = _pixels(shape.x, shape.y)
            draw.text((x, y), shape.text, font=font, fill=shape.colour, anchor=ANCHORS[shape.anchor])


def _pixels(*lengths: float) -> tuple[int, ...]:
    return tuple(round(length * SCALE) for length in lengths)


def _dashes(begin: float, end: float) -> Iterator[tuple[float, float]]:
    drawn, left_out = DASH
    while begin < end:
        yield begin, min(begin + drawn, end)
        begin += drawn + left_out
