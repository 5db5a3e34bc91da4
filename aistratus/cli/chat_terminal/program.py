"""The controller of a conversation: handles one line after another, a question or a slash command.

The prompt is shown before any of this runs: settings, archive, AWS's SDK and the network are loaded in a thread of
their own, while the user is already typing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aistratus.cli.chat_line import Line, choices_of, earlier, window_of
from aistratus.cli.chat_once import demo_label
from aistratus.cli.chat_terminal.bottom_line import ReplyFigures, Watch, bottom_line
from aistratus.core.errors import Absent, Denied, LoginExpired, UsageError

if TYPE_CHECKING:
    import httpx

    from aistratus.cli.chat_terminal.answering import Answering
    from aistratus.cli.chat_terminal.parts import Screen
    from aistratus.client.api import Api, RetryPolicy
    from aistratus.client.clock import Clock
    from aistratus.client.conversations import Archive
    from aistratus.client.events import Done
    from aistratus.client.talk import Asked, Talk
    from aistratus.settings import Settings

SHOWN_EXCHANGES: Final = 10
"""Of an earlier conversation, when it goes on."""

WITHOUT_HOPE: Final = (Absent, Denied, LoginExpired, UsageError)
"""What no second try mends: the program ends with it, unless something was said already."""

LOOK_WITHIN_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for, and how to get at what the conversation needs.

    Attributes:
        settings: those of the env; read after the prompt is on the screen.
        archive: the env's conversations, and a sentence if they can't be kept.
        connect: the line to the API.
        command: runs another command of this program for the same env, and gives what it printed.
    """

    env: str
    go_on: bool = False
    conversation: str | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    settings: Callable[[], Settings]
    archive: Callable[[], tuple[Archive, str]]
    connect: Callable[[], Line]
    command: Callable[[list[str]], tuple[int, str]]


class Program:
    """One conversation at a terminal."""

    screen: Screen
    talk: Talk

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.watch = Watch(self._look, self._looked)
        self.replaces: int | None = None
        """The turn that the next question takes the place of (/edit)."""
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._line: Line | None = None
        self._http: httpx.Client | None = None
        self._answering: Answering | None = None
        self._said_something = False
        self._model = ""
        self._connecting = threading.Lock()

    # --- what the screen calls --------------------------------------------------------------------------------

    def start(self) -> None:
        """The prompt is on the screen: begins to work, in a thread of its own."""
        threading.Thread(target=self._run, name="conversation", daemon=True).start()

    def taken(self, line: str) -> None:
        """A line was typed; it waits for its turn, unless it is a command that can't wait."""
        from aistratus.cli.chat_terminal.commands import at_once

        if self._answering is not None and at_once(line):
            threading.Thread(target=self.handled, args=(line,), name="command", daemon=True).start()
        else:
            self._lines.put(line)

    def waiting(self) -> int:
        """How many typed lines wait for their turn."""
        return self._lines.qsize()

    def interrupt(self) -> bool:
        """Ctrl-C: stops the reply; gives whether there was one."""
        self.replaces = None
        answering = self._answering
        if answering is not None:
            answering.stop()
        return answering is not None

    def bottom(self, width: int) -> str:
        """The bottom line, for so many columns."""
        return bottom_line(self.wanted.env, self.watch.known, time.monotonic(), width)

    @property
    def goes_on(self) -> bool:
        """Whether something was said that `-c` can go on with."""
        return self._said_something

    def close(self) -> None:
        """Nobody is there any more: the job in hand is cancelled, the rest ends."""
        self.watch.close()
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.leave()
        if self._http is not None:
            self._http.close()

    # --- the conversation -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Opens the archive and the line, and goes on where an earlier conversation ended.

        Raises:
            Failure: there is nothing to talk to.
        """
        from aistratus.client.talk import Talk

        model = self.wanted.settings().model
        archive, trouble = self.wanted.archive()
        if trouble:
            self.screen.say(trouble, "yellow")
        choices, window = choices_of(model, dict(self.wanted.chosen)), window_of(model)
        last = earlier(archive, go_on=self.wanted.go_on, conversation=self.wanted.conversation)
        self.talk = Talk.of(archive, last, choices, window) if last else Talk(archive, choices=choices, window=window)
        if last:
            self.show_earlier()
        elif self.wanted.go_on:
            self.screen.say("there is no earlier conversation here; this begins one")
        self.screen.stage("connecting")
        try:
            self.connected()
        finally:
            self.screen.stage("")
        if (asked := self.talk.reopen()) is not None:
            self.screen.say("the last question is still open; its reply comes now")
            self.answer(asked)

    def handle(self, line: str) -> None:
        """A question, or a slash command."""
        from aistratus.cli.chat_terminal.commands import is_command, run_command

        if is_command(line):
            run_command(self, line)
        else:
            self.question(line)

    def question(self, prompt: str) -> None:
        """Asks, and shows the reply."""
        from pydantic import ValidationError

        from aistratus.cli.chat_words import cannot_ask

        if self.replaces is not None and (last := self.talk.last) is not None and last.id == self.replaces:
            self.talk.undo()
        self.replaces = None
        try:
            asked = self.talk.ask(prompt)
        except ValidationError as error:
            self.screen.say(f"aistratus: {cannot_ask(error)}", "red")
            self.screen.fill(prompt)
            return
        self._said_something = True
        self.screen.asked(prompt)
        self.answer(asked)

    def answer(self, asked: Asked) -> None:
        """Shows the reply to a question that is in the record."""
        from aistratus.cli.chat_terminal.answering import Answering

        self._answering = Answering(self, asked)
        self.watch.busy(True)
        try:
            self._answering.run()
        finally:
            self._answering = None
            self.watch.busy(False)

    def replied(self, done: Done, figures: ReplyFigures) -> None:
        """A reply has come; whose it is, is told when that is news."""
        self.watch.replied(figures)
        if done.model != self._model:
            self._model = done.model
            self.screen.say(f"— {done.model}{demo_label(done.model)}\n")

    def show_earlier(self) -> None:
        """The latest exchanges of a conversation that goes on."""
        turns = self.talk.archive.turns(self.talk.conversation.id)
        if (more := len(turns) - SHOWN_EXCHANGES) > 0:
            self.screen.say(f"({more} earlier ones: `aistratus chat show {self.talk.conversation.id[:8]}`)")
        for turn in turns[-SHOWN_EXCHANGES:]:
            self.screen.asked(turn.prompt)
            reply = self.screen.reply()
            reply.write(turn.reply)
            reply.end()
            if turn.state in ("failed", "stopped"):
                self.screen.say(f"({turn.state}{f': {turn.reason}' if turn.reason else ''})")

    # --- the line ---------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Opens the line if it isn't open.

        Raises:
            Failure: it can't be opened.
        """
        import httpx

        from aistratus.client.transport import TIMEOUT

        with self._connecting:
            if self._line is None:
                line = self.wanted.connect()
                self._http = line.http or httpx.Client(base_url=line.url, timeout=TIMEOUT)
                self._line = line
                self.watch.start()

    @property
    def is_connected(self) -> bool:
        """Whether the line is open."""
        return self._line is not None

    def api(self, *, clock: Clock | None = None, retry: RetryPolicy | None = None) -> Api:
        """The API over the one line."""
        from aistratus.client.api import Api

        assert self._line is not None
        return Api(self._line.url, self._line.token, clock=clock, http=self._http, retry=retry)

    def _look(self) -> Mapping[str, Any]:
        from aistratus.client.api import RetryPolicy

        return self.api(retry=RetryPolicy(LOOK_WITHIN_S)).queue_health()

    def _looked(self) -> None:
        self.screen.draw()

    # --- the thread that talks --------------------------------------------------------------------------------

    def _run(self) -> None:
        from aistratus.explain import explain

        try:
            self.begin()
        except Exception as error:  # noqa: BLE001 - a sentence on the screen, or at the program's end
            failure = explain(error)
            if not hasattr(self, "talk") or (isinstance(failure, WITHOUT_HOPE) and not self._said_something):
                self.screen.leave(failure)
                return
            self.screen.say(f"aistratus: {failure}", "red")
        while (line := self._lines.get()) is not None:
            self.handled(line)

    def handled(self, line: str) -> None:
        """A line, and what went wrong with it told on the screen."""
        from aistratus.cli.chat_words import failure_of
        from aistratus.client.errors import ClientError
        from aistratus.explain import explain

        try:
            self.handle(line)
        except ClientError as error:
            self.screen.say(f"aistratus: {failure_of(error)}", "red")
        except Exception as error:  # noqa: BLE001 - one line went wrong; the conversation goes on
            self.screen.say(f"aistratus: {explain(error)}", "red")
