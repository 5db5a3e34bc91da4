"""Completes slash commands, and file names after those that take one."""

from __future__ import annotations

from collections.abc import Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document


class SlashCompleter(Completer):
    """Gives what the cursor's line may go on with."""

    def __init__(self) -> None:
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """The commands that begin like the typed one, or files."""
        from aistratus.cli.chat_terminal.commands import COMMANDS

        typed = document.text_before_cursor
        if not typed.startswith("/"):
            return
        name, space, rest = typed.partition(" ")
        if not space:
            for known, command in COMMANDS.items():
                if known.startswith(name.lower()):
                    yield Completion(known, -len(name), display=f"{known} {command.takes}", display_meta=command.tells)
        elif (found := COMMANDS.get(name.lower())) is not None and found.file:
            yield from self._files.get_completions(Document(rest), complete_event)
