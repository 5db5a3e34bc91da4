"""The cost of `aistratus up` with nothing to do: calls, and sequential round trips.

The stack of the env `local` is built once in an embedded cloud of its own. Then the command runs repeatedly through a
loopback proxy, alternately with and without 100 ms before each answer. The difference of such a pair, divided by
100 ms, is the number of round trips that the command waits for one after the other, however many calls it makes in
parallel. The proxy is used on both sides, so that its own cost cancels out.

    python scripts/bench/idle_up.py [--pairs 7]

Prints one JSON line. Promised: no writing call, at most 1.5 calls for each resource, at most 6 waves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Final

from own_cloud import KEYS, Done, OwnCloud, machine, own_cloud

from aistratus.local.faults import FaultyFront, Slow

DELAY_S: Final = 0.1
CALLS_LIMIT: Final = 1.5
WAVES_LIMIT: Final = 6.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7, help="how many pairs are measured [default: 7]")
    pairs = parser.parse_args().pairs
    with own_cloud() as cloud, FaultyFront(cloud.endpoint) as front:
        _up(cloud, cloud.endpoint)
        direct = [_up(cloud, cloud.endpoint) for _ in range(pairs)]
        _up(cloud, front.url)  # queue addresses hold the host that was asked, so the stack now belongs to the proxy
        measured = []
        for _ in range(pairs):
            quick = _up(cloud, front.url)
            front.faults = [Slow(every=1, seconds=DELAY_S)]
            late = _up(cloud, front.url)
            front.faults = []
            measured.append((quick, late))
    last = measured[-1][1].document
    resources, calls = len(last["resources"]), last["calls"]
    differences = [late.seconds - quick.seconds for quick, late in measured]
    waves = statistics.median(differences) / DELAY_S
    result = {
        "schema": 1,
        "resources": resources,
        "calls": calls,
        "calls_per_resource": {"ratio": round(calls["read"] / resources, 3), "limit": CALLS_LIMIT},
        "waves": {"median": round(waves, 2), "worst": round(max(differences) / DELAY_S, 2), "limit": WAVES_LIMIT},
        "seconds": {
            "direct": round(statistics.median(done.seconds for done in direct), 3),
            "direct_cpu": round(statistics.median(done.cpu_seconds for done in direct), 3),
            "through_proxy": round(statistics.median(quick.seconds for quick, _ in measured), 3),
            "with_100_ms_a_call": round(statistics.median(late.seconds for _, late in measured), 3),
        },
        "machine": machine(),
    }
    print(json.dumps(result))
    kept = calls["write"] == 0 and calls["read"] / resources <= CALLS_LIMIT and waves <= WAVES_LIMIT
    return 0 if kept else 1


def _up(cloud: OwnCloud, endpoint: str) -> Done:
    return cloud.run("up", "--yes", "-o", "json", AWS_ENDPOINT_URL=endpoint, **KEYS)


if __name__ == "__main__":
    sys.exit(main())
