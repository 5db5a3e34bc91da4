"""Redrives dead letters: reads them, reopens their jobs, and sends their messages again.

An ended job is never run again, and every dead letter's job has ended as `failed` (or its item has expired). So before
a message is sent again its job is reopened: for a client that still follows it, it is queued once more, from the first
attempt on. The job comes first, then the message, because a worker drops a message whose job has ended; the dead letter
is deleted last. The worker also scans the dead letters to mark their jobs as failed; it skips those that were reopened
a moment ago.

Only messages that were read are redriven. SQS could move the whole queue by itself (StartMessageMoveTask), but a FIFO
queue can't be read as a whole: it returns ten messages of each group at a time, and none that another reader holds. A
message that was moved unread would find its job ended, and be dropped.

A run that dies anywhere can be repeated: the job stores the dead letter that it was reopened for and isn't reset a
second time, and the message's deduplication id is made of both. After the five minutes that SQS remembers such an id
there may be two messages for one job; they are in one group, and the second finds the job ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import Unsettled, error_code
from aistratus.core.settle import Wait, until

BATCH: Final = 10
LARGEST_LOOK: Final = 50
"""Receives; 500 messages are more than anybody reads."""
HIDDEN_S: Final = 30
"""While the look goes on, so that each receive brings others."""

SHOWN_AGAIN: Final = Wait(what="the dead letters that were seen are shown again", within=40, first=0.2)
"""A worker that looks at them meanwhile hides them for 30 s at most."""

GIVEN_UP: Final = f"no reply after {wire.MAX_ATTEMPTS} attempts"
UNREADABLE: Final = "its message can't be read: it isn't from this version's router"


@dataclass(frozen=True)
class DeadLetter:
    """A prompt that was given up. Neither prompt nor reply is part of it.

    job: `None` if the message can't be read; it stays where it is then. age_s: seconds since the prompt was sent.
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


@dataclass(frozen=True)
class Returned:
    """What came of a return.

    sent: how many prompts wait for an answer again.
    ended: how many dead letters were deleted because their job was answered or cancelled after all.
    """

    sent: int = 0
    ended: int = 0


def count(cloud: Cloud, dead_letter_url: str) -> int:
    """How many dead letters there are, seen or not; SQS counts approximately."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = cloud.sqs.get_queue_attributes(QueueUrl=dead_letter_url, AttributeNames=names)["Attributes"]
    return sum(int(told[name]) for name in names)


def look(cloud: Cloud, dead_letter_url: str, table: str) -> list[DeadLetter]:
    """The dead letters, in their order; they stay where they are.

    Of one conversation SQS shows ten at a time, and what a worker looks at right now it doesn't show.
    """
    seen: list[dict[str, Any]] = []
    try:
        while len(seen) < LARGEST_LOOK * BATCH and (messages := _receive(cloud, dead_letter_url)):
            seen += messages
    finally:
        _show_again(cloud, dead_letter_url, seen)
    return [_letter(cloud, table, message) for message in seen]


def _receive(cloud: Cloud, url: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = cloud.sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=BATCH,
        VisibilityTimeout=HIDDEN_S,
        WaitTimeSeconds=0,
        MessageSystemAttributeNames=["SentTimestamp", "MessageGroupId"],
    ).get("Messages", [])
    return messages


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


def put_back(cloud: Cloud, letters: Iterable[DeadLetter], dead_letter_url: str, queue_url: str, table: str) -> Returned:
    """Puts these dead letters back into the queue, one after the other; what can't be read stays where it is.

    One that isn't shown again in time (somebody else is looking at it) stays, too, for the next run.
    """
    wanted = {letter.message_id: letter.job for letter in letters if letter.job is not None}
    sent: list[str] = []
    ended: list[str] = []
    others: list[dict[str, Any]] = []

    def take() -> bool | None:
        """All that is shown now; gives nothing as long as one is missing."""
        while len(wanted) > len(sent) + len(ended) and (messages := _receive(cloud, dead_letter_url)):
            others.extend(messages)
            for message in messages:
                job = wanted.get(message["MessageId"])
                if job is not None:
                    back = _put_back(cloud, job, message, queue_url, table)
                    cloud.sqs.delete_message(QueueUrl=dead_letter_url, ReceiptHandle=message["ReceiptHandle"])
                    (sent if back else ended).append(message["MessageId"])
                    others.remove(message)
        return True if len(wanted) == len(sent) + len(ended) else None

    try:
        until(SHOWN_AGAIN, take, clock=cloud.clock)
    except Unsettled:
        pass  # the caller tells how many are left
    finally:
        _show_again(cloud, dead_letter_url, others)
    return Returned(len(sent), len(ended))


def _put_back(cloud: Cloud, job: wire.Job, message: Mapping[str, Any], queue_url: str, table: str) -> bool:
    """Opens the job and sends its message anew; false if the job has ended well, and so needs no answer."""
    if not _reopen(cloud, table, job, message["MessageId"]):
        return False
    cloud.sqs.send_message(
        QueueUrl=queue_url,
        MessageBody=message["Body"],
        MessageGroupId=message["Attributes"]["MessageGroupId"],
        MessageDeduplicationId=wire.deduplication_id(job.owner, f"{job.job_id}\n{message['MessageId']}"),
    )
    return True


def _reopen(cloud: Cloud, table: str, job: wire.Job, message_id: str) -> bool:
    """Makes the job queued again, once for this dead letter; false if it was answered or cancelled after all."""
    try:
        cloud.dynamodb.update_item(
            TableName=table,
            Key=wire.pack({"pk": job.pk}),
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **_reopened(job, message_id),
        )
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise
        there = wire.unpack(error.response.get("Item", {}))
        return there.get("status") not in (wire.DONE, wire.CANCELLED)
    return True


def _reopened(job: wire.Job, message_id: str) -> dict[str, Any]:
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
        "redriven_from": message_id,
        "expires_at": now + wire.JOB_QUEUED_S,
    }
    gone = ("error", "ended_ms", "started_ms", "usage", "timings", "claim", "dead_letter")
    operands = {"now": now, "done": wire.DONE, "cancelled": wire.CANCELLED, "running": wire.RUNNING}
    return {
        "UpdateExpression": "SET "
        + ", ".join(f"#{name} = :{name}" for name in values)
        + " REMOVE "
        + ", ".join(f"#{name}" for name in gone),
        # A repeated run finds the job open already, perhaps with an attempt under way.
        "ConditionExpression": "attribute_not_exists(#status) OR #expires_at <= :now "
        "OR (NOT #status IN (:done, :cancelled) "
        "AND NOT (#redriven_from = :redriven_from AND #status IN (:status, :running)))",
        "ExpressionAttributeNames": {f"#{name}": name for name in (*values, *gone)},
        "ExpressionAttributeValues": wire.pack({f":{name}": value for name, value in (values | operands).items()}),
    }
