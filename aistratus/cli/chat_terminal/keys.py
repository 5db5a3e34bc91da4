"""Key bindings of a conversation, in addition to the line editor's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.screen import TerminalScreen


def bindings(screen: TerminalScreen) -> KeyBindings:
    """Enter asks, Alt-Enter begins a new line, Ctrl-C stops the reply, Ctrl-D leaves."""
    keys = KeyBindings()
    typing = ~is_searching
    nothing_typed = Condition(lambda: not screen.buffer.text)

    @keys.add("enter", filter=typing)
    def _ask(event: KeyPressEvent) -> None:
        screen.enter()

    @keys.add("escape", "enter", filter=typing)
    def _new_line(event: KeyPressEvent) -> None:
        screen.buffer.insert_text("\n")

    @keys.add("c-c")
    @keys.add("<sigint>")
    def _stop(event: KeyPressEvent) -> None:
        screen.interrupt()

    @keys.add("c-d", filter=typing & nothing_typed)
    def _leave(event: KeyPressEvent) -> None:
        screen.leave()

    return keys
