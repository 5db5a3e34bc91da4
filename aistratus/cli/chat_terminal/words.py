"""The screen's texts: remarks, questions, and replies in Markdown."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from aistratus.cli.chat_terminal.markdown import MarkdownStream
from aistratus.cli.chat_terminal.text import clean

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.screen import TerminalScreen

DRAW_EVERY_S = 0.05
"""The unfinished end is drawn at most so often; what is finished, at once."""


def styled(text: str, style: str, width: int | None) -> str:
    """A remark, with a line break at its end.

    Args:
        width: where its lines are broken between words; `None` leaves them as they are.
    """
    console = Console(
        file=io.StringIO(), force_terminal=True, highlight=False, legacy_windows=False, width=max(8, width or 80)
    )
    with console.capture() as captured:
        console.print(Text(clean(text), style=style), soft_wrap=width is None)
    return captured.get()


def quoted(prompt: str) -> str:
    """A question as it stands in the conversation, with an empty line after it."""
    first, *more = clean(prompt).split("\n")
    lines = [f"> {first}", *(f"  {line}" for line in more)]
    return "".join(styled(line, "bold", None) for line in lines) + "\n"


class MarkdownReply:
    """See `parts.Reply`."""

    def __init__(self, screen: TerminalScreen) -> None:
        self._screen = screen
        self._stream = MarkdownStream()
        self._drawn_at = 0.0
        self._any = False

    def write(self, piece: str) -> None:
        self._any = self._any or bool(piece)
        done = self._stream.feed(piece, self._screen.width)
        now = time.monotonic()
        if done or now - self._drawn_at >= DRAW_EVERY_S:
            self._drawn_at = now
            self._screen.show(done, self._stream.tail(self._screen.width, self._screen.room))

    def again(self) -> None:
        self.end()
        self._screen.say("(the worker began again)")
        self._stream = MarkdownStream()

    def end(self) -> None:
        self._screen.show(self._stream.end(self._screen.width) + "\n" * self._any, "")
