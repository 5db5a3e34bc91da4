"""Slash commands about the conversation itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aistratus.client import conversations
from aistratus.client.talk import GONE, Talk
from aistratus.core.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aistratus.cli.chat_terminal.program import Program

NOTHING_ASKED: Final = "nothing was asked yet"

CHOICES: Final[Mapping[str, Callable[[str], Any]]] = {
    "temperature": float, "top_p": float, "max_tokens": int, "seed": int,
}  # fmt: skip


def system(program: Program, argument: str) -> None:
    """/system [TEXT|off]"""
    talk = program.talk
    if argument == "off":
        talk.choices.pop("system", None)
    elif argument:
        _choose(talk, {"system": argument})
    now = talk.choices.get("system")
    program.screen.say(f"system: {now}" if now else "there is no system text; /system TEXT sets one")


def model(program: Program, argument: str) -> None:
    """/model [NAME=VALUE]…"""
    talk, chosen = program.talk, {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        if not equals or name not in CHOICES:
            raise Failure(f"{word!r} can't be set", todo=f"/model {' '.join(f'{name}=…' for name in CHOICES)}")
        try:
            chosen[name] = CHOICES[name](value)
        except ValueError:
            raise Failure(f"{name} isn't a number: {value!r}") from None
    _choose(talk, chosen)
    last = talk.last
    name = (
        (last.model if last else "") or program.wanted.settings().model.name or "of this env; its replies tell its name"
    )
    told = [f"{key} {value}" for key, value in talk.choices.items() if key != "system"]
    window = f"window {talk.window.tokens} tokens"
    program.screen.say(f"model {name} · " + " · ".join([window, *told]))


def _choose(talk: Talk, chosen: dict[str, Any]) -> None:
    """Sets fields of all further requests; the API's limits hold here already."""
    from pydantic import ValidationError

    from aistratus.cli.chat_words import cannot_ask

    try:
        talk.conversation.ask("?", **{**talk.choices, **chosen})
    except ValidationError as error:
        raise cannot_ask(error) from None
    talk.choices.update(chosen)


def retry(program: Program, argument: str) -> None:
    """/retry"""
    last = program.talk.last
    if last is None:
        raise Failure(NOTHING_ASKED)
    if (asked := program.talk.reopen()) is not None:
        program.screen.asked(asked.prompt)
        program.answer(asked)
        now = program.talk.last
        if now is None or now.state == conversations.ASKED or now.reason != GONE:
            return
    program.talk.undo()
    program.question(last.prompt)


def edit(program: Program, argument: str) -> None:
    """/edit"""
    last = program.talk.last
    if last is None:
        raise Failure(NOTHING_ASKED)
    program.replaces = last.id
    program.screen.say("Enter asks this in place of the last question; Ctrl-C leaves that as it is.")
    program.screen.fill(last.prompt)


def undo(program: Program, argument: str) -> None:
    """/undo"""
    taken = program.talk.undo()
    if taken is None:
        raise Failure(NOTHING_ASKED)
    first = taken.prompt.split("\n")[0]
    program.screen.say(f"taken back: {first[:60]}{'…' if len(taken.prompt) > len(first[:60]) else ''}")


def new(program: Program, argument: str) -> None:
    """/new"""
    talk = program.talk
    program.talk = Talk(talk.archive, choices=talk.choices, window=talk.window)
    program.screen.say(
        f"a new conversation; /load {talk.conversation.id[:8]} goes back" if talk.last else "a new conversation"
    )


def save(program: Program, argument: str) -> None:
    """/save FILE"""
    from aistratus.cli.chat_archive import document, markdown

    talk = program.talk
    about = talk.archive.about(talk.conversation.id)
    if about is None:
        raise Failure(NOTHING_ASKED)
    if not argument:
        raise Failure("into which file?", todo="/save talk.md or /save talk.json")
    path = Path(argument).expanduser()
    if path.is_dir():
        raise Failure(f"{path} is a folder", todo="name a file in it")
    if path.exists() and not program.screen.confirm(f"Replace {path}?"):
        program.screen.say("nothing was written")
        return
    turns = talk.archive.turns(about.id)
    if path.suffix == ".json":
        text = json.dumps({"schema": 1, "env": program.wanted.env, "conversation": document(about, turns)}, indent=1)
    else:
        text = markdown(about, turns)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}") from error
    program.screen.say(f"saved as {path}")


def load(program: Program, argument: str) -> None:
    """/load [FILE|ID]"""
    from aistratus.cli.chat_archive import SHOWN_ID, moment

    talk = program.talk
    if not argument:
        lines = [f"{one.id[:SHOWN_ID]}  {moment(one.updated_at)}  {one.title}" for one in talk.archive.all(20)]
        program.screen.say(
            "\n".join([*lines, "/load ID goes on with one"]) if lines else "no conversation is kept here", ""
        )
        return
    path = Path(argument).expanduser()
    identity = _from_file(talk, path) if path.is_file() else talk.archive.find(argument)
    choices = {name: value for name, value in talk.choices.items() if name != "system"}
    program.talk = Talk.of(talk.archive, identity, choices, talk.window)
    program.show_earlier()


def _from_file(talk: Talk, path: Path) -> str:
    """Keeps a saved conversation; one that is kept already stays as it is."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["conversation"]
        identity, system_text = str(said["id"]), said.get("system")
        turns = [(str(one["prompt"]), str(one["reply"]), str(one["state"])) for one in said["exchanges"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"{path} isn't a conversation in JSON, as /save FILE.json writes it") from error
    if talk.archive.about(identity) is None:
        for prompt, reply, state in turns:
            turn = talk.archive.asked(identity, prompt, "", system=system_text)
            ended = state if state in (conversations.ANSWERED, conversations.STOPPED) else conversations.FAILED
            talk.archive.ended(turn, ended, reply)
    return identity


def copy(program: Program, argument: str) -> None:
    """/copy [code]"""
    from aistratus.cli.chat_terminal.clipboard import put_on_clipboard

    turns = [turn for turn in program.talk.archive.turns(program.talk.conversation.id, latest=10) if turn.reply]
    if not turns:
        raise Failure("there is no reply yet")
    text = turns[-1].reply
    if argument == "code":
        blocks = code_blocks(text)
        if not blocks:
            raise Failure("the last reply has no code")
        text = blocks[-1]
    elif argument:
        raise Failure(f"{argument!r} can't be copied", todo="/copy takes the last reply, /copy code its last code")
    way = put_on_clipboard(text)
    program.screen.say(f"{len(text)} characters copied ({way})")


def code_blocks(text: str) -> list[str]:
    """The code in a reply, fence by fence."""
    from aistratus.cli.chat_terminal.blocks import Blocks

    blocks = Blocks()
    found: list[str] = []
    for block in [*blocks.feed(text + "\n"), *blocks.end()]:
        if block.code and block.first:
            found.append("")
        if block.code:
            found[-1] += block.text + "\n"
    return found
