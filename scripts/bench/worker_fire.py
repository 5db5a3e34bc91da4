"""Stress tests of the worker, in full: random kills, outages of a minute, and memory over ten thousand jobs.

    python scripts/bench/worker_fire.py siege [--jobs 100] [--conversations 20] [--kills 25] [--seed N]
    python scripts/bench/worker_fire.py outage [--seconds 60]
    python scripts/bench/worker_fire.py memory [--jobs 10000]

The engine is the echo of the prompt, the cloud the embedded one. Each prints one JSON object and ends with 1 if what
it measures isn't as promised. `tests/faults/test_worker_fire.py` holds a sample.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))

from worker_siege import ECHO, Rig, await_value, besiege

from aistratus import wire
from aistratus.local import process
from aistratus.local.faults import FaultyFront, Reset, Throttle, Unavailable

FLAT = 1.05
"""Memory at the end over memory after the first tenth of the jobs; the first ones fill pools and caches."""
AHEAD = 200
"""Jobs in the queue at the same time."""


@contextmanager
def rigged() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        cloud = process.ensure(state_dir=Path(folder) / "cloud")
        rig = Rig(cloud.endpoint, Path(folder), dict(ECHO))
        try:
            yield rig
        finally:
            rig.close()
            process.stop(Path(folder) / "cloud")


def siege(jobs: int, conversations: int, kills: int, seed: int) -> tuple[bool, dict[str, Any]]:
    with rigged() as rig:
        began = time.monotonic()
        outcome = besiege(rig, jobs=jobs, conversations=conversations, kills=kills, seed=seed, within_s=3_600)
    seconds = round(time.monotonic() - began, 1)
    return outcome.kept and outcome.jobs == jobs, {**asdict(outcome), "seed": seed, "seconds": seconds}


def outage(seconds: float) -> tuple[bool, dict[str, Any]]:
    """A job is under way when everything fails; it must be answered once, and soon after."""
    found: dict[str, Any] = {}
    with rigged() as rig:
        for fault in (Throttle(every=1), Unavailable(every=1), Reset(every=1)):
            with FaultyFront(rig.endpoint) as front:
                worker = rig.start(AWS_ENDPOINT_URL=front.url, WORKER_STATE_DIR=str(rig.folder / type(fault).__name__))
                job = rig.send(rig.job("the quick brown fox jumps over the lazy dog " * 4, max_tokens=1024))
                rig.await_text(job)
                front.faults = [fault]
                front.wait(seconds)
                front.faults = []
                mended = time.monotonic()
                item = rig.await_final(job)
                rig.await_empty()
                found[type(fault).__name__] = {
                    "status": item["status"],
                    "right": item["text"] == job.prompt,
                    "attempts": item["attempt"],
                    "answered_s_after": round(time.monotonic() - mended, 1),
                    "alive": worker.process.poll() is None,
                }
                worker.stop()
        dead = sum(rig.counts(rig.dead_url))
    kept = all(entry["status"] == wire.DONE and entry["right"] and entry["alive"] for entry in found.values())
    return kept and dead == 0, {"outage_s": seconds, "faults": found, "dead_letters": dead}


def await_end(rig: Rig, job: wire.Job) -> None:
    """A long line of jobs is in front of it."""
    await_value(lambda: (rig.item(job.pk) or {}).get("status") in wire.FINAL, f"{job.job_id} ends", 900)


def memory(jobs: int) -> tuple[bool, dict[str, Any]]:
    """The supervisor's resident memory after each tenth of the jobs."""
    began = time.monotonic()
    with rigged() as rig:
        worker = rig.start(WORKER_ECHO_DELAY_MS="0")
        supervisor = psutil.Process(worker.process.pid)
        child = worker.child()
        sizes: list[float] = []
        children: list[float] = []
        waiting: list[wire.Job] = []
        for number in range(jobs):
            waiting.append(rig.send(rig.job(f"job {number}", max_tokens=64)))
            if len(waiting) >= AHEAD:
                await_end(rig, waiting.pop(0))
            if (number + 1) % max(1, jobs // 10) == 0:
                await_end(rig, waiting[-1])
                sizes.append(round(supervisor.memory_info().rss / 2**20, 2))
                children.append(round(child.memory_info().rss / 2**20, 2))
                print(f"{number + 1} jobs, {sizes[-1]} MiB", file=sys.stderr)
        await_value(lambda: rig.counts() == (0, 0), "the queue is empty", 600)
        done = sum(event["event"] == "job_done" for event in worker.events)
    result = {
        "jobs": jobs, "done": done, "supervisor_mib": sizes, "model_process_mib": children,
        "ratio": round(sizes[-1] / sizes[0], 3), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    return done == jobs and sizes[-1] <= FLAT * sizes[0], result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("siege")
    one.add_argument("--jobs", type=int, default=100)
    one.add_argument("--conversations", type=int, default=20)
    one.add_argument("--kills", type=int, default=25)
    one.add_argument("--seed", type=int, default=time.time_ns() % 2**31)
    kinds.add_parser("outage").add_argument("--seconds", type=float, default=60.0)
    kinds.add_parser("memory").add_argument("--jobs", type=int, default=10_000)
    arguments = vars(parser.parse_args())
    kind = arguments.pop("kind")
    kept, result = {"siege": siege, "outage": outage, "memory": memory}[kind](**arguments)
    print(json.dumps({"schema": 1, "kind": kind, "kept": kept, **result}))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
