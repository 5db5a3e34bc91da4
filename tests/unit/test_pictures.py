"""The declared stack as a picture: everything that is declared is in it, in words that its language can read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from aistratus.cli.session import described
from aistratus.core.graph import Stack
from aistratus.core.resource import Ref, Resource
from aistratus.pictures import Form, draw
from aistratus.pictures.svg import HEIGHT
from aistratus.settings_load import load

FORMS: tuple[Form, ...] = ("mermaid", "dot", "svg")
STACK = described(load(environ={}, flags={"env": "dev"}))
EDGES = {(first, key) for key, parents in STACK.graph.items() for first in parents}
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True, kw_only=True)
class Thing(Resource):
    beside: tuple[Ref, ...] = ()


def edges_by_label(text: str, node: str, edge: str) -> set[tuple[str, str]]:
    """The edges of a text, by the keys of their ends."""
    keys = dict(re.findall(node, text, re.M))
    return {(keys[first], keys[then]) for first, then in re.findall(edge, text, re.M)}


def test_mermaid_holds_every_resource_edge_and_group() -> None:
    text = draw(STACK, "mermaid")
    assert edges_by_label(text, r'^ +(n\d+)\["([\w.]+)<br/>', r"^  (n\d+) --> (n\d+)$") == EDGES
    assert re.findall(r'^  subgraph p\d+\["(.+)"\]$', text, re.M) == [name for name in STACK.groups if name]
    assert text.count("<br/>") == len(STACK.resources)
    assert text.splitlines()[0] == "flowchart LR"


def test_dot_holds_every_resource_edge_and_group() -> None:
    text = draw(STACK, "dot")
    assert edges_by_label(text, r'^ +(n\d+) \[label="([\w.]+)\\n', r"^  (n\d+) -> (n\d+);$") == EDGES
    assert re.findall(r'^    label="(.+)";$', text, re.M) == [name for name in STACK.groups if name]
    assert text.count("{") == text.count("}") == 1 + len(STACK.groups)


def test_svg_holds_every_resource_edge_and_group() -> None:
    root = ElementTree.fromstring(draw(STACK, "svg"))
    texts = [(element.get("class"), element.text) for element in root.iter(f"{SVG}text")]
    assert [text for style, text in texts if style == "key"] == [resource.key for resource in STACK.resources]
    assert [text for style, text in texts if style == "group"] == list(STACK.groups)
    titles = [str(element.text) for element in root.iter(f"{SVG}title")]
    assert {tuple(title.split(" → ")) for title in titles} == EDGES


def test_no_two_boxes_touch_and_all_lie_within_the_frame() -> None:
    root = ElementTree.fromstring(draw(STACK, "svg"))
    width, height = (float(value) for value in str(root.get("viewBox")).split()[2:])
    boxes = [
        tuple(float(str(element.get(name))) for name in ("x", "y", "width"))
        for element in root.iter(f"{SVG}rect")
        if element.get("class") == "box"
    ]
    assert len(boxes) == len(STACK.resources)
    assert all(x > 0 and x + wide < width and y > 0 and y + HEIGHT < height for x, y, wide in boxes)
    for number, (x, y, wide) in enumerate(boxes):
        assert all(abs(x - left) > wide or abs(y - top) > HEIGHT for left, top, _ in boxes[:number])


def test_what_waits_stands_to_the_right_within_its_group() -> None:
    root = ElementTree.fromstring(draw(STACK, "svg"))
    x = {}
    for box in root.iter(f"{SVG}g"):
        rect, key = box.find(f"{SVG}rect"), box.find(f"{SVG}text")
        assert rect is not None and key is not None
        x[key.text] = float(str(rect.get("x")))
    group_of = STACK.group_of
    assert [(a, b) for a, b in EDGES if group_of[a] == group_of[b] and x[a] >= x[b]] == []


@pytest.mark.parametrize("form", FORMS)
def test_the_same_stack_gives_the_same_picture(form: Form) -> None:
    assert draw(STACK, form) == draw(described(load(environ={}, flags={"env": "dev"})), form)


@pytest.mark.parametrize("form", FORMS)
def test_a_stack_of_nothing_and_one_without_groups_can_be_drawn(form: Form) -> None:
    assert draw(Stack(()), form)
    first = Thing(key="first")
    assert "first" in draw(Stack((first, Thing(key="then", beside=(Ref(first),)))), form)


NASTY = 'a"b\\c<d>&e;\nend'


def test_no_name_breaks_out_of_its_label() -> None:
    stack = Stack({NASTY: (Thing(key=NASTY),)})
    root = ElementTree.fromstring(draw(stack, "svg"))
    assert {element.text for element in root.iter(f"{SVG}text")} >= {NASTY}
    for line in draw(stack, "mermaid").splitlines()[1:3]:
        assert line.count('"') == 2
        assert re.fullmatch(r'[^"]*"[\w#; .<>/-]*"\]', line)
    label = r'"(?:[^"\\\n]|\\.)*"'
    dot = [line for line in draw(stack, "dot").splitlines() if "label=" in line]
    assert len(dot) == 2
    assert all(re.fullmatch(rf" *(n0 \[)?label={label}\]?;", line) for line in dot)


def test_a_part_of_a_stack_keeps_its_groups_and_what_is_switched_off_has_one_too() -> None:
    first, other = Thing(key="first"), Thing(key="other")
    then = Thing(key="then", beside=(Ref(first),))
    off = Thing(key="off", beside=(Ref(then),))
    stack = Stack({"one": (first, other), "two": (then,)}, {"one": (off,)})
    assert stack.group_of == {"first": "one", "other": "one", "off": "one", "then": "two"}
    assert stack.only(["then"]).group_of == {"first": "one", "then": "two"}
    assert stack.only(["off"]).group_of == {"first": "one", "off": "one", "then": "two"}
    assert "off" not in draw(stack, "mermaid"), "what is switched off isn't drawn"
