"""`aistratus up` against a public tool that does the same job the same way: Ansible's amazon.aws collection.

Both talk to one moto server of this run, in turn: the first run of each builds, the second has nothing to do, as many
seconds of which are measured as `--idle-runs` says. Ours makes the stack of the env `local`, with whatever `--setting`
switches on besides (how many resources that is stands in the result); what the peer's playbook makes is its own affair
(about fifteen were made when the targets were set), so the ratios are of whole runs and flatter the peer. moto alone
lacks a few operations of ours, so the embedded cloud's process, which is moto behind a thin shim, serves both sides.

    python scripts/bench/peer.py PLAYBOOK.yml [--ansible VENV/bin/ansible-playbook] [--setting NAME=VALUE]

The playbook and Ansible are not part of this project; where either is missing, the script says `skipped` and ends with
0. The playbook runs in a copy of its folder, in which a minimal `handler.zip` is put. Prints one JSON line. Promised:
the first run at least 4 times as fast, the second at least 10 times.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Final

from own_cloud import COMMAND_S, KEYS, Done, OwnCloud, machine, own_cloud

FIRST_LIMIT: Final = 4.0
SECOND_LIMIT: Final = 10.0

QUIET: Final = {"ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("playbook", type=Path, help="the peer's playbook")
    parser.add_argument("--ansible", default="ansible-playbook", help="the program [default: the one on the path]")
    parser.add_argument("--idle-runs", type=int, default=3, help="runs with nothing to do, each side [default: 3]")
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what ours builds besides, as in the variable AISTRATUS_NAME (repeatable)",
    )
    arguments = parser.parse_args()
    switched_on = {f"AISTRATUS_{name}": value for name, _, value in (one.partition("=") for one in arguments.setting)}
    program = shutil.which(arguments.ansible)
    if program is None or not arguments.playbook.is_file():
        missing = "Ansible isn't installed" if program is None else f"there is no {arguments.playbook}"
        print(json.dumps({"schema": 1, "skipped": missing}))
        return 0
    with own_cloud() as cloud, tempfile.TemporaryDirectory() as folder:
        playbook = _copied(arguments.playbook, Path(folder))
        first = _ours(cloud, switched_on)
        ours, theirs = [first.seconds], [_theirs(cloud, Path(program), playbook)]
        for _ in range(arguments.idle_runs):
            ours.append(_ours(cloud, switched_on).seconds)
            theirs.append(_theirs(cloud, Path(program), playbook))
    idle = statistics.median(theirs[1:]) / statistics.median(ours[1:])
    result = {
        "schema": 1,
        "resources": len(first.document["resources"]),
        "first": {
            "ours_s": round(ours[0], 2),
            "peer_s": round(theirs[0], 2),
            "ratio": round(theirs[0] / ours[0], 2),
            "limit": FIRST_LIMIT,
        },
        "second": {
            "ours_s": round(statistics.median(ours[1:]), 2),
            "peer_s": round(statistics.median(theirs[1:]), 2),
            "ratio": round(idle, 2),
            "limit": SECOND_LIMIT,
        },
        "machine": machine(),
    }
    print(json.dumps(result))
    return 0 if theirs[0] / ours[0] >= FIRST_LIMIT and idle >= SECOND_LIMIT else 1


def _copied(playbook: Path, folder: Path) -> Path:
    """The playbook's folder, with the function's package that it needs."""
    copy = folder / "peer"
    shutil.copytree(playbook.parent, copy)
    with zipfile.ZipFile(copy / "handler.zip", "w") as package:
        package.writestr("h.py", "def handler(event, context): return {}\n")
    return copy / playbook.name


def _ours(cloud: OwnCloud, switched_on: dict[str, str]) -> Done:
    """One `up`."""
    return cloud.run("up", "--yes", "-o", "json", AWS_ENDPOINT_URL=cloud.endpoint, **KEYS, **switched_on)


def _theirs(cloud: OwnCloud, program: Path, playbook: Path) -> float:
    """Seconds of one run of the playbook.

    Raises:
        SystemExit: it failed.
    """
    environment = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(cloud.home),
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "ANSIBLE_PYTHON_INTERPRETER": str(program.parent / "python"),
        "LC_ALL": "C.UTF-8",
        **KEYS,
        **QUIET,
    }
    began = time.perf_counter()
    done = subprocess.run(
        [program, playbook.name],
        cwd=playbook.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    if done.returncode != 0:
        raise SystemExit(f"the playbook ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-500:]}")
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
