"""Fuzzes the API: ten thousand requests to a stack that `aistratus up` has built here, each answer checked.

Four campaigns: raw requests that no HTTP library would send, bodies and keys at `POST /infer`, events sent directly to
the function, and schemathesis' cases from the OpenAPI contract. An answer that isn't in the contract, any 5xx, an
injected header, or a prompt in a log ends the run with the smallest request that causes it. `tests/faults` has a
sample.

    python scripts/bench/api_fire.py [--requests 10000]

The result is one JSON object on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))

import fire_requests as fire
import httpx
from fire_stack import CANARY, up

SHARES = {"raw": 0.35, "bodies": 0.25, "events": 0.2, "contract": 0.2}
PEOPLE = 4
"""Each may ask a thousand times a minute; turns keep them below it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, up(Path(folder)) as stack:
        people = [stack.new_person(f"person-{number}") for number in range(PEOPLE)]
        judge = fire.Judge(httpx.get(f"{stack.api}/openapi.json").json())
        rounds = 0
        while judge.requests < arguments.requests:
            person = people[rounds % PEOPLE]
            count = min(2_000, arguments.requests)

            def rule(examples: int) -> fire.settings:
                return fire.campaign(max(1, examples), shrink=True, derandomize=False)

            fire.fire_raw(stack, judge, person, rule(int(count * SHARES["raw"])))
            fire.fire_bodies(stack, judge, person, rule(int(count * SHARES["bodies"])))
            fire.fire_invokes(stack, judge, person, rule(int(count * SHARES["events"])))
            fire.fire_contract(stack, judge, person, int(count * SHARES["contract"]), rule)
            rounds += 1
            print(f"{judge.requests} requests, {time.monotonic() - began:.0f} s", file=sys.stderr)
        lines = [line for group in stack.log_lines().values() for line in group]
        leaks = [line for line in lines if CANARY in line or "\x1b" in line or "\n" in line.rstrip("\n")]
    statuses: Counter[str] = Counter()
    for name, number in judge.counts.items():
        statuses[name.rpartition(" ")[2]] += number
    result = {
        "schema": 1,
        "requests": judge.requests,
        "statuses": dict(sorted(statuses.items())),
        "routes": dict(sorted(judge.counts.items())),
        "log_lines": len(lines),
        "leaks": len(leaks),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result))
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
