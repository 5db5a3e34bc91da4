"""The plain way of a job through the worker, with the demo model."""

from __future__ import annotations

import signal
import time

from worker_rig import Rig, await_value

from aistratus import wire


def test_a_reply_arrives_complete_with_usage_and_timings_and_its_message_is_deleted(rig: Rig) -> None:
    rig.start(WORKER_MODEL_NAME="aistratus-demo")
    job = rig.send(rig.job())
    item = rig.await_final(job)
    assert item["status"] == wire.DONE, item
    assert "aistratus node stop" in item["text"]
    assert item["attempt"] == 1 and item["model"] == "aistratus-demo"
    assert item["usage"]["prompt_tokens"] > 5 and item["usage"]["completion_tokens"] > 5
    timings = item["timings"]
    assert 0 <= timings["queued_ms"] <= timings["first_token_ms"] <= timings["total_ms"]
    assert timings["tokens_per_second"] > 0
    assert abs(item["expires_at"] - time.time() - wire.JOB_KEPT_S) < 60
    rig.await_empty()
    assert rig.counts(rig.dead_url) == (0, 0)


def test_the_heartbeat_tells_of_a_ready_worker_and_is_gone_when_it_stops(rig: Rig) -> None:
    worker = rig.start()
    beat = await_value(
        lambda: (item := rig.item(wire.HEARTBEAT_PK)) and item["state"] == "ready" and item, "a ready heartbeat"
    )
    assert isinstance(beat, dict)
    assert beat["instance_id"] == "i-0123456789abcdef0" and beat["model"] == "demo"
    assert beat["tokens_per_second"] > 0 and abs(beat["at_ms"] / 1000 - time.time()) < 60
    assert worker.stop() == 0
    assert rig.item(wire.HEARTBEAT_PK) is None


def test_a_conversation_is_answered_in_its_order(rig: Rig) -> None:
    jobs = [rig.job(f"word {number}", conversation="one") for number in range(8)]
    for job in jobs:
        rig.send(job)
    rig.start(WORKER_ENGINE="echo")
    items = [rig.await_final(job) for job in jobs]
    assert [item["text"] for item in items] == [job.prompt for job in jobs]
    started = [item["started_ms"] for item in items]
    assert started == sorted(started)


def test_a_job_that_has_ended_is_never_run_again(rig: Rig) -> None:
    worker = rig.start()
    for status in sorted(wire.FINAL):
        job = rig.send(rig.job(), status=status, text="as it was", attempt=1)
        worker.await_event("job_not_run", job=job.job_id)
        rig.await_empty()
        item = rig.item(job.pk)
        assert item and (item["status"], item["text"], item["attempt"]) == (status, "as it was", 1)


def test_messages_of_jobs_that_are_gone_or_expired_are_deleted(rig: Rig) -> None:
    worker = rig.start()
    gone = rig.job()
    rig.send_message(gone)
    expired = rig.send(rig.job(), expires_at=int(time.time()) - 1)
    for job in (gone, expired):
        worker.await_event("job_not_run", job=job.job_id)
    rig.await_empty()
    assert rig.item(gone.pk) is None
    item = rig.item(expired.pk)
    assert item and item["status"] == wire.QUEUED


def test_a_job_cancelled_in_the_queue_is_not_run(rig: Rig) -> None:
    job = rig.send(rig.job(), cancel=True)
    rig.start()
    item = rig.await_final(job)
    assert (item["status"], item["attempt"], item["text"]) == (wire.CANCELLED, 0, "")
    rig.await_empty()


def test_a_running_job_that_is_cancelled_keeps_its_text_and_frees_the_model(rig: Rig) -> None:
    rig.start(WORKER_ENGINE="echo", WORKER_ECHO_DELAY_MS="20")
    job = rig.send(rig.job("a long story " * 400, max_tokens=1024 * 8))
    rig.await_text(job)
    rig.cancel(job)
    item = rig.await_final(job)
    assert item["status"] == wire.CANCELLED
    assert item["text"] and job.prompt.startswith(item["text"]) and item["text"] != job.prompt
    other = rig.send(rig.job("next"))
    assert rig.await_final(other)["text"] == "next"
    rig.await_empty()


def test_sigterm_gives_the_message_back_at_once_and_marks_nothing_failed(rig: Rig) -> None:
    worker = rig.start(WORKER_ENGINE="echo", WORKER_ECHO_DELAY_MS="20")
    job = rig.send(rig.job("a long story " * 20, max_tokens=1024))
    rig.await_text(job)
    assert worker.stop(signal.SIGTERM) == 0
    assert rig.counts() == (1, 0)
    assert rig.item(wire.HEARTBEAT_PK) is None
    item = rig.item(job.pk)
    assert item and item["status"] == wire.RUNNING and "error" not in item
    rig.start(WORKER_ENGINE="echo")
    item = rig.await_final(job)
    assert (item["status"], item["attempt"], item["text"]) == (wire.DONE, 2, job.prompt)


def test_sigterm_during_a_long_poll_ends_the_worker(rig: Rig) -> None:
    worker = rig.start(WORKER_ENGINE="echo", WORKER_POLL_SECONDS="20")
    worker.await_event("model_loaded")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 15, "it waited for the poll, which lasts 20 s"


def test_poison_goes_to_the_dead_letter_queue_and_the_next_conversation_is_served(rig: Rig) -> None:
    worker = rig.start(WORKER_ENGINE="echo")
    rig.sqs.send_message(
        QueueUrl=rig.queue_url, MessageBody="{not json", MessageGroupId="poison", MessageDeduplicationId="poison"
    )
    worker.await_event("poison_message", receives=wire.MAX_ATTEMPTS)
    job = rig.send(rig.job("still here"))
    assert rig.await_final(job)["text"] == "still here"
    await_value(lambda: sum(rig.counts(rig.dead_url)) == 1, "the poison is in the dead-letter queue")
    assert worker.process.poll() is None


def test_a_job_found_in_the_dead_letter_queue_is_marked_failed_and_its_message_stays(rig: Rig) -> None:
    job = rig.job()
    rig.put_item(job, status=wire.RUNNING, attempt=3, text="half a rep")
    ended = rig.job()
    rig.put_item(ended, status=wire.DONE, attempt=3, text="whole")
    for lost in (job, ended):
        rig.sqs.send_message(
            QueueUrl=rig.dead_url,
            MessageBody=lost.to_message(),
            MessageGroupId=wire.message_group(lost.owner, lost.conversation),
            MessageDeduplicationId=lost.job_id,
        )
    rig.start(WORKER_ENGINE="echo")
    item = rig.await_final(job)
    assert item["status"] == wire.FAILED and item["text"] == "half a rep" and "3 attempts" in item["error"]
    await_value(lambda: rig.counts(rig.dead_url) == (2, 0), "both messages can be received again")
    item = rig.item(ended.pk)
    assert item and item["status"] == wire.DONE


def test_the_log_holds_no_prompt_no_reply_and_no_receipt(rig: Rig) -> None:
    worker = rig.start(WORKER_ENGINE="echo")
    job = rig.send(rig.job("xyzzy plugh"))
    rig.await_final(job)
    rig.await_empty()
    bad = '{"schema":1,"prompt":"xyzzy"}'
    rig.sqs.send_message(QueueUrl=rig.queue_url, MessageBody=bad, MessageGroupId="p", MessageDeduplicationId="p")
    worker.await_event("poison_message", receives=wire.MAX_ATTEMPTS)
    worker.stop()
    text = worker.log_file.read_text()
    assert job.job_id in text
    assert "xyzzy" not in text and "eceipt" not in text
