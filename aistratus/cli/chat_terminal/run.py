"""Assembles the conversation at a terminal, so that its prompt is shown before anything else is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aistratus.cli.chat_line import connect, told_archive
from aistratus.cli.chat_terminal.program import Program, Wanted
from aistratus.private import make_private

if TYPE_CHECKING:
    from aistratus.cli.options import Options

ONLY_PRINTS = frozenset({"dumb", "unknown", ""})
"""Values of TERM; Windows' consoles have none and can do all of it."""


def converse(
    options: Callable[[], Options],
    env: str,
    *,
    go_on: bool = False,
    conversation: str | None = None,
    chosen: dict[str, Any] | None = None,
) -> None:
    """Talks with whoever sits at the terminal until they leave.

    Args:
        options: those of this call; asked for when the prompt stands there.

    Raises:
        Failure: there is nothing to talk to.
    """
    wanted = Wanted(
        env=env,
        go_on=go_on,
        conversation=conversation,
        chosen=chosen or {},
        settings=lambda: options().load(),
        archive=lambda: told_archive(env),
        connect=lambda: connect(options()),
        command=lambda arguments: other_command(_flags(options(), env), arguments),
    )
    run(wanted, history_of(env))


def run(wanted: Wanted, history: Path | None) -> None:
    """The same with everything given."""
    program = Program(wanted)
    try:
        only_prints = os.name == "posix" and os.environ.get("TERM", "") in ONLY_PRINTS
        if only_prints or not sys.stdout.isatty():
            from aistratus.cli.chat_terminal.plain import PlainScreen

            plain = PlainScreen()
            program.screen = plain
            plain.run(program)
            return
        from aistratus.cli.chat_terminal.completion import SlashCompleter
        from aistratus.cli.chat_terminal.screen import TerminalScreen

        screen = TerminalScreen(program, completer=SlashCompleter(), history=history)
        program.screen = screen
        screen.run()
    finally:
        program.close()
    if program.goes_on:
        print("`aistratus chat -c` goes on with this conversation.")


def history_of(env: str) -> Path | None:
    """The file of what was typed in this env (0600), or `None` if there can be none."""
    import platformdirs

    path = platformdirs.user_data_path("aistratus") / "history" / env
    try:
        make_private(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError:
        return None
    return path


def _flags(options: Options, env: str) -> list[str]:
    """The global options of this call, for another command."""
    given = {"--env": env, "--region": options.region, "--profile": options.profile, "--config": options.config}
    return [part for name, value in given.items() if value is not None for part in (name, str(value))]


def other_command(options: list[str], arguments: list[str]) -> tuple[int, str]:
    """Runs another command of this program, with the options of this call, in a process of its own.

    So it has its own standard output, its own Ctrl-C, and the same words and exit codes as at a shell.

    Returns:
        Its exit code, and what it printed.
    """
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", "from aistratus.cli.app import main; main()", *options, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout.rstrip("\n")
