"""The days as a picture: the same in both forms, within its frame, and to be told apart by everybody."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from datetime import date
from decimal import Decimal as D

import pytest
from PIL import Image, ImageColor, ImageFont

from aistratus.pictures.bars import Day
from aistratus.pictures.days import COLOURS, DIM, OVER, SO_FAR, _places_after_point, days
from aistratus.pictures.shapes import INK, SCALE, Box, Line, Picture, Words, png, svg


def picture(totals: list[str], names: tuple[str, ...] = ("stands", "a<b")) -> Picture:
    given = [
        Day(date(2026, 1, 1 + number % 28), dict.fromkeys(names, D(total)), D(total) * 2)
        for number, total in enumerate(totals)
    ]
    return days(given, title="dev & prod", notes=["as of now"], unit="EUR", lines={"limit": D(20), "stop": D(21)})


@pytest.mark.parametrize("totals", [[], ["0"], ["0.0001"], ["12.5", "0", "3"], ["1000"] * 62])
def test_the_picture_opens_in_both_forms_and_nothing_leaves_it(totals: list[str]) -> None:
    made = picture(totals, ("stands", *map(str, range(8))))
    root = ET.fromstring(svg(made))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) == sum(isinstance(s, Words) for s in made.shapes)
    for box in (shape for shape in made.shapes if isinstance(shape, Box)):
        assert box.x >= 0 and box.x + box.width <= made.width and box.y >= 0 and box.y + box.height <= made.height
    font = ImageFont.load_default(100)
    for words in (shape for shape in made.shapes if isinstance(shape, Words)):
        assert words.text.isascii() and words.x + font.getlength(words.text) * words.size / 100 <= made.width
    with Image.open(io.BytesIO(png(made))) as image:
        assert image.format == "PNG" and image.size == (made.width * SCALE, made.height * SCALE)


def test_a_bar_of_the_png_stands_where_that_of_the_svg_does_and_as_high_as_its_share() -> None:
    made = picture(["4", "0", "2"])
    image = Image.open(io.BytesIO(png(made))).convert("RGB")
    boxes = [shape for shape in made.shapes if isinstance(shape, Box) and shape.tip]
    assert len(boxes) == 2 + 2 * 2  # no box for nothing
    for box in boxes:
        inside = (round((box.x + box.width / 2) * SCALE), round((box.y + box.height / 2) * SCALE))
        assert image.getpixel(inside) == ImageColor.getrgb(box.colour), box
        assert image.getpixel((inside[0], round((box.y + box.height) * SCALE) + SCALE)) != ImageColor.getrgb(box.colour)
    assert [boxes[2].height / boxes[4].height, boxes[0].height / boxes[1].height] == pytest.approx([2, 2])
    lines = [shape for shape in made.shapes if isinstance(shape, Line) and shape.dashed]
    assert len(lines) == 2 and all(
        image.getpixel((round(line.x1 * SCALE) + 2, round(line.y * SCALE))) == ImageColor.getrgb(line.colour)
        for line in lines
    )


def test_each_line_of_a_scale_tells_its_own_value() -> None:
    told = [shape.text for shape in picture(["25"]).shapes if isinstance(shape, Words)]
    assert [*map(str, range(0, 51, 10))] == [text for text in told if text.isdecimal()][:6]
    for step, places in ((2.5, 2), (0.025, 3), (0.0025, 4), (0.2, 2), (5.0, 0)):
        assert (_places_after_point(step), float(f"{step:.{_places_after_point(step)}f}")) == (places, step)


@pytest.mark.parametrize("colour, least", [*((one, 3) for one in (*COLOURS, SO_FAR, OVER)), (INK, 4.5), (DIM, 4.5)])
def test_colours_stand_out_from_the_white_that_they_are_on(colour: str, least: float) -> None:
    red, green, blue = (
        part / 3294 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in ImageColor.getrgb(colour)[:3]
    )
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= least
