"""Renders Markdown blocks for a terminal, so that copied text is clean: no frames, no padding, no breaks in code."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, ClassVar, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from aistratus.cli.chat_terminal.blocks import Block, Blocks
from aistratus.cli.chat_terminal.text import clean

THEME: Final = "ansi_dark"
"""Uses the terminal's own sixteen colours, so that it fits any background."""

ABOVE: Final = 200
"""Lines of code that decide on the colours of the next; more would make a long program slow to show."""

_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
_PADDING: Final = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.M)
_COLOURS: Final = Theme({"markdown.code": "bold cyan", "markdown.code_block": "cyan"})


class _PlainHeading(Heading):
    """A heading without a frame, at the left."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _PlainCode(CodeBlock):
    """Code inside of another block, without a background."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.text).rstrip())


class _Plain(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _PlainHeading,
        "fence": _PlainCode,
        "code_block": _PlainCode,
    }


def rendered(block: Block, width: int, before: Iterable[str] = ()) -> str:
    """A block as lines for a terminal of so many columns, with a line break at its end.

    Args:
        before: the lines of code above this one, which decide on its colours.
    """
    console = _console(width)
    with console.capture() as captured:
        if block.code:
            console.print(_code(block, before), soft_wrap=True)
        else:
            console.print(_Plain(block.text, code_theme=THEME, hyperlinks=False))
    lines = _PADDING.sub(r"\1", captured.get()).split("\n")
    if not block.code:
        lines = _inked(lines)
    return "\n" * block.apart + "\n".join(lines).rstrip("\n") + "\n"


def _inked(lines: list[str]) -> list[str]:
    """Without the empty lines that lists and tables bring along, since blocks know their own distance."""
    inked = [number for number, line in enumerate(lines) if _STYLE.sub("", line).strip()]
    return lines[inked[0] : inked[-1] + 1] if inked else []


def _code(block: Block, before: Iterable[str]) -> Text:
    above = list(before)
    syntax = Syntax("", block.language or "text", theme=THEME)
    try:
        highlighted = syntax.highlight("\n".join([*above, block.text]))
    except Exception:  # noqa: BLE001 - a highlighter that stumbles over half a program is no reason not to show it
        return Text(block.text)
    lines = highlighted.split("\n", allow_blank=True)
    return lines[len(above)] if len(lines) > len(above) else Text(block.text)


@lru_cache(maxsize=4)
def _console(width: int) -> Console:
    options: dict[str, Any] = {"force_terminal": True, "highlight": False, "legacy_windows": False, "theme": _COLOURS}
    return Console(file=io.StringIO(), width=max(8, width), **options)


class MarkdownStream:
    """A reply that is being written, as text for a terminal: what is finished, and what may still change."""

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._code: list[str] = []

    def feed(self, piece: str, width: int) -> str:
        """What the next piece has finished."""
        return self._all(self._blocks.feed(clean(piece)), width)

    def end(self, width: int) -> str:
        """The rest."""
        return self._all(self._blocks.end(), width)

    def tail(self, width: int, most_lines: int) -> str:
        """The unfinished block, or its last lines."""
        block = self._blocks.tail
        if block is None or most_lines < 1:
            return ""
        lines = rendered(block, width, [] if block.first else self._code).rstrip("\n").split("\n")
        return "\n".join(lines[-most_lines:])

    def _all(self, blocks: Iterable[Block], width: int) -> str:
        texts = []
        for block in blocks:
            above = [] if block.first else self._code
            texts.append(rendered(block, width, above))
            self._code = [*above, block.text][-ABOVE:] if block.code else []
        return "".join(texts)
