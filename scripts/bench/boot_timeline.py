"""Timelines with a source for each stage: from a prompt for a sleeping node to its first token, and of `down`.

    python scripts/bench/boot_timeline.py          both timelines, as tables
    python scripts/bench/boot_timeline.py --json   the same for programs

Nothing here was measured on AWS, which no test of this project can reach. AWS's stages are measurements that others
have published, our programs' stages are measured on the embedded cloud, and assumptions are marked as such. The clock
is simulated: a stage begins when the stages that it depends on have ended. `tests/unit/test_timelines.py` checks the
totals (a first token within 45 s, teardown without NAT within 20 s).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

FIRST_TOKEN_WITHIN_S: Final = 45.0
TEARDOWN_WITHIN_S: Final = 20.0


@dataclass(frozen=True)
class Stage:
    """Seconds that a stage takes once all stages in `after` have ended, and where that number comes from."""

    name: str
    seconds: float
    source: str
    after: tuple[str, ...] = ()


BOOT: Final = (
    Stage(
        "router: token, job, wake",
        1.5,
        "scripts/bench/router_cold_start.py: 0.1 s cold; and 1 s to import boto3 at the function's share of a "
        "processor (router/ec2.py reckons with twice that)",
    ),
    Stage(
        "EC2: stopped to running",
        17.0,
        "16–17 s from pending to running on any family, measured by depot.dev",
        ("router: token, job, wake",),
    ),
    Stage(
        "Linux: kernel to network-online",
        8.0,
        "warm boots of a stopped and changed instance take 5 s (depot.dev); 3 s more are assumed for cloud-init",
        ("EC2: stopped to running",),
    ),
    Stage(
        "worker: start to queue",
        2.0,
        "0.5 s on the embedded cloud until its first event; four times that is assumed on two burstable processors",
        ("Linux: kernel to network-online",),
    ),
    Stage(
        "worker: pre-flight of 638 MiB",
        6.3,
        "read at gp3's baseline of 125 MB/s (EBS user guide, 'General Purpose SSD volumes'), and 0.9 s for gguf's "
        "reader, measured on a file of 637 MB",
        ("worker: start to queue",),
    ),
    Stage(
        "worker: load 638 MiB",
        2.0,
        "from the page cache, where the pre-flight has left it; assumed at 300 MB/s",
        ("worker: pre-flight of 638 MiB",),
    ),
    Stage(
        "worker: self-test of 16 tokens",
        1.6,
        "11 tokens/s of TinyLlama's shape, measured on two shared processors",
        ("worker: load 638 MiB",),
    ),
    Stage(
        "job: received to first token",
        2.0,
        "31 prompt tokens/s, measured there too, and a prompt of 60 tokens",
        ("worker: self-test of 16 tokens",),
    ),
    Stage(
        "client: written and polled",
        0.7,
        "one write and one poll: 0.25 s and 0.05 s (client/api.py), and three round trips of 0.1 s",
        ("job: received to first token",),
    ),
)

TEARDOWN: Final = (
    Stage("survey and plan", 1.5, "one wave of reads: a handful of round trips of 0.1 s, and the command's own start"),
    Stage(
        "function, API, queue, table, bucket, roles",
        6.0,
        "assumed: up to five calls of 0.2–1 s each behind one another; the resources go side by side",
        ("survey and plan",),
    ),
    Stage(
        "instance: terminate",
        11.0,
        "SkyPilot's whole teardown of a node takes 13 s since nothing waits for its interface (pull request 6629); "
        "19 s were measured in another release, with which the sum would be 25 s",
        ("survey and plan",),
    ),
    Stage(
        "interface, security group, subnets, VPC",
        3.0,
        "assumed: five deletes of 0.3–0.6 s behind one another, as soon as the interface is gone with its instance",
        ("instance: terminate",),
    ),
    Stage(
        "proof: sweep by tag",
        1.5,
        "one wave of listings",
        ("interface, security group, subnets, VPC", "function, API, queue, table, bucket, roles"),
    ),
)


def timeline(stages: Iterable[Stage]) -> Mapping[str, tuple[float, float]]:
    """When each stage begins and ends, in seconds on the simulated clock."""
    known: dict[str, tuple[float, float]] = {}
    for stage in stages:
        begins = max((known[name][1] for name in stage.after), default=0.0)
        known[stage.name] = (begins, begins + stage.seconds)
    return known


def whole(stages: Iterable[Stage]) -> float:
    """Seconds until the last stage has ended."""
    return max(end for _, end in timeline(stages).values())


def main(arguments: list[str]) -> int:
    tables = {"cold boot to first token": BOOT, "teardown without NAT": TEARDOWN}
    if "--json" in arguments:
        told = {
            title: [
                {"stage": stage.name, "begins": begins, "ends": ends, "source": stage.source}
                for stage, (begins, ends) in zip(stages, timeline(stages).values(), strict=True)
            ]
            for title, stages in tables.items()
        }
        print(json.dumps({"schema": 1, **told}, indent=1))
        return 0
    for title, stages in tables.items():
        print(f"{title}: {whole(stages):.1f} s")
        for stage, (begins, ends) in zip(stages, timeline(stages).values(), strict=True):
            print(f"  {begins:5.1f} … {ends:5.1f} s  {stage.name}\n                   {stage.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
