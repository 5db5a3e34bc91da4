"""One env on an embedded cloud, driven by real command processes through a fault-injecting proxy.

`Env` runs `aistratus` commands for one env through the same proxy, and checks what they left by listing the account
with plain boto3 calls (`tests/converge/account_listing.py`). The proxy (`aistratus.local.faults`) kills, throttles and
breaks; this adds whom it kills and what is expected afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from aistratus.local import process
from aistratus.local.faults import Death, Fault, FaultyFront, Lost, Reset, Slow, Throttle

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "converge"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from account_listing import Account, Shape, missing_ids, of_env, shape
from all_on import ALL_ON_VARIABLES
from warm_command import Ended, WarmCommand

KILLED = -9

NO_WORKER = {
    "AISTRATUS_MODEL__URL": "https://127.0.0.1:9/nothing.gguf",
    "AISTRATUS_MODEL__SHA256": "0" * 64,
}
"""A model that the node can't fetch: it stays busy asking, and no worker takes the processor from what is measured."""


class Unexpected(Exception):
    """A command ended otherwise than it must, or left something else than it must."""


@contextmanager
def embedded_cloud(*, strict: bool = False) -> Iterator[str]:
    """The endpoint of an embedded cloud of its own."""
    with tempfile.TemporaryDirectory(prefix="cloud-") as folder:
        try:
            yield process.ensure(state_dir=Path(folder), strict=strict).endpoint
        finally:
            process.stop(Path(folder))


class Env:
    """One env; a context manager that keeps a front open.

    `home` is the folder for the operator's keys; `variables` are its commands', which say its settings.
    """

    def __init__(self, name: str, *, endpoint: str, warm: WarmCommand, home: Path, **variables: str) -> None:
        self.name = name
        self.account = Account(endpoint)
        self.front = FaultyFront(endpoint)
        self.warm = warm
        self._home = home
        self._variables = variables

    def __enter__(self) -> Env:
        self.front.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.front.__exit__(None, None, None)

    def run(
        self,
        *arguments: str,
        faults: Sequence[Fault] = (),
        warm: WarmCommand | None = None,
        started: Callable[[int], None] = lambda pid: None,
    ) -> Ended:
        """Runs `aistratus --env <name> --yes <arguments>`.

        Args:
            faults: what the front does meanwhile; the numbers of `only` count from this command's first call.
            warm: another warmed-up command line, for another state of the code.
            started: told the process's id before the command does anything.
        """
        self.front.faults = ()
        victim: list[int] = []
        begun = self.front.requests
        self.front.faults = [_from(fault, begun, victim) for fault in faults]

        def born(pid: int) -> None:
            victim.append(pid)
            started(pid)

        try:
            return (warm or self.warm).run(
                ["--env", self.name, "--yes", *arguments], environment=self._environment(), started=born
            )
        finally:
            self.front.faults = ()

    def must(self, *arguments: str, faults: Sequence[Fault] = (), warm: WarmCommand | None = None) -> str:
        """The same for a command that has to end well; gives what it printed.

        Raises:
            Unexpected: it didn't.
        """
        ended = self.run(*arguments, faults=faults, warm=warm)
        if ended.status != 0:
            raise Unexpected(f"`aistratus {' '.join(arguments)}` ended with {ended.status}:\n{ended.output.strip()}")
        return ended.output

    def calls(self, *arguments: str, warm: WarmCommand | None = None) -> int:
        """How many requests this command makes."""
        begun = self.front.requests
        self.must(*arguments, warm=warm)
        return self.front.requests - begun

    def shape(self) -> Shape:
        """What the env looks like.

        Raises:
            Unexpected: the ledger names something that isn't there.
        """
        things = self.account.of_env(self.name)
        if wrong := missing_ids(things, self.name):
            raise Unexpected(f"the ledger is wrong: {', '.join(wrong)}")
        return shape(things, self.name)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
        return {
            **kept,
            "HOME": str(self._home),
            "AWS_ENDPOINT_URL": self.front.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **NO_WORKER,
            **self._variables,
        }


def _from(fault: Fault, begun: int, victim: list[int]) -> Fault:
    """The same fault, with its number counted from `begun` and its victim known."""
    fault = replace(fault, only=fault.only + begun) if fault.only else fault
    return replace(fault, victim=lambda: victim[0]) if isinstance(fault, Death) else fault


__all__ = [
    "ALL_ON_VARIABLES",
    "KILLED",
    "Account",
    "Death",
    "Ended",
    "Env",
    "Fault",
    "Lost",
    "Reset",
    "Shape",
    "Slow",
    "Throttle",
    "Unexpected",
    "WarmCommand",
    "embedded_cloud",
    "of_env",
]
