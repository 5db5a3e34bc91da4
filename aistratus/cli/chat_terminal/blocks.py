"""Splits growing Markdown into blocks, of which all but the last are final.

A reply comes in pieces. A finished block (a paragraph, a heading, a list item, a line of code) is printed once; only
the last one, which may still grow, has to be redrawn. So the screen doesn't flicker, printed text can be copied and
scrolled back to, and the effort doesn't grow with the reply's length.

The split follows lines, like CommonMark's block structure (spec 0.31, "Blocks and inlines"); the lines inside a block
are left to the renderer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_FENCE: Final = re.compile(r"^(?P<indent> *)(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)$")
_HEADING: Final = re.compile(r"^ {0,3}#{1,6}(\s|$)")
_RULE: Final = re.compile(r"^ {0,3}([-*_])( *\1){2,} *$")
_ITEM: Final = re.compile(r"^( {0,3})(?:[-*+]|\d{1,9}[.)])(?:\s+|$)")
_QUOTE: Final = re.compile(r"^ {0,3}>")
_FIRST_ITEM: Final = re.compile(r"^ {0,3}([-*+]|1[.)])\s+\S")
"""Only a list that begins with 1 may interrupt a paragraph: "… in\n1998. It was …" is none."""


@dataclass(frozen=True)
class Block:
    """A finished block.

    Attributes:
        text: Markdown; of a line of code the line itself.
        code: whether it is a line of code.
        language: of the code, as the reply names it.
        apart: an empty line stands before it.
        first: of the lines of code between two fences.
    """

    text: str
    code: bool = False
    language: str = ""
    apart: bool = False
    first: bool = False


class Blocks:
    """Takes pieces, gives finished blocks."""

    def __init__(self) -> None:
        self._line = ""
        self._open: list[str] = []
        self._fence: re.Match[str] | None = None
        self._apart = False
        self._any = False
        self._first_line = False

    @property
    def tail(self) -> Block | None:
        """The unfinished block as it is now."""
        if self._fence is not None:
            return self._code(self._line) if self._line else None
        text = "\n".join([*self._open, self._line]).strip("\n")
        return Block(text, apart=self._apart and self._any) if text.strip() else None

    def feed(self, piece: str) -> Iterator[Block]:
        """What has been finished by the next piece."""
        *lines, self._line = (self._line + piece).split("\n")
        for line in lines:
            yield from self._take(line.rstrip("\r"))

    def end(self) -> Iterator[Block]:
        """The rest, when nothing more comes."""
        line, self._line = self._line, ""
        if line:
            yield from self._take(line)
        yield from self._close()
        self._fence = None

    def _take(self, line: str) -> Iterator[Block]:
        if self._fence is not None:
            yield from self._in_code(line, self._fence)
        elif fence := _FENCE.match(line):
            yield from self._close()
            self._fence, self._first_line = fence, True
        elif not line.strip():
            yield from self._close()
            self._apart = True
        elif self._begins(line):
            yield from self._close()
            self._open.append(line)
            if _HEADING.match(line) or (_RULE.match(line)):
                yield from self._close()
        else:
            self._open.append(line)

    def _begins(self, line: str) -> bool:
        """Does this line begin another block?"""
        if not self._open or _HEADING.match(line):
            return True
        if set(line.strip()) <= {"-"} and not _ITEM.match(self._open[0]):
            return False  # underlines the paragraph above it, which makes that a heading
        if _RULE.match(line):
            return True
        if _QUOTE.match(line):
            return not _QUOTE.match(self._open[0])
        item, another = _ITEM.match(self._open[0]), _ITEM.match(line)
        if item is None:
            return _FIRST_ITEM.match(line) is not None
        return another is not None and len(another[1]) < len(item[0])  # further in, it belongs to the open item

    def _in_code(self, line: str, fence: re.Match[str]) -> Iterator[Block]:
        mark = fence["mark"]
        if re.fullmatch(rf" *{re.escape(mark[0])}{{{len(mark)},}} *", line):
            self._fence = None
            self._apart = True
            return
        yield self._finished(self._code(line))

    def _code(self, line: str) -> Block:
        assert self._fence is not None
        indent = len(self._fence["indent"])
        words = self._fence["info"].split()
        return Block(
            line[min(indent, len(line) - len(line.lstrip(" "))) :],
            code=True,
            language=words[0] if words else "",
            apart=self._apart and self._any,
            first=self._first_line,
        )

    def _close(self) -> Iterator[Block]:
        if self._open:
            text, self._open = "\n".join(self._open), []
            yield self._finished(Block(text, apart=self._apart and self._any))

    def _finished(self, block: Block) -> Block:
        self._any, self._apart, self._first_line = True, False, False
        return block
