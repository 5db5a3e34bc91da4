"""The worker under fire: killed at random, poisoned, cut off from AWS, without a disk.

`scripts/bench/worker_fire.py` does the same with more jobs and longer outages.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worker_siege import ECHO, Outcome, Rig, await_value, besiege, dead_bodies, poisons, send_body, strike, target

from aistratus import wire
from aistratus.local import process
from aistratus.local.faults import FaultyFront, Reset, Throttle, Unavailable

pytestmark = pytest.mark.xdist_group("worker-fire")  # one cloud for all of them


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("cloud")
    yield process.ensure(state_dir=state).endpoint
    process.stop(state)


@pytest.fixture
def rig(endpoint: str, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(endpoint, tmp_path, dict(ECHO))
    yield rig
    rig.close()


def test_under_random_kills_each_job_is_answered_once_and_in_its_order(rig: Rig) -> None:
    outcome = besiege(rig, jobs=20, conversations=5, kills=5, seed=11)
    assert outcome.kept and outcome.jobs == 20, outcome
    assert outcome.second_attempts and sum(outcome.kills.values()) == 5, "the fire has hit something"


def test_a_siege_in_which_jobs_fail_is_lost() -> None:
    good = Outcome(
        jobs=2, done=2, failed=0, dead_letters=0, second_attempts=1, wrong=[], order=[], changed=[], answered_twice=[],
        kills={},
    )  # fmt: skip
    assert good.kept
    for bad in ({"done": 0, "failed": 2, "dead_letters": 2}, {"done": 1}, {"dead_letters": 1}, {"order": ["a"]}):
        assert not replace(good, **bad).kept, bad


def test_the_killer_spares_what_was_received_since_it_aimed(rig: Rig) -> None:
    worker = rig.start(WORKER_ECHO_DELAY_MS="50")
    assert target(worker) is None
    first = rig.send(rig.job("first"))
    worker.await_event("job_received", job=first.job_id)
    aimed = target(worker)
    second = rig.send(rig.job("second " * 14))
    worker.await_event("job_received", job=second.job_id)
    child = worker.child()
    assert aimed is not None and not any(strike(worker, victim, aimed) for victim in ("worker", "model process"))
    assert worker.process.poll() is None and child.is_running()
    rig.await_text(second)
    latest = target(worker)
    assert latest is not None and strike(worker, "model process", latest)
    worker.await_event("job_received", job=second.job_id, receives=2)
    assert target(worker) is None, "a second receive is spared"
    assert [rig.await_final(job)["text"] for job in (first, second)] == [first.prompt, second.prompt]


def test_poison_ends_in_the_dead_letter_queue_with_the_reason_in_its_job(rig: Rig) -> None:
    worker = rig.start()
    jobs = {name: rig.job(f"for {name}") for name in poisons(rig.job())}
    bodies = {name: poisons(job)[name]() for name, job in jobs.items()}
    for name, job in jobs.items():
        rig.put_item(job)
        send_body(rig, bodies[name], name.replace(" ", "-"))
    for text in ("not JSON", "[]", "null", '"\\ud800"', "{}", "\u0085 strange"):
        send_body(rig, text, f"g{len(text)}{text[:1] if text[:1].isalnum() else ''}")
    good = rig.send(rig.job("and this one is answered"))
    assert rig.await_final(good)["text"] == "and this one is answered"
    for name, job in jobs.items():
        item = rig.await_final(job)
        assert (item["status"], bool(item["error"])) == (wire.FAILED, True), (name, item)
    await_value(lambda: sum(rig.counts(rig.dead_url)) == len(jobs) + 6, "all poison is a dead letter")
    assert rig.counts() == (0, 0)
    assert worker.process.poll() is None, "no poison ends the worker"
    assert set(dead_bodies(rig)) <= {*bodies.values(), "not JSON", "[]", "null", '"\\ud800"', "{}", "\u0085 strange"}
    log = worker.log_file.read_text()
    assert "yesterday" not in log and "strange" not in log and "for an unknown field" not in log


OUTAGES = (Throttle(every=1), Unavailable(every=1), Reset(every=1))


@pytest.mark.parametrize("fault", OUTAGES, ids=lambda fault: type(fault).__name__)
def test_an_outage_of_queue_and_table_costs_time_and_no_job(rig: Rig, fault: Throttle | Unavailable | Reset) -> None:
    prompt = "the quick brown fox jumps over the lazy dog " * 4
    with FaultyFront(rig.endpoint) as front:
        worker = rig.start(AWS_ENDPOINT_URL=front.url)
        job = rig.send(rig.job(prompt, max_tokens=1024))
        behind = rig.send(rig.job("next in its conversation", conversation=job.conversation))
        rig.await_text(job)
        front.faults = [fault]
        worker.await_event("aws_failed", call="finish")
        assert rig.item(job.pk)["status"] == wire.RUNNING
        front.faults = []
        done, following = rig.await_final(job), rig.await_final(behind)
        assert (done["status"], done["text"], done["attempt"]) == (wire.DONE, prompt, 1)
        assert (following["status"], following["started_ms"] >= done["ended_ms"]) == (wire.DONE, True)
        rig.await_empty()
        front.faults = [fault]
        worker.await_event("aws_failed", call="receive")
        front.faults = []
        assert rig.await_final(rig.send(rig.job("after it")))["text"] == "after it"
        rig.await_empty()
        assert worker.process.poll() is None and worker.stop() == 0
    assert rig.counts(rig.dead_url) == (0, 0)


CLOCK = """
import os, time
told, told_ns = time.time, time.time_ns
def ahead():
    with open(os.environ["CLOCK_AHEAD"]) as file:
        return float(file.read())
time.time = lambda: told() + ahead()
time.time_ns = lambda: told_ns() + int(ahead() * 1e9)
"""
"""Python runs this before the worker: a machine's clock that is wrong by as many seconds as a file says."""


def test_a_clock_that_is_wrong_and_jumps_costs_no_job_and_no_reply(rig: Rig) -> None:
    """By its own clock the first job would have expired before it came, and its reply before anybody read it."""
    ahead = rig.folder / "ahead"
    (rig.folder / "sitecustomize.py").write_text(CLOCK)
    ahead.write_text("172800")
    rig.start(PYTHONPATH=str(rig.folder), CLOCK_AHEAD=str(ahead))
    for seconds in (172_800, -7_200, 0):
        (rig.folder / "next").write_text(str(seconds))
        (rig.folder / "next").replace(ahead)  # at once: the worker reads the clock at any moment
        item = rig.await_final(rig.send(rig.job(f"{seconds} s off")))
        assert (item["status"], item["text"]) == (wire.DONE, f"{seconds} s off")
        assert abs(item["expires_at"] - wire.JOB_KEPT_S - time.time()) < 60
        # The very first beat may have been written before AWS had told the time.
        await_value(lambda: fresh(rig.item(wire.HEARTBEAT_PK)), "the heartbeat tells the right time")
    rig.await_empty()


def fresh(beat: dict[str, Any] | None) -> bool:
    """Is this a heartbeat of the last minute?"""
    return beat is not None and bool(abs(beat["at_ms"] / 1000 - time.time()) < 60)


def test_a_full_disk_costs_a_note_and_no_job(rig: Rig) -> None:
    state = rig.folder / "state"
    state.mkdir(mode=0o700)
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    (state / "held.json.new").symlink_to("/dev/full")  # every write there meets ENOSPC
    worker = rig.start()
    assert rig.await_final(rig.send(rig.job("no room for notes")))["status"] == wire.DONE
    assert worker.await_event("note_failed")["reason"] == os.strerror(28)
    assert worker.stop() == 0
    (rig.folder / "worker-1.log").symlink_to("/dev/full")  # and no room for the log either
    silent = rig.start()
    assert rig.await_final(rig.send(rig.job("nor for a log")))["text"] == "nor for a log"
    rig.await_empty()
    assert silent.process.poll() is None and silent.stop() == 0
    assert json.loads((rig.folder / "worker-0.log").read_text().splitlines()[0])["event"] == "started"
