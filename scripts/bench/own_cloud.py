"""An embedded cloud for one measurement, with a home of its own, so that the user's files aren't touched.

Commands run as users run them: as processes, with bytecode (which a build machine's environment may have switched off),
from a folder outside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

COMMAND_S = 600
"""The longest that one command may take."""

KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "eu-central-1"}

OURS = ("AWS_", "AISTRATUS_", "XDG_", "PYTHON")
"""Variables that would lead a command somewhere else."""


@dataclass(frozen=True)
class Done:
    """A command that has ended: its output as JSON where it was JSON, and its seconds from outside."""

    document: dict[str, Any]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class OwnCloud:
    """A running embedded cloud and the home in which it lives."""

    home: Path
    endpoint: str

    def run(self, *arguments: str, **variables: str) -> Done:
        """One `aistratus` command in this home.

        Raises:
            SystemExit: it failed.
        """
        return run(self.home, *arguments, **variables)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """What a command finds around it: this home, and nothing that leads elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, "HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "bytecode"), **variables}


def run(home: Path, *arguments: str, **variables: str) -> Done:
    """See `OwnCloud.run`."""
    command = [sys.executable, "-c", "from aistratus.cli.start import main; main()", *arguments]
    before, began = os.times(), perf_counter()
    done = subprocess.run(
        command, env=environment(home, **variables), cwd=home, capture_output=True, text=True, timeout=COMMAND_S
    )
    seconds, after = perf_counter() - began, os.times()
    if done.returncode != 0:
        raise SystemExit(f"aistratus {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    document = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return Done(document, seconds, cpu)


@contextmanager
def own_cloud() -> Iterator[OwnCloud]:
    """An embedded cloud that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="aistratus-bench-") as folder:
        home = Path(folder)
        try:
            started = run(home, "local", "start", "-o", "json")
            yield OwnCloud(home, started.document["endpoint"])
        finally:
            run(home, "local", "stop", "-o", "json")


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    return {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": sys.version.split()[0]}
