"""`aistratus chat list|show|search|delete|export`: the archive of conversations on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aistratus.cli.chat_terminal.text import clean
from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Failure, Interrupted, UsageError

if TYPE_CHECKING:
    from aistratus.client.conversations import Archive, Exchange, Kept

SHOWN_ID = 8
"""Characters of an id that people see; the beginning is enough for every command."""
SNIPPET_CHARS = 70

Which = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="First characters of its id (default: the last conversation)")
]


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to `aistratus chat`."""
    app.command("list")(list_conversations)
    app.command("show")(show)
    app.command("search")(search)
    app.command("delete")(delete)
    app.command("export")(export)


def list_conversations(
    context: typer.Context,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Show at most this many")] = 20,
) -> None:
    """Lists the conversations of this env, latest first."""
    from aistratus.cli import show as shown

    options: Options = context.obj
    with _archive(options) as (env, archive):
        kept = archive.all(most)
    if options.json:
        shown.emit({"env": env, "conversations": [about_document(one) for one in kept]})
        return
    console = shown.results(options)
    for one in kept:
        console.print(
            f"{one.id[:SHOWN_ID]}  {moment(one.updated_at)}  {one.turns:>4}  {clean(one.title)}", markup=False
        )
    if not kept:
        shown.people(options).print("no conversation is kept here")


def show(context: typer.Context, which: Which = None) -> None:
    """Prints a conversation."""
    from aistratus.cli import show as shown

    options: Options = context.obj
    with _archive(options) as (env, archive):
        about, turns = _one(archive, which)
    if options.json:
        shown.emit({"env": env, "conversation": document(about, turns)})
        return
    _put(markdown(about, turns))


def search(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(help="Words that the question or its reply must contain")],
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Show at most this many")] = 20,
) -> None:
    """Finds questions and replies that contain all the words."""
    from aistratus.cli import show as shown

    options: Options = context.obj
    with _archive(options) as (env, archive):
        found = archive.search(" ".join(words), most)
    if options.json:
        documents = [{"conversation": one.conversation, **turn_document(one)} for one in found]
        shown.emit({"env": env, "found": documents})
        return
    console = shown.results(options)
    for one in found:
        place = f"{one.conversation[:SHOWN_ID]}  {moment(one.asked_at)}  "
        console.print(f"{place}{snippet(one.prompt, words)}", markup=False)
        if one.reply:
            console.print(f"{' ' * len(place)}{snippet(one.reply, words)}", style="dim", markup=False)
    if not found:
        shown.people(options).print("nothing was found")


def delete(
    context: typer.Context,
    which: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="First characters of their ids")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every conversation of this env")] = False,
) -> None:
    """Deletes conversations from this machine; asks first at a terminal."""
    from aistratus.cli import show as shown

    options: Options = context.obj
    if bool(which) == everything:
        raise UsageError("name conversations to delete, or all of them", todo="`aistratus chat list` shows their ids")
    with _archive(options) as (env, archive):
        ids = [one.id for one in archive.all()] if everything else [_found(archive, one) for one in which or []]
        ids = list(dict.fromkeys(ids))
        many = "1 conversation" if len(ids) == 1 else f"{len(ids)} conversations"
        if ids and not shown.confirm(f"Delete {many} of env {env!r}?", options):
            raise Interrupted("nothing was deleted")
        for one in ids:
            archive.delete(one)
    if options.json:
        shown.emit({"env": env, "deleted": ids})
        return
    shown.results(options).print(f"{many} deleted")


def export(
    context: typer.Context,
    form: Annotated[Literal["md", "json"], typer.Argument(help="Markdown for people, JSON for programs")],
    which: Which = None,
) -> None:
    """Prints a conversation as Markdown or JSON; `/load` in a conversation reads the JSON."""
    from aistratus.cli import show as shown

    options: Options = context.obj
    with _archive(options) as (env, archive):
        about, turns = _one(archive, which)
    if form == "json" or options.json:
        shown.emit({"env": env, "conversation": document(about, turns)})
        return
    _put(markdown(about, turns))


# --- forms --------------------------------------------------------------------------------------------------------


def document(about: Kept, turns: list[Exchange]) -> dict[str, Any]:
    """A conversation for programs."""
    return {**about_document(about), "system": about.system, "exchanges": [turn_document(one) for one in turns]}


def about_document(about: Kept) -> dict[str, Any]:
    """A conversation without its text, for programs."""
    return {
        "id": about.id,
        "title": about.title,
        "turns": about.turns,
        "created_at": _stamp(about.created_at),
        "updated_at": _stamp(about.updated_at),
    }


def turn_document(turn: Exchange) -> dict[str, Any]:
    """A question and its reply, for programs."""
    return {
        "prompt": turn.prompt,
        "reply": turn.reply,
        "state": turn.state,
        "reason": turn.reason,
        "asked_at": _stamp(turn.asked_at),
        "ended_at": None if turn.ended_at is None else _stamp(turn.ended_at),
        "job_id": turn.job_id,
        "request_id": turn.request_id,
        "model": turn.model,
        "usage": dict(turn.usage),
        "timings": dict(turn.timings),
    }


def markdown(about: Kept, turns: list[Exchange]) -> str:
    """A conversation for people, in Markdown: questions are quoted, replies stand as they are."""
    parts = [f"# {about.title}"]
    if about.system:
        parts.append(f"*{about.system}*")
    for turn in turns:
        parts.append("\n".join(f"> {line}".rstrip() for line in turn.prompt.splitlines()))
        if turn.reply:
            parts.append(turn.reply.strip("\n"))
        if turn.state != "answered":
            parts.append(f"*({_ending(turn)})*")
    return "\n\n".join(parts) + "\n"


def _ending(turn: Exchange) -> str:
    if turn.state == "asked":
        return "not answered yet"
    return f"{turn.state}: {turn.reason}" if turn.reason else turn.state


def moment(at: float) -> str:
    """A time for people, of their own zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def snippet(text: str, words: list[str]) -> str:
    """One line of a text, around the first of the words in it."""
    line = clean(" ".join(text.split()))
    places = [at for word in words if (at := line.lower().find(word.lower())) >= 0]
    begin = max(0, min(places, default=0) - SNIPPET_CHARS // 3)
    shown = line[begin : begin + SNIPPET_CHARS]
    return ("…" if begin else "") + shown + ("…" if begin + SNIPPET_CHARS < len(line) else "")


def _put(text: str) -> None:
    """As it is into a pipe or a file; at a terminal nothing that a terminal would obey."""
    sys.stdout.write(clean(text) if sys.stdout.isatty() else text)


# --- the archive --------------------------------------------------------------------------------------------------


@contextmanager
def _archive(options: Options) -> Iterator[tuple[str, Archive]]:
    """The env's name and its conversations. An unreadable archive becomes a `Failure`."""
    from aistratus.cli.chat_line import archive_of
    from aistratus.client.conversations import ConversationsUnusable

    env = options.load().env
    try:
        archive = archive_of(env)
        try:
            yield env, archive
        finally:
            archive.close()
    except ConversationsUnusable as error:
        raise Failure(str(error)) from error


def _one(archive: Archive, which: str | None) -> tuple[Kept, list[Exchange]]:
    identity = _found(archive, which) if which is not None else archive.last()
    about = archive.about(identity) if identity else None
    if about is None:
        raise Absent("no conversation is kept here", todo='begin one: aistratus chat "How do I stop the GPU?"')
    return about, archive.turns(about.id)


def _found(archive: Archive, beginning: str) -> str:
    from aistratus.client.conversations import NoConversation

    try:
        return archive.find(beginning)
    except NoConversation as error:
        raise Absent(str(error)) from None
