"""Draws the declared stack as a diagram, and the metered days as a chart; pure, without any call.

In the diagram each group of the stack is a frame around its resources. An arrow leads from a resource to the one that
depends on it, so that it reads in the order in which `up` builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from aistratus.core.graph import Stack
from aistratus.pictures.svg import svg
from aistratus.pictures.text import dot, mermaid

Form = Literal["mermaid", "dot", "svg"]

_DRAWN: Mapping[Form, Callable[[Stack], str]] = {"mermaid": mermaid, "dot": dot, "svg": svg}


def draw(stack: Stack, form: Form) -> str:
    """The picture as text, with a line break at its end."""
    return _DRAWN[form](stack)
