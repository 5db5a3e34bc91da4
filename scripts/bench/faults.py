"""Throttling, broken connections and lost answers: `up` and `down` must end where they end without them.

Each fault has an env of its own on one embedded cloud in strict mode, and a proxy that injects it: every 4th call is
throttled (with the service's own error), every 5th connection is reset before the request was carried out, every 7th
answer is lost after it was, and finally all of them together; each with 100 ms more for every call. The user should
notice only the delay: both commands exit with 0, `up` leaves what an undisturbed one leaves, `down` leaves nothing, and
the API behaves the same.

    python scripts/bench/faults.py                  all faults, 100 ms
    python scripts/bench/faults.py --latency 0.02   less latency

The report is one JSON object on stdout; the exit status is 1 if anything ended otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from env_on_cloud import Env, Fault, Lost, Reset, Shape, Slow, Throttle, Unexpected, WarmCommand, embedded_cloud

TROUBLES: Mapping[str, tuple[Fault, ...]] = {
    "throttling": (Throttle(every=4),),
    "resets": (Reset(every=5),),
    "lost-answers": (Lost(every=7),),
    "all": (Throttle(every=4), Reset(every=5), Lost(every=7)),
}
"""What goes wrong, by name."""


@dataclass(frozen=True)
class Ending:
    """How one trouble ended. Seconds and requests of `up` and `down`; `failure` says what was not as it must be."""

    trouble: str
    seconds: Mapping[str, float]
    requests: Mapping[str, int]
    failure: str = ""


def undisturbed(endpoint: str, warm: WarmCommand, home: Path) -> tuple[Ending, Shape]:
    """`up` and `down` without trouble, and what `up` leaves."""
    seconds, requests = {}, {}
    with Env("calm", endpoint=endpoint, warm=warm, home=home) as env:
        for command in ("up", "down"):
            begun = time.monotonic()
            requests[command] = env.calls(command)
            seconds[command] = round(time.monotonic() - begun, 1)
            if command == "up":
                shape = env.shape()
    return Ending("none", seconds, requests), shape


def meet(name: str, faults: Sequence[Fault], latency: float, *, endpoint: str, home: Path, wanted: Shape) -> Ending:
    """`up` and `down` in trouble."""
    seconds, requests, failure = {}, {}, ""
    slow = Slow(every=1, seconds=latency)
    with WarmCommand() as warm, Env(name, endpoint=endpoint, warm=warm, home=home) as env:
        try:
            for command, left in (("up", wanted), ("down", Counter())):
                begun, before = time.monotonic(), env.front.requests
                env.must(command, faults=[slow, *faults])
                seconds[command] = round(time.monotonic() - begun, 1)
                requests[command] = env.front.requests - before
                if (found := env.shape()) != left:
                    raise Unexpected(f"after `{command}`: too much {found - left}, missing {left - found}")
        except Unexpected as unexpected:
            failure = str(unexpected)
    return Ending(name, seconds, requests, failure)


def meet_all(
    troubles: Mapping[str, Sequence[Fault]], latency: float, *, endpoint: str, home: Path, wanted: Shape
) -> list[Ending]:
    """All these troubles beside each other: they are mostly waiting."""
    with ThreadPoolExecutor(max_workers=len(troubles)) as pool:
        met = [
            pool.submit(meet, name, faults, latency, endpoint=endpoint, home=home, wanted=wanted)
            for name, faults in troubles.items()
        ]
        return [ending.result() for ending in met]


def main() -> int:
    parser = argparse.ArgumentParser(description="Throttling, resets, lost answers.")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds more for every call [default: 0.1]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="home-") as folder, embedded_cloud(strict=True) as endpoint:
        home = Path(folder)
        with WarmCommand() as warm:
            calm, wanted = undisturbed(endpoint, warm, home)
        endings = [calm, *meet_all(TROUBLES, options.latency, endpoint=endpoint, home=home, wanted=wanted)]
    print(
        json.dumps(
            {
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "latency_s": options.latency,
                "endings": [asdict(ending) for ending in endings],
            },
            indent=2,
        )
    )
    return 1 if any(ending.failure for ending in endings) else 0


if __name__ == "__main__":
    sys.exit(main())
