"""Runs commands quickly as real processes, each forked from one process that has imported everything.

Starting Python and importing the SDK takes longer than most commands work, and a run that kills a command at each of
its calls starts hundreds of them. So one process imports everything once and forks for each command; the SDK's service
models are parsed once, too. None of this is part of the product.

A forked command is a process like any other: it has its own pid, receives signals, and is reaped when it has ended.

    with WarmCommand() as warm:
        ended = warm.run(["up"], environment={"AWS_ENDPOINT_URL": …}, started=lambda pid: …)
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICES = (
    "sts", "ssm", "ec2", "iam", "s3", "sqs", "dynamodb", "lambda", "logs", "cognito-idp", "apigatewayv2", "sns",
    "budgets", "cloudwatch", "codebuild", "codeconnections", "ecr", "events", "scheduler", "secretsmanager", "ce",
    "pricing",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (negative: the signal that killed it) and all that it printed."""

    status: int
    output: str


class WarmCommand:
    """A context manager; runs one command at a time. `package` is the folder that holds `aistratus`, if not the own."""

    def __init__(self, package: Path | None = None) -> None:
        self._package = package

    def __enter__(self) -> WarmCommand:
        environment = dict(os.environ)
        if self._package is not None:
            environment["PYTHONPATH"] = str(self._package)
        self._log = tempfile.NamedTemporaryFile(prefix="command-", suffix=".log")
        self._parent = subprocess.Popen(
            [sys.executable, __file__, self._log.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._hear()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait()
        self._log.close()

    def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        started: Callable[[int], None] = lambda pid: None,
    ) -> Ended:
        """Runs `aistratus <arguments>` with this environment and waits for its end.

        Args:
            started: told the process's id before the command does anything.
        """
        Path(self._log.name).write_text("")
        self._say({"arguments": list(arguments), "environment": dict(environment)})
        started(self._hear()["pid"])
        self._say({"go": True})
        status = self._hear()["status"]
        return Ended(status, Path(self._log.name).read_text(errors="replace"))

    def _say(self, message: Mapping[str, Any]) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(message) + "\n")
        self._parent.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that commands are forked from has ended with {self._parent.wait()}")
        heard: dict[str, Any] = json.loads(line)
        return heard


# --- the process that commands are forked from ----------------------------------------------------------------------


def serve(log: str) -> None:
    """Forks a command for each line on stdin; tells its pid, waits for the word to let it go, tells how it ended."""
    _warm()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        held, let_go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(let_go)
            os.read(held, 1)
            _become(wanted["arguments"], wanted["environment"], log)
        os.close(held)
        print(json.dumps({"pid": child}), flush=True)
        sys.stdin.readline()
        os.write(let_go, b".")
        os.close(let_go)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


def _become(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """The forked process: runs the command as the entry point does, and ends."""
    from aistratus.cli.app import main

    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["aistratus", *arguments]
    code: Any = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _warm() -> None:
    import boto3
    import botocore.loaders

    loader = botocore.loaders.JSONFileLoader
    loader.load_file = functools.cache(loader.load_file)
    # `cache` goes by the loader too, and each session has one of its own: they are all alike.
    loader.__hash__ = lambda self: 0
    loader.__eq__ = lambda self, other: isinstance(other, loader)
    session = boto3.Session(aws_access_key_id="warm", aws_secret_access_key="warm", region_name="eu-central-1")
    for service in SERVICES:
        session.client(service)


if __name__ == "__main__":
    serve(sys.argv[1])
