"""The embedded cloud's Lambda data plane: invoking a function runs the zip that was deployed.

The deployment is read from moto at each invocation (`deployed_function`), so a new version, alias, variable or timeout
takes effect with the next one. Each invocation has an execution environment (`execution`) to itself, from the pool of
its version (`environment_pool`). Asynchronous invocations are queued here and retried as Lambda does it.

`FunctionRunner` is thread-safe; an invocation occupies the thread that asks for it.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aistratus.local.deployed_function import DeployedFunction, FunctionNotFound, find_function, split_name
from aistratus.local.environment_pool import EnvironmentPool, FunctionUnusable, InitProblem, Throttled
from aistratus.local.execution import INIT_S, NeverStarted
from aistratus.local.runtime_api import Work

__all__ = ["FunctionNotFound", "FunctionRunner", "FunctionUnusable", "Invocation", "PayloadTooLarge", "Throttled"]

log = logging.getLogger(__name__)

PAYLOAD_BYTES: Final = 6 * 1024 * 1024
"""The largest payload of a synchronous invocation (Lambda quotas)."""
EVENT_BYTES: Final = 1024 * 1024
"""The largest payload of an asynchronous invocation (Lambda quotas)."""
HOUSEKEEPING_EVERY_S: Final = 1.0
EVENT_RETRIES_AFTER_S: Final = (60.0, 120.0)
"""Lambda tries a failed asynchronous invocation again after one minute and after two more."""
EVENT_THREADS: Final = 4


class PayloadTooLarge(Exception):
    """RequestTooLargeException (413)."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} byte payload is too large for the invocation type (limit {limit} bytes)")


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What Lambda's Invoke answers. `status` is 200, 202 (Event) or 204 (DryRun); `log_tail` is plain text."""

    status: int
    payload: bytes
    function_error: str | None = None
    log_tail: str = ""
    executed_version: str = ""


@dataclass(order=True)
class _QueuedEvent:
    due: float
    account: str = field(compare=False)
    region: str = field(compare=False)
    name: str = field(compare=False)
    qualifier: str | None = field(compare=False)
    payload: bytes = field(compare=False)
    request_id: str = field(compare=False)
    attempt: int = field(compare=False, default=0)


class FunctionRunner:
    """Runs deployed functions. `endpoint` is the address that stands for all of AWS, `state_dir` is its own to fill.

    `environments` bounds the processes of one version; more callers wait for a free one. `idle_s` is how long an
    unused one is kept. `init_s` is the limit of the init phase. `retries_after_s` are the pauses before a failed
    asynchronous invocation is tried again. `aws_runtime_client=False` uses the loop of our own instead of AWS's.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        state_dir: Path,
        environments: int = 10,
        idle_s: float = 300.0,
        init_s: float = INIT_S,
        retries_after_s: tuple[float, ...] = EVENT_RETRIES_AFTER_S,
        aws_runtime_client: bool = True,
    ) -> None:
        self.endpoint = endpoint
        self._retries_after_s = retries_after_s
        self._pool = EnvironmentPool(
            endpoint=endpoint,
            state_dir=state_dir,
            bound=environments,
            idle_s=idle_s,
            init_s=init_s,
            aws_runtime_client=aws_runtime_client,
        )
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}
        self._events: list[_QueuedEvent] = []
        self._event_threads = ThreadPoolExecutor(EVENT_THREADS, "lambda-event")
        self._ending = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="lambda-housekeeper", daemon=True)
        self._housekeeper.start()

    def invoke(
        self,
        *,
        account: str,
        region: str,
        name: str,
        qualifier: str | None,
        payload: bytes,
        invocation: str = "RequestResponse",
    ) -> Invocation:
        """Invoke as Lambda does; `name` is a name or ARN, `qualifier` a version or alias.

        Raises:
            FunctionNotFound, PayloadTooLarge, Throttled: Lambda's errors of these kinds.
            FunctionUnusable: it can't be started, whatever its code would do.
        """
        function = find_function(account, region, name, qualifier)
        limit = EVENT_BYTES if invocation == "Event" else PAYLOAD_BYTES
        if len(payload) > limit:
            raise PayloadTooLarge(len(payload), limit)
        if invocation == "DryRun":
            return Invocation(status=204, payload=b"", executed_version=function.version)
        request_id = str(uuid.uuid4())
        if invocation == "Event":
            now = time.monotonic()
            self._queue(_QueuedEvent(now, account, region, name, qualifier, payload or b"{}", request_id))
            return Invocation(status=202, payload=b"", executed_version=function.version)
        return self._run(function, split_name(name, qualifier)[1], payload or b"{}", request_id)

    def close(self) -> None:
        """End every environment, also those in the middle of an invocation (its caller gets an exit error)."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._pool.close()
        self._housekeeper.join()
        self._event_threads.shutdown(wait=True, cancel_futures=True)
        self._pool.let_go()

    def _run(self, function: DeployedFunction, qualifier: str | None, payload: bytes, request_id: str) -> Invocation:
        self._enter(function)
        try:
            while True:
                try:
                    return self._run_once(function, qualifier, payload, request_id)
                except NeverStarted:
                    continue
        except InitProblem as problem:
            return Invocation(
                status=200,
                payload=problem.payload,
                function_error="Unhandled",
                log_tail=problem.log_tail,
                executed_version=function.version,
            )
        finally:
            self._leave(function)

    def _run_once(
        self, function: DeployedFunction, qualifier: str | None, payload: bytes, request_id: str
    ) -> Invocation:
        environment = self._pool.acquire(function)
        usable = False
        try:
            arn = f"{function.arn}:{qualifier}" if qualifier else function.arn
            outcome = environment.invoke(_work(request_id, arn, payload, function.timeout), timeout=function.timeout)
            usable = outcome.usable
            return Invocation(
                status=200,
                payload=outcome.payload,
                function_error=outcome.error,
                log_tail=environment.log_tail,
                executed_version=function.version,
            )
        finally:
            self._pool.release(environment, usable=usable)

    def _enter(self, function: DeployedFunction) -> None:
        """Count the invocation against the function's reserved concurrency."""
        with self._lock:
            running = self._running.get(function.arn, 0)
            if function.reserved_concurrency is not None and running >= function.reserved_concurrency:
                raise Throttled
            self._running[function.arn] = running + 1

    def _leave(self, function: DeployedFunction) -> None:
        with self._lock:
            self._running[function.arn] -= 1
            if not self._running[function.arn]:
                del self._running[function.arn]

    # --- asynchronous invocations -----------------------------------------------------------------------------

    def _queue(self, event: _QueuedEvent) -> None:
        with self._lock:
            heapq.heappush(self._events, event)
        self._dispatch_events()

    def _dispatch_events(self) -> None:
        now = time.monotonic()
        with self._lock:
            while self._events and self._events[0].due <= now and not self._ending.is_set():
                self._event_threads.submit(self._run_event, heapq.heappop(self._events))

    def _run_event(self, event: _QueuedEvent) -> None:
        try:
            function = find_function(event.account, event.region, event.name, event.qualifier)
            qualifier = split_name(event.name, event.qualifier)[1]
            done = self._run(function, qualifier, event.payload, event.request_id)
            failed, retries = done.function_error is not None, function.retry_attempts
        except FunctionNotFound:
            return  # deleted in the meantime: its events go with it
        except (Throttled, FunctionUnusable) as error:
            log.warning("asynchronous invocation of %s failed: %s", event.name, error)
            failed, retries = True, len(self._retries_after_s)
        if failed and event.attempt < min(retries, len(self._retries_after_s)):
            event.due = time.monotonic() + self._retries_after_s[event.attempt]
            event.attempt += 1
            self._queue(event)

    def _keep_house(self) -> None:
        while not self._ending.wait(HOUSEKEEPING_EVERY_S):
            self._dispatch_events()
            self._pool.tidy()


def _work(request_id: str, arn: str, payload: bytes, timeout: float) -> Work:
    """The invocation as the runtime receives it; its deadline counts from now."""
    now = time.time()
    trace = f"Root=1-{int(now):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=0"
    return Work(
        request_id=request_id,
        payload=payload,
        deadline_ms=int((now + timeout) * 1000),
        function_arn=arn,
        trace_id=trace,
    )
