"""A claim whose answer is lost costs no attempt, and a job that was given up always leaves a dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from worker_rig import Rig, await_value, rigs

from aistratus import wire
from aistratus.local.faults import FaultyFront, Lost
from aistratus.worker.aws_time import AwsTime
from aistratus.worker.jobs import FAILED, JobLost, Jobs
from aistratus.worker.jobs import Lost as Why

STORY = "the quick brown fox jumps over the lazy dog " * 6


@pytest.fixture
def rig(endpoint: str, tmp_path: Path) -> Iterator[Rig]:
    for rig in rigs(endpoint, tmp_path):
        rig.settings = {"WORKER_ENGINE": "echo", "WORKER_ECHO_DELAY_MS": "5"}
        yield rig


def table(rig: Rig, endpoint: str) -> Jobs:
    """The jobs table with the retries that the worker has."""
    dynamodb: Any = boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"mode": "standard", "total_max_attempts": 2}),
    )
    return Jobs(dynamodb, rig.table, lambda: "model", AwsTime())


def waiting(rig: Rig, **fields: Any) -> wire.Job:
    job = rig.job()
    rig.put_item(job, **fields)
    return job


def test_a_claim_whose_answers_are_lost_is_one_attempt(rig: Rig) -> None:
    job = waiting(rig)
    with FaultyFront(rig.endpoint, [Lost(only=1), Lost(only=2)]) as front:
        jobs = table(rig, front.url)
        with pytest.raises(BotoCoreError):
            jobs.claim(job.pk, "first")
        claimed = rig.item(job.pk)
        claim = jobs.claim(job.pk, "first")
        assert front.operations == ["UpdateItem"] * 3, "it costs no other call"
    assert claimed and claimed == rig.item(job.pk), "what was carried out once isn't carried out again"
    assert (claim.attempt, claim.started_ms) == (1, claimed["started_ms"])
    jobs = table(rig, rig.endpoint)
    jobs.write(claim, "half")
    assert jobs.claim(job.pk, "second").attempt == 2, "the next receive's claim is another attempt"
    with pytest.raises(JobLost) as lost:
        jobs.write(claim, "more")
    assert lost.value.why is Why.TAKEN


def test_a_repeated_claim_of_a_job_that_was_cancelled_or_ended_meanwhile_is_refused(rig: Rig) -> None:
    jobs = table(rig, rig.endpoint)
    cancelled, ended = waiting(rig), waiting(rig)
    for job in (cancelled, ended):
        claim = jobs.claim(job.pk, "mine")
    rig.cancel(cancelled)
    jobs.finish(claim, wire.DONE, text="whole")
    for job, why in ((cancelled, Why.CANCELLED), (ended, Why.ENDED)):
        with pytest.raises(JobLost) as lost:
            jobs.claim(job.pk, "mine")
        assert lost.value.why is why


def test_only_what_was_given_up_tells_so_also_when_it_has_expired(rig: Rig) -> None:
    jobs = table(rig, rig.endpoint)
    refused, exhausted, abandoned = waiting(rig), waiting(rig), waiting(rig)
    jobs.finish(jobs.claim(refused.pk, "a"), FAILED, error="the prompt is too long")
    jobs.finish(jobs.claim(exhausted.pk, "b"), FAILED, error="it died", given_up=True)
    jobs.abandon(abandoned.pk, "it died")
    expired = waiting(rig, status=FAILED, dead_letter=True, expires_at=1)
    for job, why in (
        (refused, Why.ENDED), (exhausted, Why.GIVEN_UP), (abandoned, Why.GIVEN_UP), (expired, Why.GIVEN_UP)
    ):  # fmt: skip
        with pytest.raises(JobLost) as lost:
            jobs.claim(job.pk, "later")
        assert lost.value.why is why, rig.item(job.pk)


def test_attempts_without_a_receive_neither_fail_a_job_early_nor_cost_its_dead_letter(rig: Rig) -> None:
    worker = rig.start()
    job = rig.send(rig.job(STORY, max_tokens=1024), attempt=2)
    for attempt in range(3, 3 + wire.MAX_ATTEMPTS):
        rig.await_item(job, lambda item, n=attempt: item["attempt"] == n and item["text"] != "", f"attempt {attempt}")
        worker.child().kill()
        failed = worker.await_event("attempt_failed", attempt=attempt)
        assert failed["last"] is (attempt == 2 + wire.MAX_ATTEMPTS)
    assert rig.await_final(job)["status"] == wire.FAILED
    await_value(lambda: sum(rig.counts(rig.dead_url)) == 1, "the message is in the dead-letter queue")


def test_the_message_of_a_job_that_was_given_up_is_given_back_until_it_is_a_dead_letter(rig: Rig) -> None:
    """A second message for the same job, say, or one that somebody moved back without opening its job again."""
    worker = rig.start()
    job = rig.send(rig.job(), status=wire.FAILED, attempt=3, error="it died", dead_letter=True)
    await_value(lambda: sum(rig.counts(rig.dead_url)) == 1, "the message is in the dead-letter queue")
    told = [event for event in worker.events if event["event"] == "job_not_run"]
    assert [event["job"] for event in told] == [job.job_id] * wire.MAX_ATTEMPTS
    item = rig.item(job.pk)
    assert item and (item["status"], item["attempt"], item["error"]) == (wire.FAILED, 3, "it died")
    assert rig.await_final(rig.send(rig.job("the next one")))["text"] == "the next one"
