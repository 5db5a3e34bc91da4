"""Marks jobs as failed whose message is in the dead-letter queue.

A worker that is killed on a message's third receive can't mark the job; SQS then moves the message to the dead-letter
queue, and the job would look as if it still ran. So that queue is scanned now and then, and each job found there that
hasn't ended is marked failed. The messages stay there for the operator: they are made visible again at once and never
deleted.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus.wire import MAX_ATTEMPTS, Job, WireError, job_pk
from aistratus.worker.clients import error_code, is_final
from aistratus.worker.jobs import JobLost, Jobs, Lost
from aistratus.worker.log import Log

LOOK_EVERY_S: Final = 20
HIDDEN_S: Final = 30
"""Visibility timeout during a scan, so that the next receive returns other messages."""

BATCH: Final = 10
MAX_RECEIVES: Final = 50
"""Receives in one scan, that is 500 messages."""

REMEMBERED: Final = 2_000
"""Settled messages that are remembered, so that an old one costs no write at each scan."""

REASON: Final = (
    f"no reply after {MAX_ATTEMPTS} attempts: during the last one the worker was killed, stopped or lost its machine"
)


UNREADABLE: Final = "its message could not be read by the worker; are router and worker of the same version?"


def _job_in(body: str) -> tuple[str, str]:
    """The key of a message's job, and the reason why that job gets no reply.

    An invalid message may still name its job (for example when another version of the router wrote it).

    Raises:
        WireError: it names none.
    """
    try:
        return Job.from_message(body).pk, REASON
    except WireError:
        owner, job_id = _names(body)
        if not owner or not job_id:
            raise
        return job_pk(owner, job_id), UNREADABLE


def _names(body: str) -> tuple[str | None, str | None]:
    """Owner and id that a damaged message names."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    named = [data.get(name) for name in ("owner", "job_id")] if isinstance(data, dict) else [None, None]
    owner, job_id = (value if isinstance(value, str) and value.isascii() else None for value in named)
    return owner, job_id


class DeadLetters:
    """Scans the dead-letter queue in a thread of its own."""

    def __init__(self, sqs: Any, queue_url: str, jobs: Jobs, log: Log) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._jobs = jobs
        self._log = log
        self._wake = threading.Event()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._thread = threading.Thread(target=self._watch, name="dead-letters", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look_soon(self) -> None:
        """Starts the next scan at once, because a message may have arrived."""
        self._wake.set()

    def _watch(self) -> None:
        failing = False
        while True:
            self._wake.clear()
            try:
                self.look()
                failing = False
            except (BotoCoreError, ClientError) as error:
                if not failing:  # once per outage, not at every scan
                    self._log.event("aws_failed", call="dead_letters", code=error_code(error))
                failing = True
            self._wake.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """Scans the whole queue once.

        Raises:
            BotoCoreError, ClientError: AWS didn't answer; jobs that were marked stay marked.
        """
        seen: list[dict[str, Any]] = []
        try:
            for _ in range(MAX_RECEIVES):
                messages = self._receive()
                seen += messages
                for message in messages:
                    self._settle(message)
                if not messages:
                    break
        finally:
            self._show_again(seen)

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._queue_url, MaxNumberOfMessages=BATCH, VisibilityTimeout=HIDDEN_S, WaitTimeSeconds=0
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _settle(self, message: dict[str, Any]) -> None:
        if message["MessageId"] in self._settled:
            return
        try:
            pk, reason = _job_in(message["Body"])
            self._jobs.abandon(pk, reason)
            self._log.event("job_abandoned", job=pk.rpartition("#")[2], reason=reason)
        except JobLost as lost:
            if lost.why is Lost.REDRIVEN:
                return  # if it fails again, a later scan marks it
            # Otherwise it has ended, or its item is gone.
        except ClientError as error:
            if not is_final(error):
                raise
            self._log.event("aws_refused", call="abandon", code=error_code(error))
        except WireError:
            # It doesn't name its job. Its text may hold a prompt, so it isn't logged.
            self._log.event("poison_message", queue="dead-letter", message=message["MessageId"])
        self._settled[message["MessageId"]] = None
        while len(self._settled) > REMEMBERED:
            self._settled.popitem(last=False)

    def _show_again(self, messages: list[dict[str, Any]]) -> None:
        """Makes them visible again in their order; where that fails, the visibility timeout does it soon."""
        for start in range(0, len(messages), BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
                for number, message in enumerate(messages[start : start + BATCH])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)
