"""The queue, one message at a time, and the lease on the message that is being worked on.

A message is received with a short visibility timeout, which a thread keeps extending: a worker that vanishes loses its
message within seconds, and a slow model never loses one. Releasing a message makes it visible at once. SQS decides:
when it no longer knows the receipt, the message belongs to another receive.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus.worker.clients import RECEIPT_CODES, GaveUp, Retrier, error_code, is_final, pause_after
from aistratus.worker.log import Log

VISIBILITY_S: Final = 20
"""Visibility timeout: the longest delay of a job whose worker vanished (its machine was lost)."""

EXTEND_EVERY_S: Final = 5
EXTEND_AGAIN_S: Final = 1
"""After a failed extension; several tries fit into the visibility timeout."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A received message. `receives` includes this receive; after three SQS moves the message to the dead letters."""

    id: str
    receipt: str
    body: str
    receives: int


class Inbox:
    """Receives from one queue."""

    def __init__(self, sqs: Any, queue_url: str, poll_s: int, log: Log, stopping: threading.Event) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._poll_s = poll_s
        self._log = log
        self._stopping = stopping

    def receive(self) -> Message | None:
        """The next message, or None after a long poll without one.

        Raises:
            GaveUp: the worker stops.
        """
        attempt_id, failures = uuid.uuid4().hex, 0
        while True:
            try:
                return self._receive(attempt_id)
            except (BotoCoreError, ClientError) as error:
                # The answer may have been lost with a message in it: the same attempt id gets that message again.
                # After an answer (a throttle, say) SQS wants a new one.
                if isinstance(error, ClientError):
                    attempt_id = uuid.uuid4().hex
                failures += 1
                pause = pause_after(failures)
                self._log.event("aws_failed", call="receive", code=error_code(error), failures=failures, pause_s=pause)
            if self._stopping.wait(pause):
                raise GaveUp("receive")

    def _receive(self, attempt_id: str) -> Message | None:
        answer = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=self._poll_s,
            VisibilityTimeout=VISIBILITY_S,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
            ReceiveRequestAttemptId=attempt_id,
        )
        for message in answer.get("Messages", ()):
            return Message(
                id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=message["Body"],
                receives=int(message["Attributes"]["ApproximateReceiveCount"]),
            )
        return None


class Lease:
    """Keeps one message invisible from `start` until it is deleted or released."""

    def __init__(self, sqs: Any, queue_url: str, receipt: str, log: Log) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._receipt = receipt
        self._log = log
        self._ended = threading.Event()
        self._extending = threading.Lock()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._extend_until_ended, name="lease", daemon=True)

    def start(self) -> None:
        """Starts extending the visibility timeout, in a thread of its own."""
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether SQS no longer knows the receipt."""
        return self._lost.is_set()

    def end(self) -> None:
        """Stops extending, without another call for the message."""
        self._ended.set()

    def delete(self, retrier: Retrier) -> None:
        """Deletes the message; the lease lasts until SQS has confirmed.

        Raises:
            GaveUp: the worker stops before SQS answers; the message will be received again and find its job ended.
        """
        try:
            retrier.call("delete", self._delete, give_up_if=lambda: self.lost)
        except ClientError as error:
            # The receipt has expired: the message is received again, finds its job ended, and is deleted then.
            self._log.event("delete_refused", code=error_code(error))
        finally:
            self._ended.set()

    def release(self, sqs: Any) -> bool:
        """Makes the message visible at once, with the given client; see the function `release`."""
        self._ended.set()
        # An extension under way would hide the message again; it ends by its own time-out.
        held = self._extending.acquire(timeout=0.5)
        try:
            return release(sqs, self._queue_url, self._receipt, self._log)
        finally:
            if held:
                self._extending.release()

    def _delete(self) -> None:
        self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=self._receipt)

    def _extend_until_ended(self) -> None:
        pause: float = EXTEND_EVERY_S
        while not self._ended.wait(pause):
            with self._extending:
                if not self._ended.is_set():
                    pause = self._extend()

    def _extend(self) -> float:
        """Extends once; returns the seconds until the next extension."""
        begun = time.monotonic()
        try:
            self._sqs.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=self._receipt, VisibilityTimeout=VISIBILITY_S
            )
            return EXTEND_EVERY_S
        except (BotoCoreError, ClientError) as error:
            code = error_code(error)
            self._log.event("extend_failed", code=code, seconds=round(time.monotonic() - begun, 3))
            if is_final(error):
                self._lost.set()
                self._ended.set()
            return EXTEND_AGAIN_S


def release(sqs: Any, queue_url: str, receipt: str, log: Log) -> bool:
    """Makes a message visible at once. Returns whether nothing is left to do: it is visible, or its receipt expired."""
    try:
        sqs.change_message_visibility(QueueUrl=queue_url, ReceiptHandle=receipt, VisibilityTimeout=0)
        return True
    except (BotoCoreError, ClientError) as error:
        log.event("give_back_failed", code=error_code(error))
        return error_code(error) in RECEIPT_CODES
