"""`aistratus chat` as most people call it: recognised and begun without the rest of the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistratus.cli.options import Options


@dataclass(frozen=True)
class JustChat:
    """`aistratus chat` as most people call it."""

    env: str | None = None
    go_on: bool = False


def just_chat(arguments: Sequence[str]) -> JustChat | None:
    """What a command line asks for, if it is no more than a conversation."""
    env, go_on, chat = None, False, False
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "chat" and not chat:
            chat = True
        elif word in ("-c", "--continue") and chat:
            go_on = True
        elif word in ("-e", "--env") and waiting:
            env = waiting.pop(0)
        else:
            return None
    return JustChat(env, go_on) if chat else None


def at_terminal() -> bool:
    """Whether a person sits there, and nothing in the environment asks for something else than words."""
    plain = os.environ.get("AISTRATUS_OUTPUT", "table") == "table"
    return plain and all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def begin(asked: JustChat) -> int:
    """Runs the conversation, and returns the exit code."""
    from aistratus.cli.chat_terminal.run import converse
    from aistratus.settings_file import env_of

    @cache
    def options() -> Options:
        from aistratus.cli.app import made

        trace = os.environ.get("AISTRATUS_TRACE")
        return made(env=asked.env, trace=Path(trace) if trace else None)

    try:
        env = env_of(asked.env, None, os.environ, Path.cwd())
        converse(options, env or options().load().env, go_on=asked.go_on)  # which tells what is wrong with it
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a sentence instead of a traceback
        from aistratus.cli.app import tell
        from aistratus.core.errors import Interrupted

        return tell(error if isinstance(error, Exception) else Interrupted("interrupted"), sys.argv[1:])
    return 0
