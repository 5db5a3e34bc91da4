"""The supervisor's handle on the model process: starts it, sends commands, receives events, explains how it ended.

The process gets no AWS credentials: it parses files and prompts with native code and needs none. Its standard error
goes into the log line by line, because native libraries report their failures there; the number of lines is capped, so
that a verbose library can't fill the disk.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from aistratus.worker.engine import ModelSpec
from aistratus.worker.log import Log

LOGGED_LINES: Final = 100
LOGGED_CHARS: Final = 300
LAST_WORDS_S: Final = 2.0
"""From the end of its pipe to the end of the process; a process that stays longer is killed."""

Event = dict[str, Any]


class ModelDied(RuntimeError):
    """The model process has ended; the message is one sentence that says how."""


class ModelProcess:
    """One started model process. Start it from a thread that lives as long as the supervisor.

    (Linux sends the parent-death signal when the *thread* ends that started the process.)
    """

    def __init__(self, spec: ModelSpec, log: Log) -> None:
        self._log = log
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aistratus.worker.model_process", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._commands: IO[bytes] = self._process.stdin
        self._sending = threading.Lock()
        _start("model-events", self._hear, self._process.stdout)
        _start("model-output", self._log_output, self._process.stderr)
        with suppress(ModelDied):  # raised again to whoever waits for its first event
            self.send({"do": "load", "spec": asdict(spec)})

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, command: Mapping[str, Any]) -> None:
        """Sends a command.

        Raises:
            ModelDied: the process has ended.
        """
        try:
            with self._sending:
                self._commands.write(json.dumps(command).encode() + b"\n")
                self._commands.flush()
        except (OSError, ValueError) as error:
            raise ModelDied(self.death()) from error

    def event(self, timeout: float) -> Event | None:
        """The next event, or None after `timeout` seconds.

        Raises:
            ModelDied: the process has ended and all its events were taken.
        """
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if event is None:
            self._events.put(None)  # so that every later call raises as well
            raise ModelDied(self.death())
        return event

    def wait(self) -> None:
        """Returns when the process has ended."""
        self._process.wait()

    def kill(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()

    def death(self) -> str:
        """How the process ended, as a sentence."""
        try:
            status = self._process.wait(timeout=LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status >= 0:
            return f"the model process ended with status {status}"
        name = signal.Signals(-status).name
        if name in ("SIGKILL", "SIGTERM"):
            return f"the model process was killed by {name}"
        return f"the model process crashed with {name}"

    def _hear(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                if line.endswith(b"\n"):  # a process that was killed may leave half an event
                    self._events.put(json.loads(line))
        self._events.put(None)

    def _log_output(self, stream: IO[bytes]) -> None:
        with stream:
            for count, line in enumerate(stream):
                text = line.decode(errors="replace").strip()[:LOGGED_CHARS]
                if text and count < LOGGED_LINES:
                    self._log.event("engine_output", text=text)


def _start(name: str, work: Any, stream: IO[bytes]) -> None:
    threading.Thread(target=work, args=(stream,), name=name, daemon=True).start()


def _environment() -> dict[str, str]:
    """Our environment without AWS's variables, and with this package's folder on the module path."""
    home = str(Path(__file__).resolve().parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    rest = kept.get("PYTHONPATH")
    return {**kept, "PYTHONPATH": home + (os.pathsep + rest if rest else "")}
