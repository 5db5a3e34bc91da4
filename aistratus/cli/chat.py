"""`aistratus chat`: a single question, a pipe, or a conversation at a terminal; and the archive of conversations."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.chat_archive import add_commands
from aistratus.cli.options import Group, Options
from aistratus.core.errors import UsageError

if TYPE_CHECKING:
    from aistratus.client.conversations import Archive
    from aistratus.client.talk import Talk
    from aistratus.settings import ModelSettings

PROMPT = "aistratus.chat.prompt"
"""Where the group leaves the question for its callback, in the context's `meta`."""


class PromptGroup(Group):
    """A group whose first word is a question unless it is exactly a command's name; after `--` it always is one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        before = args[: args.index("--")] if "--" in args else args
        words = self.make_parser(ctx).parse_args(args=list(before))[1]
        if words and words[0] in self.commands:
            return super().parse_args(ctx, args)
        ctx.allow_interspersed_args = True  # options may follow the question
        # Not the group's own, which would take the first word that is left for a command.
        question = super(typer.core.TyperGroup, self).parse_args(ctx, args)
        if len(question) > 1:
            ctx.fail(f"The question is more than one word; put it into quotes: aistratus chat {' '.join(question)!r}")
        ctx.meta[PROMPT] = question[0] if question else None
        ctx.args = []
        return []


app = typer.Typer(
    cls=PromptGroup,
    invoke_without_command=True,
    subcommand_metavar="[PROMPT] | COMMAND",
    epilog="A question that is also a command's name goes after two dashes: aistratus chat -- list",
)
add_commands(app)


@app.callback()
def chat(
    context: typer.Context,
    go_on: Annotated[bool, typer.Option("--continue", "-c", help="Continue the last conversation")] = False,
    conversation: Annotated[
        str | None, typer.Option(help="Continue this conversation (the first characters of its id are enough)")
    ] = None,
    system: Annotated[str | None, typer.Option(help="Instructions for the model")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Maximum length of the reply in tokens (default: 256)")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="0 gives the most predictable reply (default: as in the settings)"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same reply")] = None,
    stream: Annotated[
        bool, typer.Option(" /--no-stream", show_default=False, help="Print the reply only when it is complete")
    ] = True,
    raw: Annotated[bool, typer.Option("--raw", help="Print the reply as it is, without rendering Markdown")] = False,
) -> None:
    """Asks the model PROMPT and prints its reply as it is written; without PROMPT, opens a conversation.

    Piped input is added to the question, or is the question. Ctrl-C stops the reply, Ctrl-D leaves the
    conversation.
    """
    _speak_utf8()
    if context.invoked_subcommand is not None:
        return
    options: Options = context.obj
    choices = {"system": system, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    chosen = {name: value for name, value in choices.items() if value is not None}
    prompt = _prompt(context.meta.get(PROMPT))
    if prompt is None:
        _converse(options, go_on, conversation, chosen)
        return
    _refuse_early(prompt, chosen)
    from aistratus.cli.chat_line import connect, told_archive
    from aistratus.cli.chat_once import answer

    settings, line = options.load(), connect(options)
    archive, trouble = told_archive(settings.env)
    if trouble:
        print(trouble, file=sys.stderr)
    talk = _talk(archive, settings.model, go_on, conversation, chosen)
    answer(options, line, talk, prompt, catch_up=go_on or conversation is not None, stream=stream, raw=raw)


def _converse(options: Options, go_on: bool, conversation: str | None, chosen: dict[str, Any]) -> None:
    from aistratus.cli.chat_terminal.run import converse
    from aistratus.settings_file import env_of

    if options.json:
        raise UsageError("-o json needs a question", todo='aistratus chat -o json "…"')
    env = env_of(options.env, options.config, os.environ, Path.cwd())
    if env is None:
        env = options.load().env  # which tells what is wrong with it
    converse(lambda: options, env, go_on=go_on, conversation=conversation, chosen=chosen)


def _talk(
    archive: Archive, model: ModelSettings, go_on: bool, conversation: str | None, chosen: dict[str, Any]
) -> Talk:
    """The conversation that was asked for, or a new one."""
    from aistratus.cli.chat_line import choices_of, earlier, window_of
    from aistratus.client.talk import Talk

    choices, window = choices_of(model, chosen), window_of(model)
    last = earlier(archive, go_on=go_on, conversation=conversation)
    if last is not None:
        return Talk.of(archive, last, choices, window)
    if go_on:
        print("there is no earlier conversation here; this begins one", file=sys.stderr)
    return Talk(archive, choices=choices, window=window)


def _prompt(prompt: str | None) -> str | None:
    """The question of this call, with what came through a pipe; `None`: a person at a terminal will ask."""
    piped = ""
    if sys.stdin is not None and not sys.stdin.isatty():
        piped = sys.stdin.read()
    elif prompt is None and sys.stdin is not None:
        return None
    asked = "\n\n".join(part for part in (prompt, piped.rstrip("\n") if prompt else piped) if part)
    try:
        asked.encode()
    except UnicodeEncodeError:
        raise UsageError("the question isn't text in UTF-8", todo="convert it, for example with iconv") from None
    if not asked.strip() or (prompt is not None and not prompt.strip()):
        raise UsageError("the question is empty", todo='ask one: aistratus chat "How do I stop the GPU?"')
    return asked


def _speak_utf8() -> None:
    """Pipes and files carry UTF-8, whatever this system takes for them otherwise (Windows: 256 characters)."""
    if isinstance(sys.stdin, io.TextIOWrapper) and not sys.stdin.isatty():
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # what isn't text is refused below
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8")


def _refuse_early(prompt: str, chosen: dict[str, Any]) -> None:
    """Refuses an invalid question before anything else is done."""
    from pydantic import ValidationError

    from aistratus.cli.chat_words import cannot_ask
    from aistratus.client.conversation import Conversation

    try:
        Conversation().ask(prompt, **chosen)
    except ValidationError as error:
        raise cannot_ask(error) from None
