"""One attempt at one job: from the claim to the last write.

The model process generates, the text writer writes the text so far into the job item, and this module connects the
two: it passes text on, stops the generation as soon as the job is no longer ours, and ends the job. Durations start
when the router accepted the job; within this process they are measured with the monotonic clock, which never jumps.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus.wire import CANCELLED, DONE, FAILED, MAX_ATTEMPTS, Job, Usage
from aistratus.worker.child import Event, ModelDied, ModelProcess
from aistratus.worker.clients import GaveUp, Retrier, error_code
from aistratus.worker.inbox import Lease
from aistratus.worker.jobs import Claim, JobLost, Jobs, Lost
from aistratus.worker.log import Log
from aistratus.worker.writer import TextWriter

LOOK_EVERY_S: Final = 0.1
"""How often an attempt that waits for the model checks whether the job was lost or the worker stops."""

STALLED_S: Final = 180.0
"""A model process that sends no event for this long counts as hung and is killed."""

STOP_S: Final = 10.0
"""From the stop command to the end of the generation: one token, or one batch of the prompt, of a slow model."""


class MessageAction(Enum):
    """What the supervisor does with the message afterwards."""

    DELETE = "delete"
    RELEASE = "release"
    LEAVE = "leave"


class AttemptFailed(Exception):
    """This attempt produced no reply; the message is a sentence for the user. `final`: another one wouldn't either."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Stopped(Exception):
    """Generation was stopped: the job was lost, its receipt too, or the worker stops."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all attempts of one worker share."""

    jobs: Jobs
    retrier: Retrier
    log: Log
    stopping: threading.Event
    model: Callable[[], ModelProcess]
    completed: Callable[[int, float], None]


class Attempt:
    """Works on one message's job while its lease lasts."""

    def __init__(self, context: Context, job: Job, lease: Lease, receives: int) -> None:
        self._context = context
        self._job = job
        self._lease = lease
        self._receives = receives
        self._began = time.monotonic()

    def run(self) -> MessageAction:
        """Claims the job, generates the reply, ends the job.

        Raises:
            GaveUp: the worker stops, or the lease was lost while AWS didn't answer.
        """
        try:
            claim_id = uuid.uuid4().hex
            claim = self._retrying("claim", lambda: self._context.jobs.claim(self._job.pk, claim_id))
        except JobLost as lost:
            return self._unclaimed(lost.why)
        self._began = time.monotonic()
        self._context.log.event("job_begun", **self._of(claim))
        writer = TextWriter(self._context.jobs, claim, self._context.log)
        writer.start()
        try:
            return self._work(claim, writer)
        finally:
            writer.close()

    def _unclaimed(self, why: Lost) -> MessageAction:
        if why is Lost.CANCELLED:
            with suppress(JobLost):  # it may have ended as cancelled already
                self._retrying("cancel", lambda: self._context.jobs.cancel_unclaimed(self._job.pk))
        self._context.log.event("job_not_run", job=self._job.job_id, reason=why.value)
        # The message of a job whose attempts are used up is released until SQS has counted enough receives to move it.
        return MessageAction.RELEASE if why is Lost.GIVEN_UP else MessageAction.DELETE

    def _work(self, claim: Claim, writer: TextWriter) -> MessageAction:
        timings = {"queued_ms": max(0, claim.started_ms - self._job.submitted_ms)}
        try:
            end = self._generate(claim, writer, timings)
            return self._done(claim, writer, timings, end)
        except Stopped:
            return self._stopped(claim, writer)
        except (AttemptFailed, ModelDied) as error:
            writer.close()
            final = isinstance(error, AttemptFailed) and error.final
            return self._failed(claim, writer, str(error), final=final)

    def _generate(self, claim: Claim, writer: TextWriter, timings: dict[str, int]) -> Event:
        """Passes text on until the model ends; returns the model's last event."""
        model = self._context.model()
        request = f"{claim.attempt}:{self._job.job_id}"
        model.send(_request(self._job, request))
        heard = time.monotonic()
        while True:
            if writer.lost or self._lease.lost or self._context.stopping.is_set():
                self._stop(model, request)
                raise Stopped
            event = model.event(LOOK_EVERY_S)
            if event is None:
                if time.monotonic() - heard > STALLED_S:
                    model.kill()
                    raise AttemptFailed(f"the model process was silent for {STALLED_S:.0f} s")
                continue
            heard = time.monotonic()
            if event.get("id") != request:
                continue  # a late event of a request that was stopped
            if event["event"] == "failed":
                raise AttemptFailed(event["reason"], final=event["final"])
            if event.get("text"):
                timings.setdefault("first_token_ms", self._since_submitted(claim))
                writer.add(event["text"])
            if event["event"] == "end":
                return event

    def _stop(self, model: ModelProcess, request: str) -> None:
        """Ends the generation, so that the model is free for the next job; a worker that stops kills it anyway."""
        if self._context.stopping.is_set():
            return
        try:
            model.send({"do": "stop", "id": request})
            deadline = time.monotonic() + STOP_S
            while time.monotonic() < deadline:
                event = model.event(LOOK_EVERY_S)
                if event and event.get("id") == request and event["event"] in ("end", "failed"):
                    return
            model.kill()
        except ModelDied:
            return  # it has stopped, and a new process is being started

    def _done(self, claim: Claim, writer: TextWriter, timings: dict[str, int], end: Event) -> MessageAction:
        writer.close()
        speed = end["tokens_per_second"]
        full = {**timings, "total_ms": self._since_submitted(claim), "tokens_per_second": speed}
        usage = {name: end[name] for name in ("prompt_tokens", "completion_tokens")}
        try:
            self._retrying(
                "finish",
                lambda: self._context.jobs.finish(claim, DONE, text=writer.text, usage=usage, timings=full),
            )
        except JobLost as lost:
            return self._let_go(claim, lost.why)
        self._context.completed(end["completion_tokens"], speed)
        self._note_usage(usage)
        self._context.log.event(
            "job_done",
            **self._of(claim),
            ending=end["ending"],
            dropped_turns=end["dropped_turns"] or None,
            **usage,
            **full,
        )
        return MessageAction.DELETE

    def _note_usage(self, usage: Mapping[str, int]) -> None:
        """Records the usage with one try: statistics can bear a gap, and the next job mustn't wait for them."""
        busy_ms = round((time.monotonic() - self._began) * 1000)
        used = Usage(job_id=self._job.job_id, conversation=self._job.conversation, busy_ms=busy_ms, **usage)
        try:
            self._context.jobs.note_usage(used)
        except (BotoCoreError, ClientError) as error:
            self._context.log.event("usage_not_noted", job=self._job.job_id, code=error_code(error))

    def _stopped(self, claim: Claim, writer: TextWriter) -> MessageAction:
        writer.close()
        if self._context.stopping.is_set() or (self._lease.lost and not writer.lost):
            self._context.log.event("attempt_stopped", **self._of(claim))
            return MessageAction.LEAVE
        why = writer.lost or Lost.TAKEN
        if why is Lost.CANCELLED:
            try:
                self._retrying("cancel", lambda: self._context.jobs.finish(claim, CANCELLED, text=writer.text))
            except JobLost as lost:
                why = lost.why
        return self._let_go(claim, why)

    def _let_go(self, claim: Claim, why: Lost) -> MessageAction:
        """The job isn't ours any more: nothing is written, and the message is deleted only if no attempt needs it."""
        self._context.log.event("job_let_go", **self._of(claim), reason=why.value)
        return MessageAction.LEAVE if why in (Lost.TAKEN, Lost.GIVEN_UP) else MessageAction.DELETE

    def _failed(self, claim: Claim, writer: TextWriter, reason: str, *, final: bool) -> MessageAction:
        if self._context.stopping.is_set():
            return MessageAction.LEAVE  # the model process was killed by our own stop
        # Receives are counted, not attempts, as SQS does: a job fails when its message is about to be moved.
        last = final or self._receives >= MAX_ATTEMPTS
        self._context.log.event("attempt_failed", **self._of(claim), reason=reason, last=last)
        if last:
            try:
                self._retrying(
                    "fail",
                    lambda: self._context.jobs.finish(
                        claim, FAILED, text=writer.text, error=reason, given_up=not final
                    ),
                )
            except JobLost as lost:
                return self._let_go(claim, lost.why)
        return MessageAction.DELETE if final else MessageAction.RELEASE

    def _of(self, claim: Claim) -> dict[str, str | int | None]:
        """Fields of every log line about this attempt; `aistratus logs --request` searches by `request_id`."""
        return {"job": self._job.job_id, "request_id": claim.request_id, "attempt": claim.attempt}

    def _since_submitted(self, claim: Claim) -> int:
        waited = max(0, claim.started_ms - self._job.submitted_ms)
        return waited + round((time.monotonic() - self._began) * 1000)

    def _retrying(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return self._context.retrier.call(what, call, give_up_if=lambda: self._lease.lost)
        except ClientError as error:
            self._context.log.event("aws_refused", call=what, job=self._job.job_id, code=error_code(error))
            raise GaveUp(what) from error


def _request(job: Job, request: str) -> Mapping[str, Any]:
    return {
        "do": "reply",
        "id": request,
        "system": job.system,
        "history": [asdict(turn) for turn in job.history],
        "prompt": job.prompt,
        "max_tokens": job.max_tokens,
        "temperature": job.temperature,
        "top_p": job.top_p,
        "seed": job.seed,
        "stop": list(job.stop),
    }
