"""One question and its reply, at a terminal or in a pipe: the reply alone goes to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aistratus.cli.chat_line import Line
from aistratus.cli.chat_words import cannot_ask, failure_of, job_failed, passing
from aistratus.core.errors import Failure, Interrupted

if TYPE_CHECKING:
    from aistratus.cli.options import Options
    from aistratus.client.api import Api
    from aistratus.client.errors import ClientError
    from aistratus.client.events import Done
    from aistratus.client.talk import Asked, Talk

PATIENCE_S = 120.0
LONGEST_WAIT_S = 61.0
"""Seconds. A user over the rate limit may continue in the next minute; a script waits for that, too."""
TOLD_FROM_S = 2.0

STOPPED_OUTSIDE = "the job was cancelled"


class Once:
    """Asks in a talk and prints what comes.

    Args:
        stream: print the reply as it is written, not when it is complete.
        raw: print the model's own characters at a terminal too; anywhere else nothing else is printed.
    """

    def __init__(self, options: Options, api: Api, talk: Talk, *, stream: bool, raw: bool) -> None:
        from aistratus.cli.show import people

        self._options = options
        self._api = api
        self._talk = talk
        self._stream = stream and not options.json
        self._page = _page(raw)
        self._beside = people(options)
        self._beside.stderr = True

    def remark(self, text: str) -> None:
        """Something about the reply, beside it."""
        self._beside.print(text, style="dim", markup=False)

    def catch_up(self) -> None:
        """What became of the last question, if the program that asked it has ended before its reply."""
        from aistratus.client.errors import ApiError, ClientError

        asked = self._talk.reopen()
        if asked is None:
            return
        self.remark("the last question is still open; its reply comes first")
        try:
            for _ in self._talk.follow(self._api, asked):
                pass
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise failure_of(error) from error
            self.remark("(it has none)")
        except ClientError as error:
            raise failure_of(error) from error

    def ask(self, prompt: str) -> None:
        """One question and its reply.

        Raises:
            Interrupted: Ctrl-C; the job was cancelled.
            Failure: the API or the model failed.
        """
        from pydantic import ValidationError

        from aistratus.client.errors import ClientError

        try:
            asked = self._talk.ask(prompt)
        except ValidationError as error:
            raise cannot_ask(error) from None
        try:
            done = self._follow(asked)
        except KeyboardInterrupt:
            self._page.end()
            self._cancel(asked)
            raise Interrupted("stopped") from None
        except ClientError as error:
            self._page.end()
            raise failure_of(error) from error
        self._conclude(asked, done)

    def _cancel(self, asked: Asked) -> None:
        """Asks for the job's end; one that never arrived, or has ended, needs none."""
        from aistratus.client.errors import ApiError, ClientError

        self._talk.stop(asked)
        try:
            self._api.cancel(asked.job_id)
        except ClientError as error:
            if not isinstance(error, ApiError) or error.status != HTTPStatus.NOT_FOUND:
                self.remark(f"(the job may go on: {error})")

    def _follow(self, asked: Asked) -> Done:
        """Prints the reply as it comes."""
        from aistratus.client import events
        from aistratus.client.talk import LeftOut

        with self._beside.status("sending") as status:
            for event in self._talk.follow(self._api, asked):
                match event:
                    case LeftOut(exchanges, tokens):
                        self.remark(left_out(exchanges, tokens))
                    case events.Stage(name):
                        status.update(name)
                    case events.Piece(text) if self._stream:
                        status.stop()
                        self._page.write(text)
                    case events.Restarted() if self._stream:
                        self._page.end()
                        self.remark("(the worker began again)")
                    case events.Failed(_, reason):
                        self._page.end()
                        raise job_failed(reason, asked.submitted.request_id if asked.submitted else "")
                    case events.Cancelled(_):
                        self._page.end()
                        raise Failure(STOPPED_OUTSIDE)
                    case events.Done():
                        if not self._stream and not self._options.json:
                            status.stop()
                            self._page.write(event.text)
                        self._page.end()
                        return event
        raise Failure("the reply ended without an end")

    def _conclude(self, asked: Asked, done: Done) -> None:
        from aistratus.cli import show

        if not self._options.json:
            self.remark(summary(done.model, done.usage, done.timings))
            return
        assert asked.submitted is not None
        show.emit(
            {
                "text": done.text,
                "job_id": asked.job_id,
                "request_id": asked.submitted.request_id,
                "conversation": self._talk.conversation.id,
                "model": done.model,
                "usage": dict(done.usage),
                "timings": dict(done.timings),
            }
        )


class _Raw:
    """Standard output as it is."""

    def __init__(self, change: Callable[[str], str] = str) -> None:
        self._change = change
        self._open_line = False

    def write(self, text: str) -> None:
        if text:
            sys.stdout.write(self._change(text))
            sys.stdout.flush()
            self._open_line = not text.endswith("\n")

    def end(self) -> None:
        """Whatever comes next begins on a line of its own."""
        if self._open_line:
            self.write("\n")


class _Rendered:
    """A terminal: what is finished is printed once, and the end of it drawn again as it grows."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        from aistratus.cli.chat_terminal.markdown import MarkdownStream

        self._console = Console(highlight=False)
        self._stream = MarkdownStream()
        self._live = Live(console=self._console, transient=True, auto_refresh=False, redirect_stderr=False)

    def write(self, text: str) -> None:
        width = self._console.width
        self._show(self._stream.feed(text, width), self._stream.tail(width, self._console.height - 2))

    def end(self) -> None:
        """The rest."""
        self._show(self._stream.end(self._console.width), "")
        self._live.stop()

    def _show(self, done: str, tail: str) -> None:
        from rich.text import Text

        if not self._live.is_started:
            self._live.start()
        self._live.update(Text.from_ansi(tail), refresh=not done)
        if done:  # above the end, which is drawn with it
            self._console.print(Text.from_ansi(done.removesuffix("\n")), soft_wrap=True)


def _page(raw: bool) -> _Raw | _Rendered:
    """Standard output, as it suits who reads it."""
    if raw or not sys.stdout.isatty():
        return _Raw()
    if os.environ.get("TERM") == "dumb":
        from aistratus.cli.chat_terminal.text import clean

        return _Raw(clean)
    return _Rendered()


def answer(options: Options, line: Line, talk: Talk, prompt: str, *, catch_up: bool, stream: bool, raw: bool) -> None:
    """Asks one question in a talk and prints its reply.

    Args:
        catch_up: the talk goes on from an earlier one, whose last reply may not have been seen.
    """
    from aistratus.client.api import Api, RetryPolicy

    def told(error: ClientError | None, seconds: float) -> None:
        if error is not None and seconds >= TOLD_FROM_S:
            once.remark(f"{passing(error)}; trying again in {seconds:.0f} s")

    with Api(line.url, line.token, http=line.http, retry=RetryPolicy(PATIENCE_S, LONGEST_WAIT_S, told)) as api:
        once = Once(options, api, talk, stream=stream, raw=raw)
        if catch_up:
            once.catch_up()
        once.ask(prompt)


def summary(model: str, usage: Any, timings: Any) -> str:
    """A reply in a line: who wrote it, how long it is, how fast it came."""
    speed = timings.get("tokens_per_second")
    told = f"— {model}{demo_label(model)}, {usage.get('completion_tokens')} tokens"
    return told + (f", {speed:.0f} a second" if speed else "")


def demo_label(model: str) -> str:
    """Says so where the demo model has answered."""
    from aistratus.models import DEMO

    return " (a demo model: it knows this program and little else)" if model == DEMO.name else ""


def left_out(exchanges: int, window_tokens: int) -> str:
    """Shown once: the model doesn't see the whole conversation any more."""
    many = "the oldest exchange doesn't" if exchanges == 1 else f"the {exchanges} oldest exchanges don't"
    return f"{many} fit into the model's window of {window_tokens} tokens any more: it no longer knows of them"
