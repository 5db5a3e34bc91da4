"""`aistratus node launch`: runs the bootstrap script over any transport, and reports its steps as they end.

It is the script of the node's user data, run as `launch`. It is idempotent: what is installed already is kept, and a
second run restarts nothing. It reports by lines of the form `step NAME kept|changed MILLISECONDS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aistratus.core.errors import Failure
from aistratus.node.bootstrap import user_data
from aistratus.node.transport import Transport, on_node

SCRIPT: Final = "/opt/aistratus/launch.sh"

WITHIN_S: Final = 1800.0
"""A GPU's driver takes some minutes to build, a model of 4 GB some to arrive; what takes longer hangs."""

STEP: Final = re.compile(r"step (\w+) (kept|changed) (\d+)")

READY: Final = "node ready"
"""The script's last word."""


@dataclass(frozen=True)
class Step:
    """One step of a launch: did it change anything, and how long did it take (seconds)?"""

    name: str
    changed: bool
    seconds: float


def bootstrap(transport: Transport, *, bucket: str, region: str, told: Callable[[Step | str], None]) -> list[Step]:
    """Runs the script on the node.

    Args:
        told: is told each step when it has ended, and every other line that the script says.

    Raises:
        Failure: it failed; its last words are in the sentence.
    """
    transport.put(user_data(bucket=bucket, region=region).encode(), SCRIPT, mode=0o755)
    report = _Report(told)
    done = transport.run(f"exec bash {on_node(SCRIPT)} launch", within=WITHIN_S, heard=report.hear)
    report.end()
    if done.code != 0:
        after = f" after the step {report.steps[-1].name!r}" if report.steps else ""
        raise Failure(
            f"the bootstrap script failed on the node with status {done.code}{after}: "
            f"{report.last or 'it said nothing'}",
            todo="run the command again: it goes on from there; `aistratus node logs --source bootstrap` has the rest",
        )
    return report.steps


class _Report:
    """Makes lines of pieces, and steps of lines."""

    def __init__(self, told: Callable[[Step | str], None]) -> None:
        self.steps: list[Step] = []
        self.last = ""
        self._told, self._begun = told, ""

    def hear(self, piece: str) -> None:
        *lines, self._begun = (self._begun + piece).split("\n")
        for line in filter(None, map(str.strip, lines)):
            self._take(line)

    def end(self) -> None:
        """What hasn't ended with a line's end is a line, too."""
        self.hear("\n")

    def _take(self, line: str) -> None:
        if match := STEP.fullmatch(line):
            step = Step(match[1], match[2] == "changed", int(match[3]) / 1000)
            self.steps.append(step)
            self._told(step)
        elif line != READY:
            self.last = line
            self._told(line)
