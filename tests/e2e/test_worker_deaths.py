"""What survives: killed model processes, killed supervisors, a cut network, lost receipts."""

from __future__ import annotations

import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from worker_model import write_model
from worker_rig import Line, Rig, await_value, rigs

from aistratus import wire

STORY = "the quick brown fox jumps over the lazy dog " * 6
ENDLESS = STORY * 3
"""Takes four seconds: a crowded machine kills its writer too before it ends."""


@pytest.fixture
def rig(endpoint: str, tmp_path: Path) -> Iterator[Rig]:
    for rig in rigs(endpoint, tmp_path):
        rig.settings = {"WORKER_ENGINE": "echo", "WORKER_ECHO_DELAY_MS": "5"}
        yield rig


def test_a_killed_model_process_costs_an_attempt_and_the_reply_arrives_complete(rig: Rig) -> None:
    worker = rig.start()
    job = rig.send(rig.job(STORY, max_tokens=1024))
    rig.await_text(job)
    worker.child().kill()
    item = rig.await_final(job)
    assert (item["status"], item["text"], item["attempt"]) == (wire.DONE, STORY, 2)
    reason = worker.await_event("attempt_failed", job=job.job_id)["reason"]
    assert reason == "the model process was killed by SIGKILL"
    rig.await_empty()
    assert rig.counts(rig.dead_url) == (0, 0)
    assert [event["job"] for event in worker.events if event["event"] == "job_done"] == [job.job_id]


def test_a_killed_worker_takes_its_model_process_along_and_the_next_one_answers(rig: Rig) -> None:
    worker = rig.start()
    job = rig.send(rig.job(STORY, max_tokens=1024))
    rig.await_text(job)
    child = worker.child()
    note = rig.folder / "state" / "held.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    worker.stop(signal.SIGKILL)
    await_value(lambda: not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE, "the child is gone")
    assert rig.counts() == (0, 1), "the dead worker's message is still in flight"
    following = rig.start()
    following.await_event("old_message_given_back")
    item = rig.await_final(job)
    assert (item["status"], item["text"], item["attempt"]) == (wire.DONE, STORY, 2)
    rig.await_empty()
    assert not note.exists()


def test_after_the_third_failed_attempt_the_job_tells_why_and_the_message_is_a_dead_letter(rig: Rig) -> None:
    worker = rig.start()
    job = rig.send(rig.job(ENDLESS, max_tokens=1024))
    for attempt in range(1, wire.MAX_ATTEMPTS + 1):
        rig.await_item(job, lambda item, n=attempt: item["attempt"] == n and item["text"] != "", f"attempt {attempt}")
        worker.child().kill()
        worker.await_event("attempt_failed", attempt=attempt)
    item = rig.await_final(job)
    assert (item["status"], item["error"]) == (wire.FAILED, "the model process was killed by SIGKILL")
    await_value(lambda: sum(rig.counts(rig.dead_url)) == 1, "the message is in the dead-letter queue")
    other = rig.send(rig.job("and the next one works"))
    assert rig.await_final(other)["text"] == "and the next one works"


def test_three_killed_workers_end_in_a_failed_job_with_a_reason(rig: Rig) -> None:
    job = rig.send(rig.job(ENDLESS, max_tokens=1024))
    for attempt in range(1, wire.MAX_ATTEMPTS + 1):
        worker = rig.start()
        rig.await_item(job, lambda item, n=attempt: item["attempt"] == n and item["text"] != "", f"attempt {attempt}")
        worker.stop(signal.SIGKILL)
    rig.start()
    item = rig.await_final(job)
    assert item["status"] == wire.FAILED and "the worker was killed" in item["error"]


def test_a_cut_network_costs_time_and_no_job(rig: Rig) -> None:
    line = Line(rig.endpoint)
    worker = rig.start(AWS_ENDPOINT_URL=line.endpoint)
    job = rig.send(rig.job(STORY, max_tokens=1024))
    rig.await_text(job)
    line.cut()
    worker.await_event("aws_failed", call="show")
    worker.await_event("aws_failed", call="finish")
    line.mend()
    item = rig.await_final(job)
    assert (item["status"], item["text"], item["attempt"]) == (wire.DONE, STORY, 1)
    rig.await_empty()
    note = rig.folder / "state" / "held.json"
    await_value(lambda: not note.exists(), "the worker knows that its message is deleted")
    line.cut()
    worker.await_event("aws_failed", call="receive")
    line.mend()
    mended_ms = time.time_ns() // 1_000_000
    # moto goes on with the poll whose connection was cut and would give its message to nobody, so wait a beat.
    await_value(lambda: (beat := rig.item(wire.HEARTBEAT_PK)) and beat["at_ms"] > mended_ms, "a heartbeat")
    other = rig.send(rig.job("after the outage"))
    assert rig.await_final(other)["text"] == "after the outage"
    assert worker.process.poll() is None
    line.close()


def test_a_worker_whose_message_belongs_to_another_stops_and_writes_nothing(rig: Rig) -> None:
    worker = rig.start()
    job = rig.send(rig.job("slow " * 60, max_tokens=1024))
    rig.await_text(job)
    rig.put_item(job, status=wire.RUNNING, attempt=9, text="the other's text")
    worker.await_event("job_let_go", job=job.job_id, reason="another attempt owns it")
    item = rig.item(job.pk)
    assert item and (item["attempt"], item["text"], item["status"]) == (9, "the other's text", wire.RUNNING)
    other = rig.send(rig.job("free again"))
    assert rig.await_final(other)["text"] == "free again"


def test_a_worker_stops_when_sqs_no_longer_knows_its_receipt(rig: Rig) -> None:
    worker = rig.start(WORKER_ECHO_DELAY_MS="50")
    job = rig.send(rig.job("slow " * 100, max_tokens=1024))
    rig.await_text(job)
    rig.sqs.purge_queue(QueueUrl=rig.queue_url)
    worker.await_event("attempt_stopped", job=job.job_id)
    item = rig.item(job.pk)
    assert item and item["status"] == wire.RUNNING
    assert worker.process.poll() is None


def test_a_second_worker_in_the_same_folder_is_refused(rig: Rig) -> None:
    rig.start().await_event("started")
    second = rig.start()
    assert second.process.wait(timeout=30) == 1
    assert "another worker is running" in second.log_file.read_text()


def test_a_real_model_killed_in_mid_reply_writes_the_same_text_again(rig: Rig, tmp_path: Path) -> None:
    model = write_model(tmp_path / "slow.gguf", dim=512, layers=6, context=1024)
    worker = rig.start(WORKER_ENGINE="ctransformers", WORKER_MODEL_PATH=str(model), WORKER_THREADS="1")
    fields = {"temperature": 0.8, "max_tokens": 900}
    undisturbed = [rig.send(rig.job("tell me", seed=seed, **fields)) for seed in range(5)]
    texts = [rig.await_final(job)["text"] for job in undisturbed]
    seed = max(range(5), key=lambda number: len(texts[number]))
    assert len(set(texts)) == 5, "other seeds, other texts"

    job = rig.send(rig.job("tell me", seed=seed, **fields))
    rig.await_text(job)
    worker.child().kill()
    item = rig.await_final(job)
    assert (item["status"], item["text"], item["attempt"]) == (wire.DONE, texts[seed], 2)

    job = rig.send(rig.job("tell me", seed=seed, **fields))
    rig.await_text(job)
    worker.stop(signal.SIGKILL)
    rig.start(WORKER_ENGINE="ctransformers", WORKER_MODEL_PATH=str(model), WORKER_THREADS="1")
    item = rig.await_final(job)
    assert (item["status"], item["text"], item["attempt"]) == (wire.DONE, texts[seed], 2)
