"""Jobs: from a valid request to an item in the table and a message on the queue, and back to an answer.

The item is written first, and only if its key is free; then the message is sent. The job's id is the caller's
idempotency key if there is one, so that a repeated request finds its own item. While that item is still `queued`, the
message is sent again: the queue drops a duplicate within five minutes by its deduplication id, and the worker never
runs a finished job again. So repeating a request is safe and completes it, wherever its first try failed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router.aws import Aws, AwsError
from aistratus.router.clock import Deadline
from aistratus.router.problems import conflict, not_found, service_unavailable, too_large
from aistratus.router.table import ConditionFailed, Table

MESSAGE_BYTES: Final = 262_144
"""What every SQS queue takes; newer ones take more. A body within `BODY_BYTES` can grow past it by JSON's escapes."""

_RACES: Final = 3
"""How often a cancellation looks again when the worker changes the job's status at the same moment."""


@dataclass(frozen=True)
class Jobs:
    """The jobs of all users; every operation names the owner, whose `sub` is part of the key."""

    table: Table
    aws: Aws
    queue_url: str

    def submit(self, job: wire.Job, fingerprint: str, request_id: str, deadline: Deadline) -> dict[str, Any]:
        """Accepts a job, or finds the same one accepted before.

        Returns:
            The job's item.

        Raises:
            Problem: 409 if the id stands for another request, 413, 503 if it couldn't be queued.
            AwsError: the table can't be written.
        """
        message = job.to_message()
        if len(message) > MESSAGE_BYTES:
            raise too_large("The request is too large for the queue; send less history.")
        item = _new_item(job, fingerprint, request_id)
        written_by: str | None = request_id
        try:
            self.table.put_new(item, deadline)
        except ConditionFailed as found:
            if found.item is None:
                raise service_unavailable("The job's place was taken for a moment; send the request again.") from found
            item, written_by = same_request(found.item, fingerprint), None
        if item["status"] == wire.QUEUED:
            self._send(job, message, deadline, written_by=written_by)
        return item

    def find(self, owner: str, job_id: str, deadline: Deadline) -> dict[str, Any]:
        """The item of a job.

        Raises:
            Problem: 404. Another user's job looks the same as one that never was.
        """
        item = self.table.get(wire.job_pk(owner, job_id), deadline)
        if item is None:
            raise not_found("You have no job with this id; a finished one is kept for a few minutes only.")
        return item

    def cancel(self, owner: str, job_id: str, deadline: Deadline) -> tuple[str, bool]:
        """Cancels a queued job at once; asks the worker to stop a running one; leaves an ended one as it is.

        Returns:
            The status that holds now, and whether the job was still alive.
        """
        for _ in range(_RACES):
            item = self.find(owner, job_id, deadline)
            if item["status"] in wire.FINAL:
                return item["status"], False
            changes = self._cancellation(item["status"])
            try:
                self.table.update(
                    item["pk"], deadline, values=changes, condition="#status = :is", operands={"is": item["status"]}
                )
            except ConditionFailed:
                continue
            return changes.get("status", item["status"]), True
        raise service_unavailable("The job changes too quickly to be cancelled; try again.")

    def _cancellation(self, status: str) -> dict[str, Any]:
        now = self.aws.clock.ms()
        if status != wire.QUEUED:
            return {"cancel": True}
        return {
            "status": wire.CANCELLED,
            "cancel": True,
            "updated_ms": now,
            "ended_ms": now,
            "expires_at": now // 1000 + wire.JOB_KEPT_S,
        }

    def _send(self, job: wire.Job, message: str, deadline: Deadline, *, written_by: str | None) -> None:
        """Puts the message on the queue.

        Args:
            written_by: the request that has just written the item, which takes it back if nothing was sent; None if
                the item stood there before.
        """
        arguments = {
            "QueueUrl": self.queue_url,
            "MessageBody": message,
            "MessageGroupId": wire.message_group(job.owner, job.conversation),
            "MessageDeduplicationId": wire.deduplication_id(job.owner, job.job_id),
        }
        try:
            self.aws.call("sqs", "SendMessage", arguments, deadline)
        except AwsError as error:
            if error.certain and written_by is not None:
                self._take_back(job.pk, written_by, deadline)
            raise

    def _take_back(self, pk: str, request_id: str, deadline: Deadline) -> None:
        try:
            self.table.delete(pk, deadline, where={"status": wire.QUEUED, "request_id": request_id})
        except (ConditionFailed, AwsError):
            # The caller hears of the failure that led here. An item left behind is found by a repeated request,
            # which sends the message, and expires otherwise.
            return


def same_request(item: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The item, if it is of the same request.

    Raises:
        Problem: 409.
    """
    if item.get("fingerprint") != fingerprint:
        raise conflict("This Idempotency-Key was used with another body; take a new key for a new request.")
    return item


def fingerprint_of(request: Mapping[str, Any]) -> str:
    """SHA-256 of a valid request with its defaults filled in, however its JSON was written."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def job_of(request: Mapping[str, Any], owner: str, job_id: str, now_ms: int) -> wire.Job:
    """A job from a valid request with its defaults filled in.

    A conversation or seed that the request leaves out follows from the job's id, so that a request which is repeated
    under its idempotency key makes the same job.
    """
    drawn = hashlib.sha256(f"{owner}\n{job_id}\ndrawn".encode()).digest()
    return wire.Job(
        job_id=job_id,
        owner=owner,
        conversation=(request["conversation"] or _uuid(drawn[:16])).lower(),
        prompt=request["prompt"],
        submitted_ms=now_ms,
        seed=_seed(drawn[16:20]) if request["seed"] is None else request["seed"],
        history=tuple(wire.Turn(turn["role"], turn["content"]) for turn in request["history"]),
        system=request["system"],
        max_tokens=request["max_tokens"],
        temperature=request["temperature"],
        top_p=request["top_p"],
        stop=tuple(request["stop"]),
    )


def new_id() -> str:
    """A job id that nobody can guess."""
    return os.urandom(16).hex()


def _new_item(job: wire.Job, fingerprint: str, request_id: str) -> dict[str, Any]:
    return {
        "pk": job.pk,
        "job_id": job.job_id,
        "owner": job.owner,
        "conversation": job.conversation,
        "status": wire.QUEUED,
        "attempt": 0,
        "text": "",
        "created_ms": job.submitted_ms,
        "updated_ms": job.submitted_ms,
        "cancel": False,
        "fingerprint": fingerprint,
        "request_id": request_id,
        "expires_at": job.submitted_ms // 1000 + wire.JOB_QUEUED_S,
    }


def _uuid(drawn: bytes) -> str:
    """A UUID of version 4 (RFC 9562) from 16 bytes; the module `uuid` costs a cold start two milliseconds."""
    digits = f"{drawn.hex()[:12]}4{drawn.hex()[13:16]}{0x80 | drawn[8] & 0x3F:02x}{drawn.hex()[18:]}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _seed(drawn: bytes) -> int:
    """31 bits: the engine's seed is a C `int`."""
    return int.from_bytes(drawn, "big") >> 1
