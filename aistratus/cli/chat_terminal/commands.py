"""The registry of slash commands: names, arguments, and the dispatch of a typed line.

A line is a command if its first word is a slash and letters. `/etc/hosts, what is it?` is a question, and so is
anything after a space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from aistratus.cli.chat_terminal import node_commands, talk_commands

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.program import Program

_COMMAND: Final = re.compile(r"(/[a-zA-Z]+)(?:\s+(.*))?\s*", re.S)


@dataclass(frozen=True)
class Command:
    """One slash command.

    Attributes:
        run: gets the program and what was typed after the name.
        takes: how its argument is shown.
        tells: what it does, in a few words.
        at_once: doesn't wait for the reply that is on its way.
        file: its argument is a file's name.
    """

    run: Callable[[Program, str], None]
    takes: str
    tells: str
    at_once: bool = False
    file: bool = False


def _help(program: Program, argument: str) -> None:
    width = max(len(f"{name} {command.takes}") for name, command in COMMANDS.items())
    lines = [f"{f'{name} {command.takes}':<{width}}  {command.tells}" for name, command in COMMANDS.items()]
    program.screen.say("\n".join([*lines, "", *KEYS]), "")


KEYS: Final = (
    "Enter asks, Alt-Enter begins a new line, Up and Ctrl-R look through what was typed earlier.",
    "Ctrl-C stops the reply and keeps the conversation, Ctrl-D leaves.",
    "A question that begins with a slash and a word is asked after a space.",
)

COMMANDS: Final[Mapping[str, Command]] = {
    "/help": Command(_help, "", "shows this", at_once=True),
    "/stop": Command(node_commands.stop, "", "stops the node, after a question", at_once=True),
    "/start": Command(node_commands.start, "", "starts the node", at_once=True),
    "/resize": Command(node_commands.resize, "cpu|gpu|TYPE", "gives the node another type", at_once=True),
    "/idle": Command(
        node_commands.idle, "[N]", "shows or sets after how many idle minutes the node stops", at_once=True
    ),
    "/cost": Command(node_commands.cost, "", "what it costs", at_once=True),
    "/system": Command(talk_commands.system, "[TEXT|off]", "shows or sets how the model shall behave"),
    "/model": Command(talk_commands.model, "[NAME=VALUE]…", "shows the model, or sets temperature, max_tokens, seed"),
    "/retry": Command(talk_commands.retry, "", "asks the last question again"),
    "/edit": Command(talk_commands.edit, "", "the last question to be changed and asked in its own place"),
    "/undo": Command(talk_commands.undo, "", "takes the last question and its reply back"),
    "/save": Command(talk_commands.save, "FILE", "writes the conversation as Markdown, or JSON (.json)", file=True),
    "/load": Command(talk_commands.load, "[FILE|ID]", "goes on with an earlier conversation", file=True),
    "/new": Command(talk_commands.new, "", "begins a new conversation"),
    "/copy": Command(talk_commands.copy, "[code]", "the last reply, or its last code, to the clipboard", at_once=True),
}


def is_command(line: str) -> bool:
    """Whether a typed line is a command, known or not."""
    return _COMMAND.fullmatch(line) is not None


def at_once(line: str) -> bool:
    """Whether it's a command that doesn't wait for the reply on its way."""
    found = _COMMAND.fullmatch(line)
    command = COMMANDS.get(found[1].lower()) if found else None
    return command is not None and command.at_once


def run_command(program: Program, line: str) -> None:
    """Does what a command says, or tells which one may have been meant."""
    found = _COMMAND.fullmatch(line)
    assert found is not None
    name, argument = found[1].lower(), (found[2] or "").strip()
    command = COMMANDS.get(name)
    if command is None:
        near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        program.screen.say(f"aistratus: there is no {name}; {meant}/help shows all of them", "red")
        return
    command.run(program, argument)
