"""The job item in DynamoDB: claimed, written and finished with conditional writes, so that one attempt owns it.

A claim increments the item's attempt number; every later write is conditional on that number and the status `running`.
Whoever finds the condition false has lost the job: the user cancelled it, a later attempt owns it, or it is gone. So a
job is answered once without any lock, even when SQS delivers a message twice.

Incrementing a number isn't idempotent, and answers get lost. So a claim carries an idempotency key, one for each
receive: an item that holds this key already was claimed by the first try.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from botocore.exceptions import ClientError

from aistratus.wire import CANCELLED, DONE, FAILED, FINAL, JOB_KEPT_S, QUEUED, REDRIVE_S, RUNNING, Usage, pack, unpack
from aistratus.worker.aws_time import AwsTime
from aistratus.worker.clients import CONDITION_FAILED, error_code

NOT_CANCELLED: Final = "(attribute_not_exists(#cancel) OR #cancel = :false)"
NOT_EXPIRED: Final = "(attribute_not_exists(#expires_at) OR #expires_at > :now)"
OPEN: Final = "attribute_exists(#pk) AND #status IN (:queued, :running)"
NOT_REDRIVEN: Final = "(attribute_not_exists(#redriven_ms) OR #redriven_ms < :redriven_before)"
NOT_CLAIMED: Final = "(attribute_not_exists(#claim) OR #claim <> :set_claim)"
MINE: Final = "#attempt = :mine AND #status = :running"


class Lost(Enum):
    """Why a write was refused."""

    ENDED = "the job has ended already"
    GIVEN_UP = "it was given up, and its message belongs among the dead letters"
    CANCELLED = "the user cancelled it"
    TAKEN = "another attempt owns it"
    GONE = "its item is gone"
    REDRIVEN = "the operator is moving its message back"


class JobLost(Exception):
    """This attempt doesn't own the job (any more)."""

    def __init__(self, why: Lost) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One attempt's right to write a job item. Times are milliseconds since the epoch.

    request_id: id of the request that created the job, as in the router's log and the API's access log.
    """

    pk: str
    attempt: int
    started_ms: int
    request_id: str | None = None


class Jobs:
    """The jobs table, as far as the worker needs it. Each method makes one call and is safe to repeat."""

    def __init__(self, dynamodb: Any, table: str, model_name: Callable[[], str], clock: AwsTime) -> None:
        self._dynamodb = dynamodb
        self._clock = clock
        self._table = table
        self._model_name = model_name

    def claim(self, pk: str, claim_id: str) -> Claim:
        """Begins an attempt: status `running`, attempt number one higher, no text.

        Args:
            pk: the job item's key.
            claim_id: the idempotency key: a new one for each receive, the same for each retry.

        Raises:
            JobLost: ended, cancelled or gone.
        """
        now = self._clock.now_ms()
        values = {
            "status": RUNNING, "text": "", "started_ms": now, "updated_ms": now, "model": self._model_name(),
            "claim": claim_id,
        }  # fmt: skip
        extra = {"zero": 0, "one": 1}
        try:
            item: Mapping[str, Any] = self._update(
                pk,
                values,
                f"{OPEN} AND {NOT_CANCELLED} AND {NOT_EXPIRED} AND {NOT_CLAIMED}",
                extra,
                more=", #attempt = if_not_exists(#attempt, :zero) + :one REMOVE #error, #ended_ms, #usage, #timings",
                returns="ALL_NEW",
            )
        except JobLostTo as lost:
            if lost.why is not Lost.TAKEN or lost.item.get("claim") != claim_id:
                raise
            item = lost.item  # the first try was carried out and only its answer was lost
        request = item.get("request_id")
        return Claim(pk=pk, attempt=item["attempt"], started_ms=item["started_ms"], request_id=request)

    def write(self, claim: Claim, text: str | None) -> None:
        """Writes the text so far; None only checks whether the job is still ours.

        Raises:
            JobLost: cancelled, taken by another attempt, or gone.
        """
        values: dict[str, Any] = {"updated_ms": self._clock.now_ms()}
        if text is not None:
            values["text"] = text
        self._update(claim.pk, values, f"{MINE} AND {NOT_CANCELLED}", {"mine": claim.attempt})

    def finish(
        self,
        claim: Claim,
        status: str,
        *,
        text: str | None = None,
        error: str | None = None,
        usage: Mapping[str, Any] | None = None,
        timings: Mapping[str, Any] | None = None,
        given_up: bool = False,
    ) -> None:
        """Ends the job for good. Repeating it after a lost answer is fine.

        Args:
            claim: the attempt that ends it.
            status: one of the final ones.
            text, error, usage, timings: the reply so far and its figures; None: unchanged.
            given_up: its attempts are used up; its message isn't deleted, and SQS moves it to the dead letters.

        Raises:
            JobLost: it isn't ours to end.
        """
        values = {
            **self._ending(status), "text": text, "error": error, "usage": usage, "timings": timings,
            "dead_letter": given_up or None,
        }  # fmt: skip
        try:
            self._update(claim.pk, values, MINE, {"mine": claim.attempt})
        except JobLostTo as lost:
            if lost.item.get("status") == status and lost.item.get("attempt") == claim.attempt:
                return  # the first try was carried out and only its answer was lost
            raise

    def note_usage(self, usage: Usage) -> None:
        """Records a job's usage for `aistratus cost`; the job's own item expires in minutes."""
        self._dynamodb.update_item(TableName=self._table, **usage.update(self._clock.now_ms()))

    def cancel_unclaimed(self, pk: str) -> None:
        """Ends a job that was cancelled while no attempt ran; its last text stays.

        Raises:
            JobLost: it has ended or is gone.
        """
        self._update(pk, self._ending(CANCELLED), f"{OPEN} AND #cancel = :true", {"true": True})

    def abandon(self, pk: str, reason: str) -> None:
        """Marks a job failed whose message SQS has moved to the dead-letter queue.

        Raises:
            JobLost: it has ended, is gone, or was opened again a moment ago.
        """
        before = {"redriven_before": self._clock.now_ms() - REDRIVE_S * 1000}
        try:
            values = {**self._ending(FAILED), "error": reason, "dead_letter": True}
            self._update(pk, values, f"{OPEN} AND {NOT_REDRIVEN}", before)
        except JobLostTo as lost:
            if lost.item.get("status") in (QUEUED, RUNNING):
                raise JobLost(Lost.REDRIVEN) from lost
            raise

    def _update(
        self,
        pk: str,
        values: Mapping[str, Any],
        condition: str,
        extra: Mapping[str, Any],
        *,
        more: str = "",
        returns: str = "UPDATED_NEW",
    ) -> dict[str, Any]:
        """One conditional update; returns the attributes that `returns` names (DynamoDB's `ReturnValues`)."""
        known = {name: value for name, value in values.items() if value is not None}
        update = "SET " + ", ".join(f"#{name} = :set_{name}" for name in known) + more
        constants = {"queued": QUEUED, "running": RUNNING, "false": False, "now": self._clock.now_ms() // 1000, **extra}
        both = f"{update} {condition}"
        used = set(re.findall(r":(\w+)", both))
        bound = {f"set_{name}": value for name, value in known.items()} | constants
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=pack({"pk": pk}),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in re.findall(r"#(\w+)", both)},
                ExpressionAttributeValues={f":{name}": packed for name, packed in pack(bound).items() if name in used},
                ReturnValues=returns,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error_code(error) != CONDITION_FAILED:
                raise
            raise JobLostTo(unpack(error.response.get("Item", {})), self._clock.now_s()) from error
        return unpack(answer["Attributes"])

    def _ending(self, status: str) -> dict[str, Any]:
        now = self._clock.now_ms()
        return {"status": status, "ended_ms": now, "updated_ms": now, "expires_at": now // 1000 + JOB_KEPT_S}


class JobLostTo(JobLost):
    """A refused write, with the item that refused it (empty when there is none)."""

    def __init__(self, item: Mapping[str, Any], now_s: float) -> None:
        super().__init__(_why(item, now_s))
        self.item = item


def _why(item: Mapping[str, Any], now_s: float) -> Lost:
    if item.get("dead_letter"):
        return Lost.GIVEN_UP  # even when expired: DynamoDB deletes it later, and its message may still be received
    if not item or item.get("expires_at", float("inf")) <= now_s:
        return Lost.GONE
    if item.get("status") in FINAL:
        return Lost.CANCELLED if item["status"] == CANCELLED else Lost.ENDED
    return Lost.CANCELLED if item.get("cancel") else Lost.TAKEN


__all__ = ["CANCELLED", "DONE", "FAILED", "Claim", "JobLost", "Jobs", "Lost"]
