"""The screen of a conversation: an input line that is always available, and everything around it.

Finished text is printed once above the input and then belongs to the terminal: it scrolls, can be copied, and survives
a change of the window's width. Only what may still change is redrawn: the end of a reply, the waiting line, the input,
and the bottom line. prompt_toolkit draws just their differences.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer, DummyCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.renderer import print_formatted_text

from aistratus.cli.chat_terminal.keys import bindings
from aistratus.cli.chat_terminal.layout import LOOK, layout
from aistratus.cli.chat_terminal.waiting import FRAME_S, Question, Stage

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.program import Program
    from aistratus.cli.chat_terminal.words import MarkdownReply

DRAW_EVERY_S = 0.03
"""At most; whatever changes meanwhile is drawn together."""


class TerminalScreen:
    """See `parts.Screen`.

    Args:
        program: asked for the bottom line at each drawing, given each typed line, told of Ctrl-C, and started once the
            first prompt is on the screen.
        history: a file for what was typed.
    """

    def __init__(
        self,
        program: Program,
        *,
        completer: Completer | None = None,
        history: Path | None = None,
        terminal_input: Input | None = None,
        terminal_output: Output | None = None,
    ) -> None:
        self._program = program
        self._started = False
        self._stage = Stage()
        self.tail = ""
        """The unfinished end of the reply."""
        self.question: Question | None = None
        self._deciding = threading.Lock()
        self._early: list[str] = []
        """What came before there was a screen, or after it."""
        self._error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.buffer = Buffer(
            multiline=True,
            history=FileHistory(str(history)) if history else InMemoryHistory(),
            enable_history_search=True,
            completer=completer or DummyCompleter(),
            complete_while_typing=Condition(lambda: self.buffer.text.startswith("/")),
        )
        self._app: Application[None] = Application(
            layout=layout(self),
            key_bindings=bindings(self),
            style=LOOK,
            input=terminal_input,
            output=terminal_output,
            erase_when_done=True,
            min_redraw_interval=DRAW_EVERY_S,
            after_render=self._rendered,
        )

    # --- what the program calls -------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Columns of the terminal, now."""
        return self._app.output.get_size().columns

    @property
    def height(self) -> int:
        """Its lines."""
        return self._app.output.get_size().rows

    @property
    def room(self) -> int:
        """Lines that the unfinished end of a reply may take."""
        return max(1, self.height - 8)

    def say(self, text: str, style: str = "dim") -> None:
        from aistratus.cli.chat_terminal.words import styled

        self.show(styled(text, style, self.width))

    def asked(self, prompt: str) -> None:
        from aistratus.cli.chat_terminal.words import quoted

        self.show(quoted(prompt))

    def reply(self) -> MarkdownReply:
        from aistratus.cli.chat_terminal.words import MarkdownReply

        return MarkdownReply(self)

    def show(self, above: str, tail: str | None = None) -> None:
        """Prints a finished text, and puts another one in the place of what may still change."""
        self._call(lambda: self._print(above, tail))

    def stage(self, text: str, left_s: float | None = None) -> None:
        self._stage.set(text, left_s)
        self.draw()

    def confirm(self, question: str) -> bool:
        with self._deciding:
            self.question = asked = Question(question, self.buffer.text)
            self._call(self.buffer.reset)
            asked.answered.wait()
            self.question = None
            self.fill(asked.typed)
            return asked.yes

    def fill(self, text: str) -> None:
        def put() -> None:
            if self.buffer.text:  # something was typed meanwhile, which comes first; Up finds the other
                return
            self.buffer.text = text
            self.buffer.cursor_position = len(text)

        self._call(put)

    def leave(self, error: Exception | None = None) -> None:
        self._error = self._error or error

        def end() -> None:
            with suppress(Exception):  # prompt_toolkit's own, when it is ending already
                self._app.exit()

        self._call(end)

    def draw(self) -> None:
        """Something has changed."""
        self._app.invalidate()

    def run(self) -> None:
        """Shows the screen until somebody leaves.

        Raises:
            Exception: what `leave` was given.
        """
        with patch_stdout(raw=True), suppress(EOFError):  # the terminal is gone
            self._app.run(pre_run=self._prepare)
        if self.question is not None:
            self.question.answer(False)
        sys.stdout.write("".join(self._early))
        if self._error is not None:
            raise self._error

    # --- what the layout shows ------------------------------------------------------------------------------------

    def bottom_line(self) -> str:
        """See `bottom_line.py`."""
        return self._program.bottom(self.width - 2)

    def stage_line(self) -> str:
        """See `waiting.py`."""
        return self._stage.line(self._program.waiting())

    # --- what the keys call -----------------------------------------------------------------------------------

    def enter(self) -> None:
        """The typed text is complete."""
        text = self.buffer.text
        if self.question is not None:
            self.buffer.reset()
            self.question.answer(text.strip().lower() in {"y", "yes"})
        elif text.strip():
            with suppress(OSError):  # a history that can't be written is no reason not to ask
                self.buffer.append_to_history()
            self.buffer.reset()
            self._program.taken(text)

    def interrupt(self) -> None:
        """Ctrl-C."""
        if self.question is not None:
            self.buffer.reset()
            self.question.answer(False)
        elif self._program.interrupt():
            return
        elif self.buffer.text:
            self.buffer.reset()
        else:
            self.say("Ctrl-D leaves.")

    # --- inside -----------------------------------------------------------------------------------------------

    def _call(self, what: Callable[[], None]) -> None:
        """Does something in the thread that draws."""

        def then_draw() -> None:
            what()
            self.draw()

        if self._loop is None:
            what()
        else:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(then_draw)

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """All that is written is shown in one go by terminals that can do so; others ignore these sequences.

        Source: the terminals' specification "Synchronized Output", private mode 2026.
        """
        output = self._app.output
        if not isinstance(output, Vt100_Output):
            yield
            return
        output.write_raw("\x1b[?2026h")
        try:
            yield
        finally:
            output.write_raw("\x1b[?2026l")
            output.flush()

    def _prepare(self) -> None:
        self._loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows has no such handlers
            self._loop.add_signal_handler(signal.SIGTERM, self.leave)
        self._app.create_background_task(self._tick())
        early, self._early = self._early, []
        self._loop.call_soon(lambda: self._print("".join(early), None))

    async def _tick(self) -> None:
        """Keeps what counts by itself current: the spinner ten times a second, everything else once."""
        while True:
            await asyncio.sleep(FRAME_S if self._stage.text else 1.0)
            self.draw()

    def _rendered(self, app: Application[None]) -> None:
        if not self._started:
            self._started = True
            self._program.start()

    def _print(self, above: str, tail: str | None) -> None:
        """Prints a text above everything that may still change, which is drawn again in the same moment.

        Not by prompt_toolkit's `run_in_terminal`: that gives the keyboard back to the terminal meanwhile, which would
        show what is typed just then in the middle of the reply.
        """
        if self._loop is None:
            self._early.append(above)
            return
        self.tail = self.tail if tail is None else tail
        if above and self._app.is_running:
            with self._at_once():
                self._app.renderer.erase()
                print_formatted_text(self._app.output, ANSI(above).__pt_formatted_text__(), LOOK)
                self._app.renderer.request_absolute_cursor_position()
                self._app._redraw()
        elif above:
            self._early.append(above)
