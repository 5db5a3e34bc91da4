"""Jobs for a worker that is killed again and again, and what must be true of them in the end.

The worker runs as systemd runs it: whoever ends is started again. Its cloud is the embedded one, which keeps the order
of a FIFO queue on redelivery as SQS does. The engine is the echo of the prompt, so that the right reply is known.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from aistratus import wire

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from worker_rig import Rig, Worker, await_value

ECHO = {"WORKER_ENGINE": "echo", "WORKER_ECHO_DELAY_MS": "4", "WORKER_POLL_SECONDS": "1"}
MOMENT_S = 0.6
"""A reply of the slowed echo takes about this long, so a kill falls into it, on its edges, or between two."""
SPARED = 0.4
SETTLED_S = 240.0
"""Cap for all jobs together; a message whose holder left no note stays hidden for its visibility timeout of 20 s."""


@dataclass
class Keeper:
    """Keeps one worker running, as systemd does; counts the starts."""

    rig: Rig
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self.worker: Worker = self.rig.start(**self.settings)
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stopping.wait(0.05):
            if self.worker.process.poll() is not None:
                self.worker = self.rig.start(**self.settings)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.worker.stop()


def target(worker: Worker) -> str | None:
    """Tells the worker's latest receive from all others; `None` if there is none, or it isn't its message's first."""
    received = [event for event in worker.events if event["event"] == "job_received"]
    return f"{worker.process.pid} {len(received)}" if received and received[-1]["receives"] == 1 else None


def strike(worker: Worker, victim: str, mark: str) -> bool:
    """Kills, unless the worker has received something else since; it is held meanwhile, so that it can't just now.

    Raises:
        NoSuchProcess, IndexError: there is nobody to kill any more.
    """
    process = psutil.Process(worker.process.pid)
    process.suspend()
    try:
        if target(worker) != mark:
            return False
        (process if victim == "worker" else process.children()[0]).kill()
        return True
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


@dataclass
class Killer:
    """Kills the worker or its model process at random moments, but only on a message's first receive.

    So no job loses its last attempt, and each one must be answered in the end.
    """

    rig: Rig
    keeper: Keeper
    chance: random.Random
    most: int
    kills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)
        self._thread.start()

    def _kill(self) -> None:
        """Each time after the worker has received something new: somewhere in or after the work on it."""
        struck = ""
        while not self._stopping.wait(0.02) and self.kills.total() < self.most:
            worker = self.keeper.worker
            mark = target(worker)
            if mark is None or mark == struck:
                continue
            struck = mark
            if self.chance.random() < SPARED or self._stopping.wait(self.chance.uniform(0.0, MOMENT_S)):
                continue
            victim = "worker" if self.chance.random() < 0.5 else "model process"
            with suppress(psutil.NoSuchProcess, IndexError):
                self.kills[victim] += strike(worker, victim, mark)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


@dataclass
class Witness:
    """Reads all items again and again: one that has ended must never change."""

    rig: Rig
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)

    def look(self) -> int:
        """How many jobs have ended."""
        for page in self.rig.dynamodb.get_paginator("scan").paginate(TableName=self.rig.table, ConsistentRead=True):
            for item in map(wire.unpack, page["Items"]):
                if not item["pk"].startswith("job#"):
                    continue
                before = self.ended.get(item["pk"])
                if before is not None and before != item:
                    self.changed.append(f"{before} became {item}")
                if item["status"] in wire.FINAL:
                    self.ended[item["pk"]] = item
        return len(self.ended)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a siege."""

    jobs: int
    done: int
    failed: int
    dead_letters: int
    second_attempts: int
    wrong: list[str]
    order: list[str]
    changed: list[str]
    answered_twice: list[str]
    kills: dict[str, int]

    @property
    def kept(self) -> bool:
        """Each job was answered rightly, once and in its order. None may have failed: last attempts were spared."""
        unwanted = (self.failed, self.dead_letters, self.wrong, self.order, self.changed, self.answered_twice)
        return self.done == self.jobs and not any(unwanted)


def besiege(rig: Rig, *, jobs: int, conversations: int, kills: int, seed: int, within_s: float = SETTLED_S) -> Outcome:
    """Sends jobs, kills while they are worked on, and waits until all have ended and the queue is empty."""
    chance = random.Random(seed)
    names = [uuid.UUID(int=chance.getrandbits(128)).hex for _ in range(conversations)]
    sent: dict[str, list[wire.Job]] = {name: [] for name in names}
    keeper = Keeper(rig, ECHO)
    witness = Witness(rig)
    for number in range(jobs):
        name = chance.choice(names) if number >= conversations else names[number]
        prompt = f"job {number} of {name} " + "x" * chance.randrange(60)
        sent[name].append(rig.send(rig.job(prompt, conversation=name, max_tokens=1024)))
    killer = Killer(rig, keeper, chance, kills)
    try:
        await_value(lambda: witness.look() >= jobs, f"all {jobs} jobs end, {rig.folder}", within_s)
    finally:
        killer.stop()
    await_value(lambda: rig.counts() == (0, 0), "the queue is empty", SETTLED_S)
    witness.look()
    keeper.stop()
    return _outcome(rig, sent, witness, killer)


def _outcome(rig: Rig, sent: dict[str, list[wire.Job]], witness: Witness, killer: Killer) -> Outcome:
    all_jobs = [job for conversation in sent.values() for job in conversation]
    items = {job.job_id: witness.ended[job.pk] for job in all_jobs}
    finished = Counter(
        event["job"] for worker in rig.workers for event in worker.events if event["event"] == "job_done"
    )
    return Outcome(
        jobs=len(all_jobs),
        done=sum(item["status"] == wire.DONE for item in items.values()),
        failed=sum(item["status"] == wire.FAILED and bool(item["error"]) for item in items.values()),
        dead_letters=sum(rig.counts(rig.dead_url)),
        second_attempts=sum(item["attempt"] > 1 for item in items.values()),
        wrong=[job.job_id for job in all_jobs if items[job.job_id]["status"] == wire.DONE
               and items[job.job_id]["text"] != job.prompt],
        order=[f"{before.job_id} before {after.job_id}" for conversation in sent.values()
               for before, after in itertools.pairwise(conversation)
               if items[after.job_id].get("started_ms", 0) < items[before.job_id]["ended_ms"]],
        changed=witness.changed,
        answered_twice=[job for job, count in finished.items() if count > 1],
        kills=dict(killer.kills),
    )  # fmt: skip


def dead_bodies(rig: Rig) -> list[str]:
    """The bodies of the messages in the dead-letter queue, which stay there."""
    answer = rig.sqs.receive_message(QueueUrl=rig.dead_url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return [message["Body"] for message in answer.get("Messages", [])]


def send_body(rig: Rig, body: str, group: str) -> None:
    rig.sqs.send_message(
        QueueUrl=rig.queue_url, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=uuid.uuid4().hex
    )


def poisons(job: wire.Job) -> dict[str, Callable[[], str]]:
    """Messages that no router of this version writes, about a job that somebody waits for."""
    good = json.loads(job.to_message())

    def changed(**fields: Any) -> str:
        return json.dumps({**good, **fields})

    return {
        "another schema": lambda: changed(schema=2),
        "an unknown field": lambda: changed(novelty=True),
        "a field missing": lambda: json.dumps({name: value for name, value in good.items() if name != "seed"}),
        "a number for a prompt": lambda: changed(prompt=5),
        "a text for a time": lambda: changed(submitted_ms="yesterday"),
        "a text for a seed": lambda: changed(seed="x"),
        "a turn without content": lambda: changed(history=[{"role": "user"}]),
        "a list for a limit": lambda: changed(max_tokens=[1]),
        "null for a stop": lambda: changed(stop=[None]),
    }
