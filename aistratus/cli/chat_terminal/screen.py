"""The screen of a conversation: an input line that is always there, and everything else around it.

What is finished is printed once above the input and belongs to the terminal from then on: it scrolls, it can be copied,
and it survives any change of the window's width. Only what may still change is drawn again: the end of a reply, the
line that says what is waited for, the input, and the bottom line. prompt_toolkit draws just their differences.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prompt_toolkit import print_formatted_text
from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer, DummyCompleter
from prompt_toolkit.filters import Condition, has_completions
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.layout import Dimension, Float, FloatContainer, HSplit, Layout, Window
from prompt_toolkit.layout.containers import ConditionalContainer
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.output import Output
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style
from prompt_toolkit.widgets import SearchToolbar

from aistratus.cli.chat_terminal.bottom_line import span
from aistratus.cli.chat_terminal.keys import bindings

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.program import Program

FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME_S: Final = 0.1
MENU_LINES: Final = 8
LOOK: Final = Style.from_dict(
    {
        "bottom": "reverse",
        "prompt": "bold",
        "stage": "ansicyan",
        "question": "bold ansiyellow",
        "waiting": "ansibrightblack",
    }
)


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
        self._stage = ""
        self._stage_at = 0.0
        self._stage_ends: float | None = None
        self._tail = ""
        self._question: _Question | None = None
        self._above: list[tuple[str, str | None]] = []
        self._printing = False
        self._error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._history: History = FileHistory(str(history)) if history else InMemoryHistory()
        self._buffer = Buffer(
            multiline=True,
            history=self._history,
            enable_history_search=True,
            completer=completer or DummyCompleter(),
            complete_while_typing=Condition(lambda: self._buffer.text.startswith("/")),
        )
        self._app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=bindings(self),
            style=LOOK,
            input=terminal_input,
            output=terminal_output,
            min_redraw_interval=0.03,
            after_render=self._rendered,
        )
        self._app.timeoutlen = 0.3

    # --- what the program calls -------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Columns of the terminal, now."""
        return self._app.output.get_size().columns

    @property
    def room(self) -> int:
        """Lines that the unfinished end of a reply may take."""
        return max(1, self._app.output.get_size().rows - 8)

    def say(self, text: str, style: str = "dim") -> None:
        from aistratus.cli.chat_terminal.words import styled

        self.show(styled(text, style))

    def asked(self, prompt: str) -> None:
        from aistratus.cli.chat_terminal.words import quoted

        self.show(quoted(prompt))

    def reply(self) -> Any:
        from aistratus.cli.chat_terminal.words import MarkdownReply

        return MarkdownReply(self)

    def show(self, above: str, tail: str | None = None) -> None:
        """Prints a finished text, and puts another one in the place of what may still change."""
        self._call(lambda: self._print(above, tail))

    def stage(self, text: str, left_s: float | None = None) -> None:
        if not text or not self._stage:
            self._stage_at = time.monotonic()
        self._stage = text
        self._stage_ends = None if left_s is None else time.monotonic() + left_s
        self.draw()

    def confirm(self, question: str) -> bool:
        asked = _Question(question, self._buffer.text)
        self._question = asked
        self._call(self._buffer.reset)
        asked.answered.wait()
        self._question = None
        self.fill(asked.typed)
        return asked.yes

    def fill(self, text: str) -> None:
        def put() -> None:
            self._buffer.text = text
            self._buffer.cursor_position = len(text)

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
        with patch_stdout(raw=True):
            self._app.run(pre_run=self._prepare, handle_sigint=True)
        if self._question is not None:
            self._question.answer(False)
        for above, _ in self._above:
            sys.stdout.write(above)
        if self._error is not None:
            raise self._error

    # --- what the keys call -----------------------------------------------------------------------------------

    @property
    def buffer(self) -> Buffer:
        """Where the person types."""
        return self._buffer

    def enter(self) -> None:
        """The typed text is complete."""
        text = self._buffer.text
        if self._question is not None:
            self._buffer.reset()
            self._question.answer(text.strip().lower() in {"y", "yes"})
        elif text.strip():
            with suppress(OSError):  # a history that can't be written is no reason not to ask
                self._buffer.append_to_history()
            self._buffer.reset()
            self._program.taken(text)

    def interrupt(self) -> None:
        """Ctrl-C."""
        if self._question is not None:
            self._buffer.reset()
            self._question.answer(False)
        elif self._program.interrupt():
            return
        elif self._buffer.text:
            self._buffer.reset()
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

    def _prepare(self) -> None:
        self._loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows has no such handlers
            self._loop.add_signal_handler(signal.SIGTERM, self.leave)
        self._app.create_background_task(self._tick())
        if self._above:
            self._print("", None)

    async def _tick(self) -> None:
        """Keeps what counts by itself current: the spinner ten times a second, everything else once."""
        while True:
            await asyncio.sleep(FRAME_S if self._stage else 1.0)
            self.draw()

    def _rendered(self, app: Application[None]) -> None:
        if not self._started:
            self._started = True
            self._program.start()

    def _print(self, above: str, tail: str | None) -> None:
        if above or tail is not None:
            self._above.append((above, tail))
        if self._loop is not None and not self._printing:
            self._printing = True
            self._app.create_background_task(self._print_all())

    async def _print_all(self) -> None:
        """Everything that waits to be printed, in one go; what may still change changes with it."""
        try:
            while self._above:
                waiting, self._above = self._above, []
                text = "".join(above for above, _ in waiting)
                tails = [tail for _, tail in waiting if tail is not None]
                if not text:
                    self._tail = tails[-1]
                    self.draw()
                    continue
                async with in_terminal():
                    self._tail = tails[-1] if tails else self._tail
                    print_formatted_text(ANSI(text), end="", output=self._app.output)
        finally:
            self._printing = False

    def _layout(self) -> Layout:
        search = SearchToolbar()
        typed = Window(
            BufferControl(self._buffer, search_buffer_control=search.control),
            height=self._input_height,
            wrap_lines=True,
            dont_extend_height=True,
            get_line_prefix=self._prefix,
        )
        body = HSplit(
            [
                self._when(lambda: bool(self._tail), lambda: ANSI(self._tail)),
                self._when(lambda: bool(self._stage_line()), lambda: [("class:stage", self._stage_line())]),
                typed,
                search,
                Window(
                    FormattedTextControl(lambda: [("class:bottom", f" {self._program.bottom()} ")]),
                    height=1,
                    style="class:bottom",
                ),
            ]
        )
        menu = Float(CompletionsMenu(max_height=MENU_LINES), xcursor=True, ycursor=True)
        return Layout(FloatContainer(body, [menu]), focused_element=typed)

    @staticmethod
    def _when(shown: Callable[[], bool], text: Callable[[], AnyFormattedText]) -> ConditionalContainer:
        window = Window(FormattedTextControl(text), dont_extend_height=True, wrap_lines=True)
        return ConditionalContainer(window, Condition(shown))

    def _input_height(self) -> Dimension:
        rows = self._app.output.get_size().rows
        return Dimension(min=MENU_LINES + 1 if has_completions() else 1, max=max(3, rows // 2))

    def _prefix(self, line: int, wraps: int) -> AnyFormattedText:
        if line or wraps:
            return "  "
        return [("class:question", f"{self._question.text} [y/N] ")] if self._question else [("class:prompt", "> ")]

    def _stage_line(self) -> str:
        many, now = self._program.waiting(), time.monotonic()
        later = f"{many} more to be asked after this" if many else ""
        if not self._stage:
            return later
        passed, left = now - self._stage_at, (self._stage_ends or now) - now
        still = "" if self._stage_ends is None else f"about {span(left)} left" if left > 0 else "longer than expected"
        frame = FRAMES[int(passed / FRAME_S) % len(FRAMES)]
        return " · ".join(part for part in (f"{frame} {self._stage}", still, f"{passed:.0f} s", later) if part)


class _Question:
    """Something that a person has to decide before the program goes on."""

    def __init__(self, text: str, typed: str) -> None:
        self.text = text
        self.typed = typed
        self.yes = False
        self.answered = threading.Event()

    def answer(self, yes: bool) -> None:
        self.yes = yes
        self.answered.set()
