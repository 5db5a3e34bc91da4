"""Slash commands about the machine and its cost.

/stop, /start and /resize call the API, which any operator may, with or without AWS credentials. /idle and /cost run
other commands of this program, which need AWS credentials.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from aistratus import wire
from aistratus.cli.chat_words import failure_of
from aistratus.client.errors import ApiError
from aistratus.core.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistratus.cli.chat_terminal.program import Program

SHAPES: Final = re.compile(r"cpu|gpu|[a-z][a-z0-9-]*\.[a-z0-9-]+")
"""What the settings call it, or how EC2 names its types: family, dot, size."""

NO_ROUTE: Final = "this env's API is too old for that; `aistratus up` brings it up to date"


def stop(program: Program, argument: str) -> None:
    """/stop"""
    if not program.screen.confirm(f"Stop the node of env {program.wanted.env!r}?"):
        program.screen.say("nothing was stopped")
        return
    _ask_api(program, lambda: program.api().stop_node())
    program.screen.say("the node stops; the next question wakes it")


def start(program: Program, argument: str) -> None:
    """/start"""
    _ask_api(program, lambda: program.api().change_node("start"))
    program.screen.say("the node starts")


def resize(program: Program, argument: str) -> None:
    """/resize TYPE"""
    node = program.wanted.settings().node
    if not SHAPES.fullmatch(argument):
        why = f"there is no type {argument!r}" if argument else "the type is missing"
        raise Failure(why, todo=f"/resize takes cpu, gpu, or one of the settings' types: {', '.join(node.types)}")
    shape = {"cpu": node.cpu_type, "gpu": node.gpu_types[0] if node.gpu_types else argument}.get(argument, argument)
    _ask_api(program, lambda: program.api().change_node("resize", shape))
    program.screen.say(f"the node changes to {shape}; a question in hand is given back and answered after that")


def idle(program: Program, argument: str) -> None:
    """/idle [N]"""
    if argument and not (argument.isascii() and argument.isdigit()):
        raise Failure(f"{argument!r} isn't a number of minutes", todo="/idle 15")
    _run(program, ["node", "idle", *([argument] if argument else [])])


def cost(program: Program, argument: str) -> None:
    """/cost"""
    _run(program, ["cost"])


def _ask_api(program: Program, call: Callable[[], Any]) -> None:
    program.connected()
    try:
        call()
    except ApiError as error:
        if error.status in (404, 405) and error.type != wire.NOT_FOUND:
            raise Failure(NO_ROUTE) from error
        raise failure_of(error) from error
    program.watch.busy(False)


def _run(program: Program, arguments: list[str]) -> None:
    program.screen.stage(f"aistratus {' '.join(arguments)}")
    try:
        code, said = program.wanted.command(arguments)
    finally:
        program.screen.stage("")
    program.screen.say(said or f"(ended with {code})", "red" if code not in (0, 3, 4) else "")
    program.watch.busy(False)
