"""Somebody at a real terminal: types, and reads what stands there without its colours."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
from chat_screen import Screen
from cli_parts import ROOT, WITHIN_S, plain_environment

ENTER = "\r"
ALT_ENTER = "\x1b\r"
CTRL_C = "\x03"
CTRL_D = "\x04"
CTRL_R = "\x12"
UP = "\x1b[A"


class Typist:
    """A chat in a pseudo-terminal.

    Attributes:
        written: everything that the program has written, with its escape sequences.
    """

    def __init__(self, child: Any, size: tuple[int, int]) -> None:
        self.child = child
        self.written = ""
        self.screen = Screen(*size)

    def type(self, *keys: str) -> None:
        self.child.send("".join(keys))

    def ask(self, line: str, *, sees: str | None = None) -> None:
        """Types a line, and waits for something that wasn't there before."""
        before = self.count(sees) if sees else 0
        self.type(line, ENTER)
        if sees:
            self.sees(sees, more_than=before)

    def count(self, text: str) -> int:
        """How often this stands on the screen, or has scrolled away from it."""
        self._read()
        return self.screen.text.count(text)

    def sees(self, text: str, *, more_than: int = 0) -> None:
        """Waits until this stands there."""
        ends = time.monotonic() + WITHIN_S
        while self.count(text) <= more_than:
            assert time.monotonic() < ends, f"{text!r} isn't in\n{self.screen.text[-3_000:]}"
            assert self.child.isalive() or self.count(text), f"it ended; {text!r} isn't in\n{self.screen.text[-3_000:]}"

    def after(self, text: str) -> str:
        """What stands below the last of this."""
        self._read()
        return self.screen.text.rpartition(text)[2]

    def resize(self, height: int, width: int) -> None:
        """The window changes."""
        self.screen.height, self.screen.width = height, width
        self.child.setwinsize(height, width)

    def _read(self) -> None:
        try:
            written = self.child.read_nonblocking(65_536, timeout=0.05)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.written += written
        self.screen.feed(written)

    def ended(self) -> int:
        """Waits for the program's end, gives its exit code."""
        self.child.expect(pexpect.EOF)
        self.screen.feed(self.child.before)
        self.child.wait()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus)


@contextmanager
def typist(home: Path, address: str, *flags: str, size: tuple[int, int] = (30, 100)) -> Iterator[Typist]:
    """Somebody who talks to a door (`chat_door.py`)."""
    environment = plain_environment(home) | {
        "TERM": "xterm-256color",
        "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody here answers where the cursor is
        "XDG_DATA_HOME": str(home / "data"),
    }
    child = pexpect.spawn(
        sys.executable,
        [str(ROOT / "tests/cli/chat_at_door.py"), address, *flags],
        env=environment,
        cwd=str(home),
        encoding="utf-8",
        timeout=WITHIN_S,
        dimensions=size,
    )
    child.delaybeforesend = None
    try:
        yield Typist(child, size)
    finally:
        child.close(force=True)


def kept(home: Path) -> list[tuple[str, str, str]]:
    """Prompt, reply and state of every turn in the env's conversations, read by SQLite itself."""
    file = home / "data/aistratus/conversations/local.sqlite3"
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0
    with sqlite3.connect(file) as db:
        return [tuple(row) for row in db.execute("SELECT prompt, reply, state FROM turns ORDER BY id")]
