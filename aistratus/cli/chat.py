"""`aistratus chat`: one question, a pipe, or a plain conversation."""

from __future__ import annotations

import json
import os
import sys
import uuid
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Failure, Interrupted, UsageError
from aistratus.private import make_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistratus.client.api import Api, Submitted
    from aistratus.client.conversation import Conversation
    from aistratus.client.events import Done
    from aistratus.client.request import InferRequest


def chat(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="The question; without one it is read from a pipe, or asked for")
    ] = None,
    go_on: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last conversation")] = False,
    system: Annotated[str | None, typer.Option(help="How the model shall behave")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Longest reply in tokens [default: 256]")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 is the surest answer [default: as in the settings]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same reply")] = None,
) -> None:
    """Asks the model and prints its reply as it is written.

    Ctrl-C stops the reply, Ctrl-D leaves the conversation.
    """
    from aistratus.cli.operator import open_door
    from aistratus.cli.session import open_session
    from aistratus.client.api import Api
    from aistratus.client.conversation import Conversation

    options: Options = context.obj
    asked = _prompt(prompt)
    choices = {"system": system, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    chosen = {name: value for name, value in choices.items() if value is not None}
    if asked is not None:
        _request(Conversation(), asked, chosen)  # what can't be asked is told before anything is looked for
    session = open_session(options)
    door = open_door(session)
    memory = Memory(session.settings.env)
    chosen.setdefault("temperature", session.settings.model.temperature)
    with Api(door.url, door.signed_in.access_token) as api:
        earlier = memory.load() if go_on else None
        talk = Talk(options, api, memory, earlier, chosen)
        if go_on and earlier is None:
            talk.remark("there is no earlier conversation here; this begins one")
        if asked is not None:
            talk.ask(asked)
        else:
            talk.converse()


def _prompt(prompt: str | None) -> str | None:
    """The question of this call; `None` means that a person at a terminal will ask."""
    if sys.stdin is not None:
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr] # what isn't text is refused below
    if prompt is None and (sys.stdin is None or not sys.stdin.isatty()):
        prompt = sys.stdin.read() if sys.stdin is not None else ""
    try:
        (prompt or "").encode()
    except UnicodeEncodeError:
        raise UsageError("the question isn't text in UTF-8", todo="convert it, for example with iconv") from None
    if prompt is not None and not prompt.strip():
        raise UsageError("the question is empty", todo='ask one: aistratus chat "How do I stop the GPU?"')
    return prompt


def _request(conversation: Conversation, prompt: str, choices: dict[str, Any]) -> InferRequest:
    """The next request of a conversation.

    Raises:
        UsageError: the API wouldn't take it.
    """
    from pydantic import ValidationError

    try:
        return conversation.ask(prompt, **choices)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        raise UsageError(f"this can't be asked: {told}") from None


class Memory:
    """The last conversation of an env, kept for `-c` (0600)."""

    def __init__(self, env: str) -> None:
        import platformdirs

        self._path: Path = platformdirs.user_state_path("aistratus") / "conversations" / f"{env}.json"

    def load(self) -> Conversation | None:
        """The last conversation, if there is a readable one."""
        from aistratus.client.conversation import Conversation

        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            return Conversation(data["id"], tuple((str(asked), str(told)) for asked, told in data["exchanges"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, conversation: Conversation) -> None:
        """Replaces what was kept."""
        make_private(self._path.parent)
        part = self._path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"id": conversation.id, "exchanges": conversation.exchanges}, file)
        part.replace(self._path)


class Talk:
    """One conversation at a terminal or in a pipe."""

    def __init__(
        self, options: Options, api: Api, memory: Memory, conversation: Conversation | None, choices: dict[str, Any]
    ) -> None:
        from aistratus.cli.show import people
        from aistratus.client.conversation import Conversation

        self._options = options
        self._api = api
        self._memory = memory
        self._conversation = conversation or Conversation()
        self._choices = choices
        # The reply alone goes to standard output; everything about it goes beside.
        self._beside = people(options)
        self._beside.stderr = True
        self._open_line = False

    def converse(self) -> None:
        """Asks and answers until Ctrl-D."""
        if self._options.json:
            raise UsageError("-o json needs a question", todo='aistratus chat -o json "…"')
        self.remark("Ctrl-C stops a reply, Ctrl-D leaves.")
        with suppress(ImportError):  # arrow keys and history; Windows' own console has them without
            import readline  # noqa: F401 - `input` uses it once it is imported
        for prompt in self._lines():
            try:
                self.ask(prompt)
            except Interrupted:
                self.remark("(stopped)")
            except Failure as failure:
                self._beside.print(f"aistratus: {failure}", style="red", markup=False)

    def remark(self, text: str) -> None:
        """Something about the conversation, beside it."""
        self._beside.print(text, style="dim", markup=False)

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = input("> " if sys.stdout.isatty() else "")
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                continue
            if line.strip():
                yield line

    def ask(self, prompt: str) -> None:
        """One question and its reply.

        Raises:
            Interrupted: Ctrl-C; the job was cancelled.
            Failure: the API or the model failed.
        """
        from aistratus.client.errors import ClientError

        request = _request(self._conversation, prompt, self._choices)
        # The key becomes the job's id, so that a Ctrl-C finds the job even while its answer is on the way.
        key = uuid.uuid4().hex
        try:
            submitted = self._api.submit(request, key)
            done = self._follow(submitted)
        except KeyboardInterrupt:
            self._cancel(key)
            raise Interrupted("stopped") from None
        except ClientError as error:
            raise Failure(str(error).rstrip(".")) from error
        self._conversation = self._conversation.with_exchange(prompt, done.text)
        self._conclude(submitted, done)
        try:
            self._memory.save(self._conversation)
        except OSError as error:
            self.remark(f"(this conversation can't be kept for -c: {error})")

    def _cancel(self, job_id: str) -> None:
        """Asks for the job's end; one that never arrived, or has ended, needs none."""
        from aistratus.client.errors import ApiError, ClientError

        self._end_line()
        try:
            self._api.cancel(job_id)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                self.remark(f"(the job may go on: {error})")
        except ClientError as error:
            self.remark(f"(the job may go on: {error})")

    def _follow(self, submitted: Submitted) -> Done:
        """Prints the reply as it comes."""
        from aistratus.client import events

        with self._beside.status(submitted.status) as status:
            for event in self._api.stream(submitted):
                match event:
                    case events.Stage(name):
                        status.update(name)
                    case events.Piece(text):
                        status.stop()
                        self._write(text)
                    case events.Restarted():
                        self._end_line()
                        self.remark("(the worker began again)")
                    case events.Failed(_, reason):
                        self._end_line()
                        raise Failure(reason.rstrip("."))
                    case events.Cancelled(_):
                        self._end_line()
                        raise Failure("the job was cancelled")
                    case events.Done():
                        self._end_line()
                        return event
        raise Failure("the reply ended without an end")

    def _write(self, text: str) -> None:
        if text and not self._options.json:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._open_line = not text.endswith("\n")

    def _end_line(self) -> None:
        """Whatever comes next begins on a line of its own."""
        if self._open_line:
            self._write("\n")

    def _conclude(self, submitted: Submitted, done: Done) -> None:
        from aistratus.cli import show

        if self._options.json:
            show.emit(
                {
                    "text": done.text,
                    "job_id": submitted.job_id,
                    "request_id": submitted.request_id,
                    "conversation": submitted.conversation,
                    "model": done.model,
                    "usage": dict(done.usage),
                    "timings": dict(done.timings),
                }
            )
            return
        speed = done.timings.get("tokens_per_second")
        told = f"— {done.model}{_demo(done.model)}, {done.usage.get('completion_tokens')} tokens"
        self._beside.print(told + (f", {speed:.0f} a second" if speed else ""), style="dim", markup=False)


def _demo(model: str) -> str:
    from aistratus.models import DEMO

    return " (a demo model: it knows this program and little else)" if model == DEMO.name else ""
