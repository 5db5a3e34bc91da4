"""`aistratus queue`: how it is, and prompts that were given up find their answer after all."""

from __future__ import annotations

import time
import uuid
from typing import Any

import fastjsonschema
import pytest
from cli_parts import client, eventually
from conftest import Built
from documents import QUEUE_HEALTH, REDRIVE

from aistratus import wire

pytestmark = pytest.mark.xdist_group("cli")


def bury(built: Built) -> wire.Job:
    """A prompt among the dead letters, as three killed workers leave it."""
    job = wire.Job(
        job_id=uuid.uuid4().hex, owner="somebody", conversation=str(uuid.uuid4()), prompt="How do I stop the GPU?",
        submitted_ms=int(time.time() * 1000), seed=1,
    )  # fmt: skip
    sqs = client(built.endpoint, "sqs")
    sqs.send_message(
        QueueUrl=sqs.get_queue_url(QueueName="tinyllama-local-jobs-dlq.fifo")["QueueUrl"],
        MessageBody=job.to_message(), MessageGroupId="g", MessageDeduplicationId=job.job_id,
    )  # fmt: skip
    return job


def item(built: Built, job: wire.Job) -> dict[str, Any]:
    key = wire.pack({"pk": job.pk})
    answer = client(built.endpoint, "dynamodb").get_item(TableName="tinyllama-local-jobs", Key=key)
    return wire.unpack(answer.get("Item", {}))


def test_health_tells_people_and_programs_the_same(built: Built) -> None:
    told = built.person.run("queue", "health", "-o", "json")
    fastjsonschema.validate(QUEUE_HEALTH, told.document)
    assert (told.code, told.document["env"], told.document["depth"]) == (0, "local", 0)
    assert told.document["heartbeat_age_s"] < wire.HEARTBEAT_FRESH_S
    shown = built.person.run("queue", "health").out
    assert [line.split("  ")[0] for line in shown.splitlines()] == [
        "waiting", "in flight", "oldest", "dead letters", "heartbeat"
    ]  # fmt: skip


def test_what_was_given_up_is_shown_and_answered_after_all(built: Built) -> None:
    job = bury(built)
    looked = built.person.run("queue", "redrive", "--plan", "-o", "json")
    fastjsonschema.validate(REDRIVE, looked.document)
    assert [letter["job_id"] for letter in looked.document["dead"]] == [job.job_id]
    assert (looked.document["moved"], looked.document["left"]) == (0, 1)
    assert job.prompt not in looked.words

    moved = built.person.run("queue", "redrive")
    assert moved.code == 0 and job.job_id in moved.out and "1 moved back" in moved.out, moved.words
    assert job.prompt not in moved.words
    ended = eventually(lambda: item(built, job), lambda found: found.get("status") in wire.FINAL)
    assert (ended["status"], "aistratus node stop" in ended["text"]) == (wire.DONE, True)
    assert built.person.run("queue", "redrive").out == "there are no dead letters\n"


def test_who_cannot_see_all_dead_letters_is_told_how_many_are_left(built: Built) -> None:
    for _ in range(12):
        bury(built)
    shown = built.person.run("queue", "redrive", "--plan")
    assert "about 2 more can't be seen now" in shown.words and "run it again" in shown.words
    looked = built.person.run("queue", "redrive", "--plan", "-o", "json")
    fastjsonschema.validate(REDRIVE, looked.document)
    assert (len(looked.document["dead"]), looked.document["left"]) == (10, 12)
    sqs = client(built.endpoint, "sqs")
    sqs.purge_queue(QueueUrl=sqs.get_queue_url(QueueName="tinyllama-local-jobs-dlq.fifo")["QueueUrl"])


def test_the_dashboard_is_named_and_no_browser_opened_without_a_terminal(built: Built) -> None:
    said = built.person.run("status", "--open")
    assert said.code == 0
    link = "https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1#dashboards/dashboard/"
    assert f"{link}tinyllama-local-overview" in said.out
    beside = built.person.run("status", "--open", "-o", "json")
    assert "url" not in beside.document and f"{link}tinyllama-local-overview" in beside.err
