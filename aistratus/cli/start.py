"""The program's entry point: a fast path to the prompt of `aistratus chat`, else the Typer app.

Typer and Pydantic take longer to import than everything that the prompt needs. So `aistratus chat`, alone or with `-c`
and `-e ENV`, is recognised here, and the rest of the program is imported while the prompt is already shown. Any other
call takes the usual way, with the same result.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aistratus.cli import streams

if TYPE_CHECKING:
    from aistratus.cli.options import Options


@dataclass(frozen=True)
class JustChat:
    """`aistratus chat` as most people call it."""

    env: str | None = None
    go_on: bool = False


GARBAGE_AFTER: Final = 300_000
"""Objects that are made before garbage is looked for. A command keeps nearly all that it makes (AWS's models of its
services above all), and looking through that again and again is a quarter of the time of `up`."""


def main() -> None:
    """Runs the program."""
    streams.prepare()
    gc.set_threshold(GARBAGE_AFTER, 20, 20)
    atexit.register(gc.freeze)  # or the interpreter looks through all of it twice more before it ends: a third of `up`
    asked = just_chat(sys.argv[1:]) if _at_terminal() else None
    if asked is None:
        from aistratus.cli import app

        app.main()
    else:
        sys.exit(_chat(asked))


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


def _at_terminal() -> bool:
    """Whether a person sits there, and nothing in the environment asks for something else than words."""
    plain = os.environ.get("AISTRATUS_OUTPUT", "table") == "table"
    return plain and all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _chat(asked: JustChat) -> int:
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
