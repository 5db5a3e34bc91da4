"""`aistratus chat` at a terminal whose line leads to a door of a test: everything else is as it is at a stack.

python chat_at_door.py ADDRESS [-c], or ADDRESS [--raw] QUESTION
"""

from __future__ import annotations

import sys
from pathlib import Path

from aistratus.cli.chat_line import Line, told_archive
from aistratus.cli.chat_once import answer
from aistratus.cli.chat_terminal.program import Wanted
from aistratus.cli.chat_terminal.run import history_of, run
from aistratus.cli.options import Options
from aistratus.client.conversations import Archive
from aistratus.client.talk import Talk
from aistratus.core.errors import Failure
from aistratus.settings import ModelSettings, Settings


def token() -> str:
    """As kept by whoever signed in last."""
    kept = Path("token")
    return kept.read_text() if kept.exists() else "token"


def other(arguments: list[str]) -> tuple[int, str]:
    return 0, f"ran {' '.join(arguments)}"


def main() -> None:
    address, *words = sys.argv[1:]
    flags = [word for word in words if word.startswith("-")]
    wanted = Wanted(
        env="local",
        go_on="-c" in flags,
        settings=lambda: Settings(model=ModelSettings(name="fake", context_tokens=512, temperature=0.0)),
        archive=lambda: told_archive("local"),
        connect=lambda: Line(address, token),
        command=other,
    )
    try:
        if questions := [word for word in words if word not in flags]:
            talk = Talk(Archive(None))
            answer(
                Options(), Line(address, token), talk, questions[0], catch_up=False, stream=True, raw="--raw" in flags
            )
        else:
            run(wanted, history_of("local"))
    except Failure as failure:
        print(f"aistratus: {failure}")
        sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
