"""`aistratus smoke`: one prompt through the whole chain, stage by stage, with an exit code for CI and cron."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Failure

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.client.api import Api, Submitted
    from aistratus.client.events import Done

PROMPT = "How do I stop the GPU?"
MAX_TOKENS = 32
"""Enough to see text grow; a slow node isn't kept busy for it."""

ANSWER_WITHIN_S = 15.0
"""For one request: the router answers within 15 s or not at all, so the whole test ends soon after its time limit."""


TIMES = {"queued": "queued", "first text": "first_token", "all": "total"}
"""What a reply's timings are called here."""


class TimeIsUp(Exception):
    """The whole test has lasted longer than it may."""


@dataclass(frozen=True)
class LimitedClock:
    """The client's clock, which ends all waiting when the test's time is over."""

    ends: float
    stop: threading.Event = field(default_factory=threading.Event)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        if not self.left():
            raise TimeIsUp
        self.stop.wait(min(seconds, self.left()))

    def left(self) -> float:
        """Seconds, never below zero."""
        return max(0.0, self.ends - time.monotonic())


@dataclass(frozen=True)
class Stage:
    """One part of the chain: did it work, how long did it take, and what was seen or went wrong."""

    name: str
    ok: bool
    seconds: float
    what: str

    @property
    def document(self) -> dict[str, Any]:
        return {"stage": self.name, "ok": self.ok, "seconds": round(self.seconds, 3), "what": self.what}


def smoke(
    context: typer.Context,
    timeout: Annotated[
        int, typer.Option(min=1, max=3600, help="Seconds for the whole test, the boot of a sleeping node included")
    ] = 120,
) -> None:
    """Tests the whole chain with one prompt: sign-in, health, reply, queue.

    Each stage is shown with its seconds. Exits with 1 as soon as one fails or time runs out, and the prompt is then
    cancelled; with 6 where the env isn't up.
    """
    from aistratus.cli import show
    from aistratus.cli.session import open_session

    options: Options = context.obj
    began = time.monotonic()
    session = open_session(options)
    console, stages = show.results(options), []
    for stage in Chain(session, LimitedClock(began + timeout)).stages():
        stages.append(stage)
        mark = "ok  " if stage.ok else "FAIL"
        console.print(f"{mark} {stage.name:<12} {stage.seconds:6.2f} s  {stage.what}", markup=False)
    failed = next((stage for stage in stages if not stage.ok), None)
    seconds = time.monotonic() - began
    if options.json:
        show.emit(
            {
                "env": session.settings.env,
                "ok": failed is None,
                "seconds": round(seconds, 3),
                "stages": [stage.document for stage in stages],
            }
        )
    if failed is not None:
        raise Failure(
            f"the chain is broken at {failed.name}: {failed.what}",
            todo="`aistratus status` and `aistratus logs router` tell more",
            reported=options.json,
        )
    console.print(f"all of it in {seconds:.1f} s")


class Chain:
    """What a prompt and its reply pass, in order."""

    def __init__(self, session: Session, clock: LimitedClock) -> None:
        self._session, self._clock = session, clock

    def stages(self) -> Iterator[Stage]:
        """Each stage as it ends, until one fails."""
        import httpx

        from aistratus.cli.operator import Door, open_door
        from aistratus.client.api import Api

        doors: list[Door] = []

        def sign_in() -> str:
            doors.append(open_door(self._session))
            doors[0].signed_in.access_token()
            return "a token of the env's user pool"

        yield (stage := self._timed("sign in", sign_in))
        if not stage.ok:
            return
        door = doors[0]
        http = httpx.Client(base_url=door.url, timeout=httpx.Timeout(min(ANSWER_WITHIN_S, self._clock.left())))
        with Api(door.url, door.signed_in.access_token, clock=self._clock, http=http) as api:
            for name, work in (("health", self._health), ("job", self._job), ("queue health", self._queue)):
                yield (stage := self._timed(name, partial(work, api)))
                if not stage.ok:
                    return

    def _timed(self, name: str, work: Callable[[], str]) -> Stage:
        from aistratus.client.errors import ClientError
        from aistratus.explain import explain

        began = time.monotonic()
        try:
            what, ok = work(), True
        except TimeIsUp:
            what, ok = "the time is up", False
        except Absent:
            raise  # there is no chain that could be broken
        except ClientError as error:
            what, ok = str(error).rstrip("."), False
        except Exception as error:  # noqa: BLE001 - whatever breaks the chain is what this test is to tell
            what, ok = str(explain(error)), False
        return Stage(name, ok, time.monotonic() - began, what)

    def _health(self, api: Api) -> str:
        said = api.health()
        if said.get("status") != "ok" or said.get("env") != self._session.settings.env:
            raise Failure(f"the API says {said.get('status')!r} of env {said.get('env')!r}")
        return f"version {said.get('version')}"

    def _job(self, api: Api) -> str:
        from aistratus.client.request import InferRequest

        # The key becomes the job's id, so that it can be cancelled even while its answer is on the way.
        key, ended, began = uuid.uuid4().hex, False, time.monotonic()
        try:
            submitted = api.submit(InferRequest(prompt=PROMPT, max_tokens=MAX_TOKENS, temperature=0), key)
            told = self._followed(api, submitted, began)
            ended = True
            return told
        finally:
            if not ended:
                with suppress(Exception):  # what failed before is what counts
                    api.cancel(key)

    def _followed(self, api: Api, submitted: Submitted, began: float) -> str:
        from aistratus.client import events

        awake: float | None = None
        for event in api.stream(submitted):
            if awake is None and isinstance(event, events.Stage) and event.name in (events.QUEUED, events.RUNNING):
                awake = time.monotonic() - began
            if isinstance(event, events.Done):
                return self._told(event, awake or 0.0, woken=submitted.node != "ready")
            if isinstance(event, (events.Failed, events.Cancelled)):
                raise Failure(getattr(event, "reason", "") or "somebody cancelled it")
        raise Failure("the reply ended without an end")

    def _told(self, done: Done, awake: float, *, woken: bool) -> str:
        if not done.text.strip():
            raise Failure("the reply is empty")
        node = f"node awake after {awake:.1f} s, " if woken else ""
        times = ((word, done.timings.get(f"{name}_ms", 0) / 1000) for word, name in TIMES.items())
        told = ", ".join(f"{word} {seconds:.2f} s" for word, seconds in times)
        return f"{node}{told}, {done.timings.get('tokens_per_second', 0):.0f} tokens/s by {done.model}"

    def _queue(self, api: Api) -> str:
        said = api.queue_health()
        if said.get("heartbeat_age_s") is None:
            raise Failure("a job was answered, and no worker gives a sign of life")
        return f"{said.get('depth')} waiting, {said.get('in_flight')} in flight, {said.get('dead')} dead"
