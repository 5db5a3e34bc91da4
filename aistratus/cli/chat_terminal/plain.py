"""A screen for terminals that can only print one line after the other (TERM=dumb, an editor's shell window)."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from aistratus.cli.chat_once import summary
from aistratus.cli.chat_terminal.text import clean

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.program import Program


class PlainScreen:
    """See `parts.Screen`."""

    def __init__(self) -> None:
        self._beside = Console(stderr=True, highlight=False, soft_wrap=True)
        self._error: Exception | None = None
        self.left = False

    def say(self, text: str, style: str = "dim") -> None:
        self._beside.print(text, style=style, markup=False)

    def asked(self, prompt: str) -> None:
        """It stands there already, as it was typed."""

    def reply(self) -> PlainReply:
        return PlainReply(self)

    def stage(self, text: str, left_s: float | None = None) -> None:
        """Nothing that would have to be taken away again is shown."""

    def confirm(self, question: str) -> bool:
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def fill(self, text: str) -> None:
        self.say(f"it was: {text}")

    def leave(self, error: Exception | None = None) -> None:
        self._error, self.left = error, True

    def draw(self) -> None:
        """There is no bottom line."""

    def run(self, program: Program) -> None:
        """Asks and answers until Ctrl-D."""
        self.say("Ctrl-C stops a reply, Ctrl-D leaves, /help shows the commands.")
        with suppress(ImportError):  # arrow keys and history; Windows' own console has them without
            import readline  # noqa: F401 - `input` uses it once it is imported

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            if not program.interrupt():
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, on_interrupt)
        try:
            program.begin()
            while not self.left:
                try:
                    line = input("> " if sys.stdout.isatty() else "")
                    if line.strip():
                        program.handled(line)
                        self._conclude(program)
                except EOFError:
                    print()
                    return
                except KeyboardInterrupt:
                    print()
        finally:
            signal.signal(signal.SIGINT, before)
        if self._error is not None:
            raise self._error

    def _conclude(self, program: Program) -> None:
        last = program.talk.last
        if last is not None and last.state == "answered":
            self.say(summary(last.model, last.usage, last.timings))


class PlainReply:
    """See `parts.Reply`."""

    def __init__(self, screen: PlainScreen) -> None:
        self._screen = screen
        self._open = False

    def write(self, piece: str) -> None:
        sys.stdout.write(clean(piece))
        sys.stdout.flush()
        self._open = not piece.endswith("\n")

    def again(self) -> None:
        self.end()
        self._screen.say("(the worker began again)")

    def end(self) -> None:
        if self._open:
            print(flush=True)
            self._open = False
