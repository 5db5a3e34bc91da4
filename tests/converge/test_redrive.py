"""The way back for what was given up: looked at, opened again, sent anew; on queues and a table as `up` makes them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from converge_engine import Engine

from aistratus import redrive, wire
from aistratus.cloud import Cloud
from aistratus.core.resource import Ref
from aistratus.resources.dynamodb import Table
from aistratus.resources.sqs import Queue
from aistratus.worker.aws_time import AwsTime
from aistratus.worker.jobs import JobLost, Jobs, Lost

SECRET = "What nobody else may read"


@dataclass(frozen=True)
class Line:
    """A queue, its dead letters, and the jobs table of one env."""

    aws: Cloud
    queue: dict[str, str]
    dead: dict[str, str]
    table: str

    def job(self, job_id: str, conversation: str = "c", **fields: Any) -> wire.Job:
        """A job whose message lies among the dead letters; `fields` make its item."""
        job = wire.Job(
            job_id=job_id, owner="me", conversation=conversation, prompt=SECRET, seed=1,
            submitted_ms=int(time.time() * 1000) - 90_000,
        )  # fmt: skip
        if fields:
            self.aws.dynamodb.put_item(TableName=self.table, Item=wire.pack({"pk": job.pk, **fields}))
        self.bury(job.to_message(), conversation)
        return job

    def bury(self, body: str, group: str) -> None:
        self.aws.sqs.send_message(
            QueueUrl=self.dead["url"], MessageBody=body, MessageGroupId=group, MessageDeduplicationId=str(hash(body))
        )

    def item(self, job: wire.Job) -> dict[str, Any]:
        answer = self.aws.dynamodb.get_item(TableName=self.table, Key=wire.pack({"pk": job.pk}))
        return wire.unpack(answer.get("Item", {}))

    def look(self) -> list[redrive.DeadLetter]:
        return redrive.look(self.aws, self.dead["url"], self.table)

    def put_back(self, letters: list[redrive.DeadLetter] | None = None) -> redrive.Returned:
        seen = self.look() if letters is None else letters
        return redrive.put_back(self.aws, seen, self.dead["url"], self.queue["url"], self.table)

    def waiting(self) -> list[wire.Job]:
        """What a worker would take now, in its order; each is deleted, as a worker does."""
        jobs = []
        url = self.queue["url"]
        while got := self.aws.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0).get("Messages"):
            jobs.append(wire.Job.from_message(got[0]["Body"]))
            self.aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=got[0]["ReceiptHandle"])
        return jobs


@pytest.fixture
def line(aws: Cloud, engine: Engine) -> Line:
    dead = Queue(key="dead_letters", name="jobs-dlq")
    queue = Queue(key="jobs_queue", name="jobs", dead_letter=Ref(dead, "arn"))
    found = {c.key: c.found for c in engine.up(dead, queue, Table(key="jobs_table", name="jobs")).changes}
    ids = {key: dict(there.ids) for key, there in found.items() if there}
    return Line(aws, ids["jobs_queue"], ids["dead_letters"], ids["jobs_table"]["name"])


def test_dead_letters_are_shown_without_their_prompts_and_stay(line: Line) -> None:
    told = line.job("told", status=wire.FAILED, error="the model process was killed")
    untold = line.job("untold", "other")
    line.bury(json.dumps({"prompt": SECRET}), "poison")
    seen = {letter.document["job_id"]: letter.document for letter in line.look()}
    assert set(seen) == {told.job_id, untold.job_id, None}
    assert seen["told"]["reason"] == "the model process was killed"
    assert seen["untold"]["reason"] == redrive.GIVEN_UP
    assert (seen["untold"]["conversation"], 90 <= seen["untold"]["age_s"] < 150) == ("other", True)
    assert seen[None]["reason"] == redrive.UNREADABLE
    assert SECRET not in json.dumps(list(seen.values()))
    assert len(line.look()) == 3


def test_they_go_back_as_jobs_that_a_worker_takes(line: Line) -> None:
    failed = line.job(
        "failed", status=wire.FAILED, attempt=3, error="no", text="half", expires_at=int(time.time()) + 9,
        claim="failed", dead_letter=True,
    )  # fmt: skip
    gone = line.job("gone", "other")
    assert line.put_back() == redrive.Returned(sent=2)
    assert (line.look(), redrive.count(line.aws, line.dead["url"])) == ([], 0)
    assert {job.job_id: job.prompt for job in line.waiting()} == {"failed": SECRET, "gone": SECRET}
    worker = Jobs(line.aws.dynamodb, line.table, lambda: "model", AwsTime())
    for job in (failed, gone):
        item = line.item(job)
        assert (item["status"], item["attempt"], item["text"], "error" in item) == (wire.QUEUED, 0, "", False)
        assert not {"claim", "dead_letter"} & set(item), "or the next claim would seem a repeated one, or given up"
        assert item["expires_at"] > time.time() + 3_600
        assert worker.claim(job.pk, job.job_id).attempt == 1


def test_what_was_answered_or_cancelled_after_all_stays_so(line: Line) -> None:
    kept = [line.job(status, status=status, text="kept") for status in (wire.DONE, wire.CANCELLED)]
    assert line.put_back() == redrive.Returned(ended=2)
    assert [(line.item(job)["status"], line.item(job)["text"]) for job in kept] == [
        (wire.DONE, "kept"), (wire.CANCELLED, "kept")
    ]  # fmt: skip
    assert (line.look(), line.waiting()) == ([], [])


def test_what_was_not_seen_stays_for_the_next_run(line: Line) -> None:
    """Of one conversation ten are shown at a time; the job of an eleventh isn't open, and a worker would drop it."""
    names = [f"job-{number:02}" for number in range(13)]
    jobs = [line.job(name, status=wire.FAILED, error="no") for name in names]
    assert redrive.count(line.aws, line.dead["url"]) == 13
    seen = line.look()
    assert [letter.job.job_id for letter in seen if letter.job] == names[:10]
    assert line.put_back(seen) == redrive.Returned(sent=10)
    assert [job.job_id for job in line.waiting()] == names[:10]
    assert [line.item(job)["status"] for job in jobs[10:]] == [wire.FAILED] * 3
    assert redrive.count(line.aws, line.dead["url"]) == 3
    assert line.put_back() == redrive.Returned(sent=3)
    assert [job.job_id for job in line.waiting()] == names[10:]


def test_what_cannot_be_read_stays(line: Line) -> None:
    line.bury(json.dumps({"prompt": SECRET}), "poison")
    line.job("readable", status=wire.FAILED)
    assert line.put_back() == redrive.Returned(sent=1)
    assert [letter.job for letter in line.look()] == [None]


@pytest.mark.parametrize("dies_at", ["SendMessage", "DeleteMessage"])
def test_a_run_that_dies_is_repeated_and_sends_nothing_twice(line: Line, dies_at: str) -> None:
    job = line.job("once", status=wire.FAILED, attempt=3)
    seen = line.look()

    def die(**_: Any) -> None:
        raise KeyboardInterrupt

    events = line.aws.sqs.meta.events
    events.register(f"before-call.sqs.{dies_at}", die)
    with pytest.raises(KeyboardInterrupt):
        line.put_back(seen)
    events.unregister(f"before-call.sqs.{dies_at}", die)
    worker = Jobs(line.aws.dynamodb, line.table, lambda: "model", AwsTime())
    worker.claim(job.pk, job.job_id)  # by now an answer is being written
    assert line.put_back() == redrive.Returned(sent=1)
    assert line.item(job)["attempt"] == 1
    assert [job.job_id for job in line.waiting()] == ["once"]
    assert line.look() == []


def test_a_worker_that_looks_meanwhile_does_not_give_them_up_again(line: Line) -> None:
    job = line.job("again", status=wire.FAILED)
    worker = Jobs(line.aws.dynamodb, line.table, lambda: "model", AwsTime())
    assert line.put_back() == redrive.Returned(sent=1)
    with pytest.raises(JobLost) as lost:
        worker.abandon(job.pk, "given up")
    assert lost.value.why is Lost.REDRIVEN
    long_ago = int(time.time() * 1000) - (wire.REDRIVE_S + 1) * 1000
    item = {**line.item(job), "redriven_ms": long_ago}
    line.aws.dynamodb.put_item(TableName=line.table, Item=wire.pack(item))
    worker.abandon(job.pk, "given up")
    assert line.item(job)["status"] == wire.FAILED


def test_putting_back_twice_puts_nothing_back_twice(line: Line) -> None:
    line.job("once", status=wire.FAILED)
    seen = line.look()
    assert line.put_back(seen) == redrive.Returned(sent=1)
    assert line.put_back(seen[:0]) == redrive.Returned()
    assert [job.job_id for job in line.waiting()] == ["once"]
