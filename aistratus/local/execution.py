"""One execution environment: a process that runs one version of a function, one invocation at a time.

The invoking thread watches everything at once: the runtime's reports, the process's output, its end, its memory and
its time limit. So an idle environment needs no thread here besides its connection's, and a function that writes much,
hangs, grows or dies is noticed by the caller that waits for it.

The process must end with the embedded cloud, however that ends: it holds the read end of a pipe (the lifeline) whose
write end only the cloud has.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import psutil

from aistratus.local.deployed_function import DeployedFunction
from aistratus.local.function_logs import LinesSoFar
from aistratus.local.runtime_api import (
    Answered,
    AnswerTooLarge,
    Failed,
    Happening,
    InitFailed,
    Mailbox,
    Ready,
    RuntimeApi,
    Work,
)

INIT_S: Final = 10.0
"""Lambda's limit of the init phase; after it, init is tried once more within the function's own timeout."""
LOOK_S: Final = 0.05
"""How often a running function's memory and life are looked at."""
LOG_EVERY_S: Final = 1.0
"""A long invocation's lines reach the log group at least this often."""
KILL_WITHIN_S: Final = 5.0
"""A killed process is gone at once unless the system itself is stuck."""
MIB: Final = 1024**2


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one invocation ended. `usable` tells whether the environment can take another one."""

    payload: bytes
    error: str | None
    usable: bool


class NeverStarted(Exception):
    """The environment died while idle, before it received the invocation: nothing of it has run."""


class InitTimeout(Exception):
    """The runtime didn't ask for work in time."""


class ExecutionEnvironment:
    """A started process. Use `initialise`, then `invoke` from one thread at a time, then `end`."""

    def __init__(
        self,
        function: DeployedFunction,
        *,
        api: RuntimeApi,
        process: subprocess.Popen[bytes],
        mailbox: Mailbox,
        lifeline: int,
        lines: LinesSoFar,
    ) -> None:
        self.function = function
        self.idle_since = time.monotonic()
        self.started_at = time.monotonic()
        self._api = api
        self._process = process
        self._mailbox = mailbox
        self._lifeline = lifeline
        self._lines = lines
        self._init_ms: float | None = None
        self._peak_bytes = 0
        self._psutil = psutil.Process(process.pid)
        assert process.stdout is not None
        self._output = process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._selector.register(mailbox.fileno(), selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    # --- init ---------------------------------------------------------------------------------------------

    def initialise(self, within: float) -> bytes | None:
        """Wait until the runtime asks for work; None, or the error object of an init that failed.

        Raises:
            InitTimeout: nothing of the kind within `within` seconds.
        """
        began = time.monotonic()
        happening = self._wait(began + within, request_id=None)
        self._init_ms = (time.monotonic() - began) * 1000
        if happening is None:
            self._lines.add(f"INIT_REPORT Init Duration: {self._init_ms:.2f} ms\tPhase: init\tStatus: timeout")
            raise InitTimeout
        if isinstance(happening, Ready):
            return None
        self._lines.add(
            f"INIT_REPORT Init Duration: {self._init_ms:.2f} ms\tPhase: init\tStatus: error\tError Type: "
            f"{_error_type(happening)}"
        )
        if isinstance(happening, InitFailed):
            return happening.payload
        return _error("Runtime.ExitError", f"Error: Runtime exited {self._exit_words()}")

    # --- invocations ----------------------------------------------------------------------------------------

    def invoke(self, work: Work, *, timeout: float) -> Outcome:
        """Run one invocation to its end, or to `timeout` seconds, and tell what came of it.

        Raises:
            NeverStarted: the process was dead already; the invocation may go to another environment.
        """
        self._lines.begin()
        began = time.monotonic()
        self._mailbox.offer(work)
        happening = self._wait(began + timeout, request_id=work.request_id)
        took_ms = (time.monotonic() - began) * 1000
        if isinstance(happening, Exited) and self._mailbox.taken != work.request_id:
            raise NeverStarted
        outcome, status = self._judge(happening, work.request_id, timeout)
        self._report(work.request_id, timeout * 1000 if happening is None else took_ms, status)
        self.idle_since = time.monotonic()
        return outcome

    @property
    def log_tail(self) -> str:
        """The last 4 KB of the latest invocation's log."""
        return self._lines.tail

    def _judge(
        self, happening: Happening | Exited | TooMuchMemory | None, request_id: str, timeout: float
    ) -> tuple[Outcome, str]:
        if isinstance(happening, Answered):
            return Outcome(payload=happening.payload, error=None, usable=True), ""
        if isinstance(happening, Failed):
            return Outcome(payload=happening.payload, error="Unhandled", usable=True), ""
        if isinstance(happening, AnswerTooLarge):
            payload = _error(
                "Function.ResponseSizeTooLarge",
                "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            )
            status = "Status: error\tError Type: Function.ResponseSizeTooLarge"
            return Outcome(payload=payload, error="Unhandled", usable=False), status
        if happening is None:
            words = f"Task timed out after {timeout:.2f} seconds"
            payload = json.dumps({"errorMessage": f"{_now()} {request_id} {words}"}).encode()
            self._lines.finish_line()
            self._lines.add(f"{_now()} {request_id} {words}")
            return Outcome(payload=payload, error="Unhandled", usable=False), "Status: timeout"
        words = "with error: signal: killed" if isinstance(happening, TooMuchMemory) else self._exit_words()
        payload = _error("Runtime.ExitError", f"RequestId: {request_id} Error: Runtime exited {words}")
        kind = "Runtime.OutOfMemory" if isinstance(happening, TooMuchMemory) else "Runtime.ExitError"
        self._lines.finish_line()
        self._lines.add(f"RequestId: {request_id} Error: Runtime exited {words}\r{kind}")
        return Outcome(payload=payload, error="Unhandled", usable=False), f"Status: error\tError Type: {kind}"

    def _report(self, request_id: str, took_ms: float, status: str) -> None:
        self._look_at_memory()
        self._lines.finish_line()
        self._lines.add(f"END RequestId: {request_id}")
        parts = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {took_ms:.2f} ms",
            f"Billed Duration: {int(-(-took_ms // 1))} ms",
            f"Memory Size: {self.function.memory} MB",
            f"Max Memory Used: {min(self._peak_bytes // MIB, self.function.memory)} MB",
        ]
        if self._init_ms is not None:
            parts.append(f"Init Duration: {self._init_ms:.2f} ms")
            self._init_ms = None
        self._lines.add("\t".join([*parts, *([status] if status else []), ""]))
        self._lines.write_out()

    # --- watching ---------------------------------------------------------------------------------------------

    def _wait(self, until: float, *, request_id: str | None) -> Happening | Exited | TooMuchMemory | None:
        """What ends this phase first; None when `until` (monotonic) came before anything else."""
        if request_id is not None:
            self._lines.add(f"START RequestId: {request_id} Version: {self.function.version}")
        written_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= until:
                return None
            self._selector.select(min(LOOK_S, until - now))
            # First what was reported, then the output: a function writes before it answers.
            happenings = self._mailbox.happenings()
            self._drain()
            for happening in happenings:
                if _ends_phase(happening, request_id):
                    return happening
            if not self.alive:
                self._drain()
                return self._last_words(request_id) or Exited()
            if self._look_at_memory() > self.function.memory * MIB:
                return TooMuchMemory()
            if now - written_at > LOG_EVERY_S:
                self._lines.write_out()
                written_at = now

    def _last_words(self, request_id: str | None) -> Happening | None:
        """A process may die right after it answered, before its answer was looked at."""
        return next((happening for happening in self._mailbox.happenings() if _ends_phase(happening, request_id)), None)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, 65536):
                self._lines.feed(data)
            # End of file: nobody holds the writing end any more. Stop watching, or select would never wait again.
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._output)

    def _look_at_memory(self) -> int:
        try:
            resident: int = self._psutil.memory_info().rss
        except psutil.Error:
            return 0
        self._peak_bytes = max(self._peak_bytes, resident)
        return resident

    def _exit_words(self) -> str:
        code = self._process.poll()
        if code is None or code == 0:
            return "without providing a reason"
        if code > 0:
            return f"with error: exit status {code}"
        return f"with error: signal: {_signal_words(-code)}"

    # --- the end ----------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End the process and all it started; a caller in the middle of an invocation sees it exit."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill the process and all it started, and let go of everything. Safe to call twice."""
        self._api.close_mailbox(self._mailbox)
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_WITHIN_S)
        self._selector.close()
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._lines.finish_line()
            self._lines.write_out()
            self._process.stdout.close()
            os.close(self._lifeline)


@dataclass(frozen=True)
class Exited:
    """The process ended in the middle of a phase."""


@dataclass(frozen=True)
class TooMuchMemory:
    """The process held more memory than the function has."""


def _ends_phase(happening: Happening, request_id: str | None) -> bool:
    if request_id is None:
        return isinstance(happening, (Ready, InitFailed))
    return isinstance(happening, (Answered, Failed, AnswerTooLarge)) and happening.request_id == request_id


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def _error_type(happening: Happening | Exited | TooMuchMemory) -> str:
    if not isinstance(happening, InitFailed):
        return "Runtime.ExitError"
    try:
        return str(json.loads(happening.payload)["errorType"])
    except (ValueError, KeyError, TypeError):
        return "Runtime.Unknown"


def _signal_words(number: int) -> str:
    """The words of the Go runtime, which Lambda's supervisor uses."""
    words: dict[int, str] = {
        signal.SIGSEGV: "segmentation fault",
        signal.SIGABRT: "aborted",
        signal.SIGKILL: "killed",
        signal.SIGTERM: "terminated",
    }
    return words.get(number, f"signal {number}")


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
