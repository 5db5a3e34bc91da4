"""The layout of the part of the screen that is redrawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from prompt_toolkit.filters import Condition, has_completions
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText
from prompt_toolkit.layout import Dimension, Float, FloatContainer, HSplit, Layout, Window
from prompt_toolkit.layout.containers import ConditionalContainer
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.styles import Style
from prompt_toolkit.widgets import SearchToolbar

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.screen import TerminalScreen

MENU_LINES: Final = 8
LOOK: Final = Style.from_dict(
    {"bottom": "reverse", "prompt": "bold", "stage": "ansicyan", "question": "bold ansiyellow"}
)


def layout(screen: TerminalScreen) -> Layout:
    """From above: the unfinished end of the reply, what is waited for, the input, a search in it, the bottom line."""
    search = SearchToolbar()
    typed = Window(
        BufferControl(screen.buffer, search_buffer_control=search.control, preview_search=True),
        height=lambda: Dimension(min=MENU_LINES + 1 if has_completions() else 1, max=max(3, screen.height // 2)),
        wrap_lines=True,
        dont_extend_height=True,
        get_line_prefix=lambda line, wraps: "  " if line or wraps else _prompt(screen),
    )
    bottom = FormattedTextControl(lambda: [("class:bottom", f" {screen.bottom_line()} ")])
    body = HSplit(
        [
            _if_any(lambda: screen.tail, lambda: ANSI(screen.tail)),
            _if_any(screen.stage_line, lambda: [("class:stage", screen.stage_line())]),
            typed,
            search,
            Window(bottom, height=1, style="class:bottom"),
        ]
    )
    menu = Float(CompletionsMenu(max_height=MENU_LINES), xcursor=True, ycursor=True)
    return Layout(FloatContainer(body, [menu]), focused_element=typed)


def _prompt(screen: TerminalScreen) -> AnyFormattedText:
    if screen.question is not None:
        return [("class:question", f"{screen.question.text} [y/N] ")]
    return [("class:prompt", "> ")]


def _if_any(text: Callable[[], str], shown: Callable[[], AnyFormattedText]) -> ConditionalContainer:
    window = Window(FormattedTextControl(shown), dont_extend_height=True, wrap_lines=True)
    return ConditionalContainer(window, Condition(lambda: bool(text())))
