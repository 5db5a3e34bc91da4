"""The way back for prompts that were given up: look at the dead letters, open their jobs again, move the messages.

A job that has ended is never run again, and every dead letter's job has ended as `failed` (or its item has expired).
So before a message goes back its job is opened: to whoever still follows it, it is queued once more, from the first
attempt on. First the jobs, then the messages, because a worker drops a message whose job isn't open. The worker also
looks through the dead letters to tell their owners; it leaves those alone whose jobs were opened a moment ago.

SQS moves the messages by itself, FIFO queues included. They come back with new ids and a new age.
Source: SQS API reference, StartMessageMoveTask; SQS developer guide, "Learn how to configure a dead-letter queue
redrive"; for FIFO queues since November 2023.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, error_code
from aistratus.core.settle import Wait, until

BATCH: Final = 10
LARGEST_LOOK: Final = 50
"""Receives; 500 messages are more than anybody reads."""
HIDDEN_S: Final = 30
"""While the look goes on, so that each receive brings others."""

MOVED: Final = Wait(what="SQS has moved the dead letters back", within=600, first=0.2)
"""SQS moves up to 500 messages a second. Source: SQS API reference, StartMessageMoveTask."""
UNDER_WAY: Final = frozenset({"RUNNING", "CANCELLING"})

GIVEN_UP: Final = f"no reply after {wire.MAX_ATTEMPTS} attempts"
UNREADABLE: Final = "its message can't be read: it isn't from this version's router"


@dataclass(frozen=True)
class DeadLetter:
    """A prompt that was given up. Neither prompt nor reply is part of it.

    job: `None` if the message can't be read. age_s: seconds since the prompt was sent.
    """

    message_id: str
    job: wire.Job | None
    reason: str
    age_s: float

    @property
    def document(self) -> dict[str, Any]:
        """As it is shown to programs."""
        return {
            "message_id": self.message_id,
            "job_id": self.job.job_id if self.job else None,
            "conversation": self.job.conversation if self.job else None,
            "reason": self.reason,
            "age_s": round(self.age_s, 1),
        }


def look(cloud: Cloud, dead_letter_url: str, table: str) -> list[DeadLetter]:
    """The dead letters, in their order; they stay where they are.

    Of one conversation SQS shows ten at a time, and what a worker looks at right now it doesn't show.
    """
    seen: list[dict[str, Any]] = []
    try:
        for _ in range(LARGEST_LOOK):
            messages = cloud.sqs.receive_message(
                QueueUrl=dead_letter_url,
                MaxNumberOfMessages=BATCH,
                VisibilityTimeout=HIDDEN_S,
                WaitTimeSeconds=0,
                MessageSystemAttributeNames=["SentTimestamp"],
            ).get("Messages", [])
            if not messages:
                break
            seen += messages
    finally:
        _show_again(cloud, dead_letter_url, seen)
    return [_letter(cloud, table, message) for message in seen]


def _show_again(cloud: Cloud, url: str, messages: list[dict[str, Any]]) -> None:
    for start in range(0, len(messages), BATCH):
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for number, message in enumerate(messages[start : start + BATCH])
        ]
        cloud.sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _letter(cloud: Cloud, table: str, message: Mapping[str, Any]) -> DeadLetter:
    sent_ms = int(message.get("Attributes", {}).get("SentTimestamp", time.time() * 1000))
    try:
        job = wire.Job.from_message(message["Body"])
    except wire.WireError:
        return DeadLetter(message["MessageId"], None, UNREADABLE, _since(sent_ms))
    item = cloud.dynamodb.get_item(TableName=table, Key=wire.pack({"pk": job.pk})).get("Item")
    told = wire.unpack(item).get("error") if item else None
    return DeadLetter(message["MessageId"], job, str(told or GIVEN_UP), _since(job.submitted_ms))


def _since(moment_ms: int) -> float:
    return max(0.0, time.time() - moment_ms / 1000)


def reopen(cloud: Cloud, table: str, letters: Iterable[DeadLetter]) -> None:
    """Makes their jobs queued again. One that was answered or cancelled after all stays as it is."""
    for job in [letter.job for letter in letters if letter.job is not None]:
        try:
            cloud.dynamodb.update_item(TableName=table, Key=wire.pack({"pk": job.pk}), **_reopened(job))
        except Exception as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise


def _reopened(job: wire.Job) -> dict[str, Any]:
    now = int(time.time())
    values = {
        "job_id": job.job_id,
        "owner": job.owner,
        "conversation": job.conversation,
        "status": wire.QUEUED,
        "attempt": 0,
        "text": "",
        "cancel": False,
        "created_ms": job.submitted_ms,
        "updated_ms": now * 1000,
        "redriven_ms": now * 1000,
        "expires_at": now + wire.JOB_QUEUED_S,
    }
    gone = ("error", "ended_ms", "started_ms", "usage", "timings")
    operands = {"now": now, "done": wire.DONE, "cancelled": wire.CANCELLED}
    return {
        "UpdateExpression": "SET "
        + ", ".join(f"#{name} = :{name}" for name in values)
        + " REMOVE "
        + ", ".join(f"#{name}" for name in gone),
        "ConditionExpression": "attribute_not_exists(#status) OR #expires_at <= :now "
        "OR NOT #status IN (:done, :cancelled)",
        "ExpressionAttributeNames": {f"#{name}": name for name in (*values, *gone)},
        "ExpressionAttributeValues": wire.pack({f":{name}": value for name, value in (values | operands).items()}),
    }


def move(cloud: Cloud, dead_letters: str, queue: str) -> int:
    """Moves all dead letters back and waits until it is done.

    Args:
        dead_letters, queue: ARNs.

    Returns:
        How many were moved, as SQS tells it.

    Raises:
        Failure: SQS gave up, or somebody else is moving them.
        Unsettled: it still goes on after the wait.
    """
    before = _latest(cloud, dead_letters)
    if before is not None and before["Status"] in UNDER_WAY:
        raise Failure("the dead letters are being moved already", todo="wait for it; `aistratus queue health` tells")
    cloud.sqs.start_message_move_task(SourceArn=dead_letters, DestinationArn=queue)

    def ended() -> dict[str, Any] | None:
        task = _latest(cloud, dead_letters)
        new = task is not None and (before is None or task["StartedTimestamp"] != before["StartedTimestamp"])
        return task if task is not None and new and task["Status"] not in UNDER_WAY else None

    task = until(MOVED, ended, clock=cloud.clock)
    moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
    if task["Status"] != "COMPLETED":
        why = task.get("FailureReason") or task["Status"].lower()
        raise Failure(
            f"SQS moved {moved} dead letters back and then gave up: {why}", todo="run the command again for the rest"
        )
    return moved


def _latest(cloud: Cloud, arn: str) -> dict[str, Any] | None:
    """The move that was begun last. Source: SQS API reference, ListMessageMoveTasks: newest first, one by default."""
    found: list[dict[str, Any]] = cloud.sqs.list_message_move_tasks(SourceArn=arn, MaxResults=1).get("Results", [])
    return found[0] if found else None
