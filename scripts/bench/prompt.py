"""The start-up time of `aistratus chat`: from the program's start to the first `>` on its terminal.

Alternating with it a baseline is started: Python with nothing but prompt_toolkit's own prompt, the least that such a
prompt can take. The machine's other load affects both. No env is up: the prompt appears before any network call.

    python scripts/bench/prompt.py [--rounds 20]

Prints one JSON line. Promised: at most 300 ms at the median, or where the machine is too busy to tell (the peer's own
median is above 200 ms), at most one and a half times the peer's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import pexpect
from own_cloud import machine

LIMIT_MS: Final = 300
RATIO_LIMIT: Final = 1.5
BUSY_MS: Final = 200
PEER: Final = "from prompt_toolkit import prompt; prompt('> ')"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="how often each is started [default: 20]")
    arguments = parser.parse_args()
    program = str(Path(sys.executable).with_name("aistratus"))
    ours, peers = [], []
    with tempfile.TemporaryDirectory() as home:
        for number in range(-2, arguments.rounds):  # the first two only warm the file cache
            pair = _started(home, sys.executable, ["-c", PEER]), _started(home, program, ["chat"])
            if number >= 0:
                peers.append(pair[0])
                ours.append(pair[1])
    prompt, peer = statistics.median(ours), statistics.median(peers)
    ratio = statistics.median(one / other for one, other in zip(ours, peers, strict=True))
    figures = {"p50": round(prompt), "p95": round(sorted(ours)[int(len(ours) * 0.95)]), "limit": LIMIT_MS}
    result = {"schema": 1, "rounds": len(ours), "prompt_ms": figures, "peer_ms": round(peer), "ratio": round(ratio, 2)}
    print(json.dumps({**result, "machine": machine()}))
    return 0 if prompt <= LIMIT_MS or (peer > BUSY_MS and ratio <= RATIO_LIMIT) else 1


def _started(home: str, program: str, arguments: list[str]) -> float:
    """Milliseconds until a program's prompt stands on its terminal."""
    environment = {"HOME": home, "PATH": os.environ["PATH"], "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    began = time.perf_counter()
    child = pexpect.spawn(program, arguments, env=environment, cwd=home, timeout=60)
    child.expect(rb"m>")  # after its colour
    took = (time.perf_counter() - began) * 1000
    child.close(force=True)
    return took


if __name__ == "__main__":
    sys.exit(main())
