"""The stack's diagram for programs that lay it out: Mermaid (GitHub and most editors show it) and Graphviz's DOT.

Nodes and frames are numbered in the order of declaration and named only in labels, so that no key can be a reserved
word of either language, and the same stack always produces the same text.
"""

from __future__ import annotations

from collections.abc import Iterator

from aistratus.core.graph import Stack
from aistratus.core.resource import Resource


def mermaid(stack: Stack) -> str:
    """A Mermaid flowchart."""

    def frame(number: int, name: str, nodes: list[str]) -> Iterator[str]:
        yield f'  subgraph p{number}["{_mermaid(name)}"]'
        yield from nodes
        yield "  end"

    def node(number: int, resource: Resource) -> str:
        return f'    n{number}["{_mermaid(resource.key)}<br/><small>{_mermaid(resource.kind)}</small>"]'

    lines = ["flowchart LR"]
    numbers = _numbers(stack)
    for place, (name, group) in enumerate(stack.groups.items()):
        nodes = [node(numbers[resource.key], resource) for resource in group]
        lines += frame(place, name, nodes) if name else nodes
    lines += [f"  n{numbers[first]} --> n{numbers[then]}" for first, then in edges(stack)]
    return "\n".join(lines) + "\n"


def dot(stack: Stack) -> str:
    """A digraph for Graphviz."""

    def node(number: int, resource: Resource) -> str:
        return f'    n{number} [label="{_dot(resource.key)}\\n{_dot(resource.kind)}"];'

    lines = [
        "digraph stack {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname="Helvetica", fontsize=10];',
        '  graph [fontname="Helvetica", style="rounded,filled", fillcolor="#f4f4f6", color="#c8c8d0"];',
    ]
    numbers = _numbers(stack)
    for place, (name, group) in enumerate(stack.groups.items()):
        nodes = [node(numbers[resource.key], resource) for resource in group]
        if name:
            nodes = [f"  subgraph cluster_{place} {{", f'    label="{_dot(name)}";', *nodes, "  }"]
        lines += nodes
    lines += [f"  n{numbers[first]} -> n{numbers[then]};" for first, then in edges(stack)]
    return "\n".join([*lines, "}"]) + "\n"


def edges(stack: Stack) -> list[tuple[str, str]]:
    """The edges, from a dependency to its dependent, in the order of declaration."""
    places = _numbers(stack)
    return [
        (first, resource.key)
        for resource in stack.resources
        for first in sorted(stack.graph[resource.key], key=places.__getitem__)
    ]


def _numbers(stack: Stack) -> dict[str, int]:
    return {resource.key: number for number, resource in enumerate(stack.resources)}


def _mermaid(text: str) -> str:
    """A Mermaid label: HTML inside double quotes, with Mermaid's own characters escaped by number."""
    return "".join(char if char.isalnum() or char in " _-./:" else f"#{ord(char)};" for char in text)


def _dot(text: str) -> str:
    """A DOT label: inside double quotes, only backslash and double quote are special."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
