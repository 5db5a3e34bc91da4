"""What `aistratus chat` loads before its prompt stands there: nothing slow, and nothing that Windows doesn't have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aistratus.cli.just_chat import JustChat, just_chat

SLOW = ("boto3", "httpx", "pydantic", "rich", "sqlite3", "typer", "aistratus.settings", "aistratus.client.api")

LOOK = f"""
import sys
for missing in ("termios", "tty", "fcntl", "pwd", "readline", "resource"):
    sys.modules[missing] = None  # as on Windows
import aistratus.cli.just_chat
import aistratus.cli.start
import aistratus.cli.chat_terminal.run
import aistratus.cli.chat_terminal.completion
from aistratus.cli.chat_terminal.program import Program, Wanted
from aistratus.cli.chat_terminal.screen import TerminalScreen
from prompt_toolkit.input import DummyInput
from prompt_toolkit.output import DummyOutput
program = Program(Wanted(env="local", settings=None, archive=None, connect=None, command=None))
TerminalScreen(program, terminal_input=DummyInput(), terminal_output=DummyOutput())
print(sorted(set({SLOW!r}) & set(sys.modules)))
"""


def test_the_prompt_waits_for_no_network_library_and_needs_nothing_of_posix() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("chat", JustChat()),
        ("chat -c", JustChat(go_on=True)),
        ("-e dev chat --continue", JustChat("dev", go_on=True)),
        ("chat --env dev", JustChat("dev")),
        ("", None),
        ("-e dev", None),
        ("chat -e", None),
        ("-c chat", None),
        ("chat chat", None),
        ("chat hello", None),
        ("chat -- list", None),
        ("chat list", None),
        ("chat --help", None),
        ("chat --system x", None),
        ("-v chat", None),
        ("up", None),
    ],
)
def test_only_a_plain_conversation_skips_the_command_line(line: str, asked: JustChat | None) -> None:
    assert just_chat(line.split()) == asked
