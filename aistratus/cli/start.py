"""The program's entry point: a fast path to the prompt of `aistratus chat`, else the Typer app.

Typer and Pydantic take longer to import than everything that the prompt needs. So `aistratus chat`, alone or with `-c`
and `-e ENV`, is recognised here, and the rest of the program is imported while the prompt is already shown. Any other
call takes the usual way, with the same result.

Ctrl-C while the program is only being loaded ends it at once and without a word: there is nothing to tell, and Python
would show where it was. So this file itself imports next to nothing.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

GARBAGE_AFTER = 300_000
"""Objects that are made before garbage is looked for. A command keeps nearly all that it makes (AWS's models of its
services above all), and looking through that again and again is a quarter of the time of `up`."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Runs the program."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # else it is ignored, as in the background of a shell
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from aistratus.cli import just_chat, streams

    streams.prepare()
    gc.set_threshold(GARBAGE_AFTER, 20, 20)
    atexit.register(gc.freeze)  # or the interpreter looks through all of it twice more before it ends: a third of `up`
    asked = just_chat.just_chat(sys.argv[1:]) if just_chat.at_terminal() else None
    if asked is None:
        from aistratus.cli import app

        signal.signal(signal.SIGINT, heard)
        app.main()
    else:
        import aistratus.cli.chat_terminal.run
        import aistratus.settings_file  # noqa: F401 - what `begin` needs

        signal.signal(signal.SIGINT, heard)
        sys.exit(just_chat.begin(asked))
