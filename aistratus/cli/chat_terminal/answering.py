"""Follows one reply in a thread of its own, so that stopping it never waits for the network."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aistratus import wire
from aistratus.cli.chat_once import left_out
from aistratus.cli.chat_terminal.bottom_line import ReplyFigures, euros
from aistratus.cli.chat_words import SMALLER, failure_of, job_failed, passing
from aistratus.client import events
from aistratus.client.api import NODE_AWAITED, RetryPolicy
from aistratus.client.conversations import ASKED
from aistratus.client.errors import ApiError, ClientError
from aistratus.client.talk import Asked, LeftOut, TalkEvent
from aistratus.core.errors import Failure
from aistratus.explain import explain

if TYPE_CHECKING:
    from aistratus.cli.chat_terminal.program import Program

PATIENCE_S: Final = 600.0
LONGEST_WAIT_S: Final = 120.0
"""Somebody looks on, sees why, and can stop it at any moment."""

CANCEL_WITHIN_S: Final = 10.0
LEAVE_WITHIN_S: Final = 3.0


KEPT: Final = "(the question is kept: /retry goes on with it)\n"


class _Stopped(Exception):
    """Nobody waits for this any more."""


@dataclass(frozen=True)
class _Clock:
    """See `aistratus.client.clock.Clock`; a wait that is stopped ends whatever waits."""

    stop: threading.Event

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise _Stopped


@dataclass
class Answering:
    """Follows one question to its end, on the screen and in the record."""

    program: Program
    asked: Asked
    _stop: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    _failure: Failure | None = None
    _done: events.Done | None = None
    _began: float = 0.0
    _first_s: float | None = None
    _woke_at: float | None = None
    _stage: events.Stage | None = None
    _told_unavailable: bool = False
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Waits for the end of the reply, or for `stop`."""
        screen = self.program.screen
        self._began = time.monotonic()
        self._reply = screen.reply()
        screen.stage("sending" if self.program.is_connected else "connecting")
        threading.Thread(target=self._follow, name="reply", daemon=True).start()
        self._over.wait()
        self._reply.end()
        screen.stage("")
        if self._stop.is_set():
            self.program.talk.stop(self.asked)
            screen.say("(stopped)\n")
            threading.Thread(target=self._cancel, name="cancel", daemon=True).start()
        elif self._failure is not None:
            screen.say(f"aistratus: {self._failure}", "red")
            last = self.program.talk.last
            screen.say(KEPT if last is not None and last.state == ASKED else "")
        elif self._done is not None:
            self.program.replied(self._done, self._figures(self._done))

    def stop(self) -> None:
        """The person doesn't want the rest."""
        self._stop.set()
        self._over.set()

    def leave(self) -> None:
        """Stops, and waits a moment for the job's cancellation: the program ends after this."""
        self.stop()
        self._cancelled.wait(LEAVE_WITHIN_S)

    def _follow(self) -> None:
        try:
            self.program.connected()
            api = self.program.api(clock=_Clock(self._stop), retry=RetryPolicy(PATIENCE_S, LONGEST_WAIT_S, self._wait))
            for event in self.program.talk.follow(api, self.asked):
                if self._stop.is_set():
                    return
                self._show(event)
        except _Stopped:
            return
        except ClientError as error:
            self._failure = failure_of(error)
        except Exception as error:  # noqa: BLE001 - told on the screen; the conversation goes on
            self._failure = explain(error)
        finally:
            self._over.set()

    def _show(self, event: TalkEvent) -> None:
        screen = self.program.screen
        match event:
            case LeftOut(exchanges, tokens):
                screen.say(f"({left_out(exchanges, tokens)})")
            case events.Stage():
                self._stage = event
                self._staged(event)
            case events.Piece(text):
                if self._first_s is None:
                    self._first_s = time.monotonic() - self._began
                    screen.stage("")
                self._reply.write(text)
            case events.Restarted():
                self._reply.again()
            case events.Failed(_, reason):
                self._failure = job_failed(reason, self.asked.submitted.request_id if self.asked.submitted else "")
            case events.Cancelled(_):
                self._failure = Failure("the job was cancelled elsewhere")
            case events.Done():
                self._done = event

    def _staged(self, stage: events.Stage) -> None:
        """The line that says what is waited for, how long still, and what that costs."""
        now, program = time.monotonic(), self.program
        if stage.name in NODE_AWAITED and self._woke_at is None:
            self._woke_at = now
        if stage.name == events.RUNNING and self._woke_at is not None:
            program.talk.archive.booted(now - self._woke_at)
            self._woke_at = None
        if stage.name == events.NODE_UNAVAILABLE and not self._told_unavailable:
            self._told_unavailable = True
            program.screen.say(f"the node can't be started right now; {SMALLER}. Ctrl-C gives up.", "yellow")
        if self._first_s is not None:
            return
        name = "first token" if stage.name == events.RUNNING else stage.name
        price = program.watch.known.number("cost", "eur_per_hour")
        told = f"{name} · {euros(price)} an hour" if price and stage.name in NODE_AWAITED else name
        program.screen.stage(told, self._left(stage, now))

    def _left(self, stage: events.Stage, now: float) -> float | None:
        """Seconds until the node is expected: as the API says, else as earlier boots took."""
        if stage.name not in NODE_AWAITED:
            return None
        known = self.program.watch.known
        eta = stage.eta_s if stage.eta_s is not None else known.number("node", "eta_s")
        if eta is None and (usual := self.program.talk.archive.usual_boot()) is not None:
            eta = usual - (now - (self._woke_at or now))
        return eta

    def _wait(self, error: ClientError | None, seconds: float) -> None:
        """The API can't be had for a moment."""
        if error is None:
            if self._stage is not None:
                self._staged(self._stage)
            return
        if isinstance(error, ApiError) and error.type == wire.NODE_UNAVAILABLE:
            raise error  # waiting doesn't help; what does is in its words
        self.program.screen.stage(f"{passing(error)}; trying again", seconds)

    def _cancel(self) -> None:
        """Asks for the job's end; one that never arrived, or has ended, needs none."""
        try:
            if self.program.is_connected:
                self.program.api(retry=RetryPolicy(CANCEL_WITHIN_S)).cancel(self.asked.job_id)
        except ClientError as error:
            if not isinstance(error, ApiError) or error.status != 404:
                self.program.screen.say(f"(the job may go on: {error})")
        finally:
            self._cancelled.set()

    def _figures(self, done: events.Done) -> ReplyFigures:
        speed, took = done.timings.get("tokens_per_second"), done.timings.get("total_ms")
        price = self.program.watch.known.number("cost", "eur_per_hour")
        return ReplyFigures(
            tokens_per_second=float(speed) if speed else None,
            first_s=self._first_s,
            eur=price * float(took) / 3_600_000 if price is not None and took is not None else None,
        )
