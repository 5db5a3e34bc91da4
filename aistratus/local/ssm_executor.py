"""Run Command: runs the script of `ssm send-command` on the local node, as a process of its own.

`AWS-RunShellScript` is the only supported document. Its lines become a script that runs in the node's root folder with
the node's environment, through `leash.py`; it is ended by its time-out or when cancelled, and the command's invocation
reports its output and exit code. Limits are Run Command's own:
https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command-troubleshooting.html.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from aistratus.local import leash
from aistratus.local.node import Node
from aistratus.local.nodes import Nodes

log = logging.getLogger(__name__)

DOCUMENT: Final = "AWS-RunShellScript"
PLUGIN: Final = "aws:runShellScript"
STDOUT_BYTES: Final = 24_000
STDERR_BYTES: Final = 8_000
CUT_OFF: Final = b"--output truncated--"
KEPT_CHARS: Final = 8_000_000
"""More than any script of ours writes."""
EXECUTION_TIMEOUT_S: Final = 3_600
"""The document's default for `executionTimeout`."""
KEPT_COMMANDS: Final = 1_000
GRACE_S: Final = "1"
"""What a cancelled script gets between SIGTERM and SIGKILL."""

PENDING: Final = "Pending"
IN_PROGRESS: Final = "InProgress"
SUCCESS: Final = "Success"
FAILED: Final = "Failed"
TIMED_OUT: Final = "TimedOut"
CANCELLED: Final = "Cancelled"
ENDED: Final = frozenset({SUCCESS, FAILED, TIMED_OUT, CANCELLED})

_DETAILS: Final = {IN_PROGRESS: "In Progress", TIMED_OUT: "Execution Timed Out"}


@dataclass
class Invocation:
    """One command on one instance. Times are seconds since the epoch."""

    instance_id: str
    status: str = PENDING
    response_code: int = -1
    stdout: str = ""
    stderr: str = ""
    stdout_url: str = ""
    stderr_url: str = ""
    started: float = 0.0
    ended: float = 0.0
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def details(self) -> str:
        return _DETAILS.get(self.status, self.status)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One `SendCommand`."""

    command_id: str
    region: str
    document: str
    comment: str
    parameters: dict[str, list[str]]
    requested: float
    timeout_s: int
    bucket: str | None
    prefix: str
    invocations: dict[str, Invocation]

    @property
    def status(self) -> str:
        """The command's status is the worst of its invocations', or that it isn't over."""
        states = {one.status for one in self.invocations.values()}
        if not states <= ENDED:
            return PENDING if states == {PENDING} else IN_PROGRESS
        return next((state for state in (FAILED, TIMED_OUT, CANCELLED) if state in states), SUCCESS)


class Executor:
    """Runs commands on nodes; one thread for each invocation."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._commands: dict[str, Command] = {}
        self._lock = threading.Lock()

    def send(
        self,
        *,
        region: str,
        instance_ids: list[str],
        comment: str,
        parameters: dict[str, list[str]],
        timeout_s: int,
        bucket: str | None = None,
        prefix: str = "",
    ) -> Command:
        """Begins to run `parameters["commands"]` on each instance; all must be running.

        Args:
            bucket, prefix: where the agent leaves the whole output, as the instance's role lets it.
        """
        command = Command(
            command_id=str(uuid.uuid4()),
            region=region,
            document=DOCUMENT,
            comment=comment,
            parameters=parameters,
            requested=time.time(),
            timeout_s=timeout_s,
            bucket=bucket,
            prefix=prefix,
            invocations={identifier: Invocation(identifier) for identifier in instance_ids},
        )
        with self._lock:
            self._commands[command.command_id] = command
            while len(self._commands) > KEPT_COMMANDS:
                del self._commands[next(iter(self._commands))]
        for invocation in command.invocations.values():
            threading.Thread(target=self._run, args=(command, invocation), daemon=True).start()
        return command

    def find(self, command_id: str) -> Command | None:
        with self._lock:
            return self._commands.get(command_id)

    def all(self, region: str) -> list[Command]:
        """Newest first."""
        with self._lock:
            return [one for one in reversed(self._commands.values()) if one.region == region]

    @staticmethod
    def cancel(command: Command, instance_id: str) -> None:
        """Ends what still runs; an invocation that has ended stays as it is."""
        invocation = command.invocations.get(instance_id)
        if invocation is not None and invocation.status not in ENDED:
            invocation.status = CANCELLED
            invocation.cancel.set()

    def _run(self, command: Command, invocation: Invocation) -> None:
        node = self._nodes.running(invocation.instance_id)
        invocation.started = time.time()
        if node is None:
            invocation.stderr, invocation.status = "the instance isn't running", FAILED
        elif not invocation.cancel.is_set():
            invocation.status = IN_PROGRESS
            self._execute(command, invocation, node)
        invocation.ended = time.time()

    def _execute(self, command: Command, invocation: Invocation, node: Node) -> None:
        script = node.home / "commands" / f"{command.command_id}.sh"
        script.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        script.write_text("\n".join(command.parameters.get("commands", [])) + "\n")
        script.chmod(0o700)
        try:
            self._watch(command, invocation, node, script)
        except OSError as error:
            invocation.stderr, invocation.status = f"the script couldn't be started: {error}", FAILED
        finally:
            script.unlink(missing_ok=True)

    def _watch(self, command: Command, invocation: Invocation, node: Node, script: Path) -> None:
        folder = (command.parameters.get("workingDirectory") or [""])[0]
        limit = float((command.parameters.get("executionTimeout") or [str(EXECUTION_TIMEOUT_S)])[0])
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, GRACE_S, *_interpreter(script), str(script)],
            cwd=folder if folder else node.root,
            env=node.command_environment(),
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        threading.Thread(target=_end_when_set, args=(process, invocation.cancel), daemon=True).start()
        # `communicate` would close stdin at once, and with it the leash; the two pipes are read by hand.
        parts = _Output(process)
        try:
            code = process.wait(limit)
            status = SUCCESS if code == 0 else FAILED
        except subprocess.TimeoutExpired:
            process.terminate()
            code, status = process.wait(), TIMED_OUT
        invocation.cancel.set()
        out, err = parts.collect()
        invocation.stdout, invocation.stderr = _cut(out, STDOUT_BYTES), _cut(err, STDERR_BYTES)
        invocation.stdout_url = _keep(command, node, "stdout", out)
        invocation.stderr_url = _keep(command, node, "stderr", err)
        if process.stdin is not None:
            process.stdin.close()
        invocation.response_code = code if status in (SUCCESS, FAILED) else -1
        cancelled = invocation.status == CANCELLED
        invocation.status = CANCELLED if cancelled else status


class _Output:
    """Reads a process's two pipes to their ends, each up to what a file of output may hold here."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._texts = {"stdout": "", "stderr": ""}
        self._threads = [
            threading.Thread(target=self._read, args=(name, getattr(process, name)), daemon=True)
            for name in self._texts
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, pipe: IO[str]) -> None:
        kept, length = [], 0
        for line in pipe:
            if length < KEPT_CHARS:
                kept.append(line)
                length += len(line)
        self._texts[name] = "".join(kept)

    def collect(self) -> tuple[str, str]:
        for thread in self._threads:
            thread.join(5.0)
        return self._texts["stdout"], self._texts["stderr"]


def _cut(text: str, most: int) -> str:
    """What an answer shows of it: so many bytes, the mark at their end among them, as the agent cuts."""
    data = text.encode()
    return text if len(data) < most else (data[: most - len(CUT_OFF)] + CUT_OFF).decode(errors="replace")


def _keep(command: Command, node: Node, stream: str, text: str) -> str:
    """Leaves a stream that isn't empty in the bucket; gives its address. Without permission there is none."""
    if command.bucket is None or not text:
        return ""
    from botocore.exceptions import BotoCoreError, ClientError

    parts = (
        command.prefix,
        command.command_id,
        node.facts.instance_id,
        "awsrunShellScript/0.awsrunShellScript",
        stream,
    )
    key = "/".join(part for part in parts if part)
    try:
        node.s3.put_object(Bucket=command.bucket, Key=key, Body=text.encode())
    except (ClientError, BotoCoreError) as error:
        log.warning("the output of %s can't be kept: %s", command.command_id, error)
    return f"https://s3.{command.region}.amazonaws.com/{command.bucket}/{key}"


def _end_when_set(process: subprocess.Popen[str], cancel: threading.Event) -> None:
    cancel.wait()
    if process.poll() is None:
        process.terminate()


def _interpreter(script: Path) -> list[str]:
    """A script that begins with `#!` names its interpreter itself; others are run by sh, as the agent does."""
    return [] if script.read_text(errors="replace").startswith("#!") else ["/bin/sh"]
