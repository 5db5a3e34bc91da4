"""The execution environments of all functions: a small pool for each version.

A free environment is reused, a missing one is started, and the oldest idle ones end after a while. A version's
environments are replaced when its code or configuration has changed; running invocations finish first. Deleting a
function ends its idle environments.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from moto.backends import get_backend
from moto.iam.exceptions import NotFoundException as IAMNotFound

from aistratus.local.deployed_function import DeployedFunction, FunctionNotFound, find_function, layer_code
from aistratus.local.execution import ExecutionEnvironment, InitTimeout
from aistratus.local.lambda_site import CodeStore, CodeUnusable, build_site
from aistratus.local.log_events import LogEvents
from aistratus.local.runtime_api import RuntimeApi
from aistratus.local.spawn import Surroundings, start

PATIENCE_S: Final = 0.05
"""Most invocations end sooner than a new process starts: this long a caller waits for a busy environment first."""
FREE_ENVIRONMENT_WITHIN_S: Final = 900.0
"""The longest timeout that a function can have: after it every environment has become free once."""
ROLE_SESSION_S: Final = 12 * 3600
"""The longest session that STS gives; environments are replaced before it ends."""
ENVIRONMENT_AGE_S: Final = ROLE_SESSION_S - 3600


class Throttled(Exception):
    """TooManyRequestsException (429): the function's concurrency is in use."""

    def __init__(self) -> None:
        super().__init__("Rate Exceeded.")


class FunctionUnusable(Exception):
    """The function can't be started at all (its role, code or runtime); the text is one sentence for a person."""


class InitProblem(Exception):
    """The function's init failed: `payload` is AWS's error object, `log_tail` what init wrote."""

    def __init__(self, payload: bytes, log_tail: str) -> None:
        super().__init__("the function's init failed")
        self.payload = payload
        self.log_tail = log_tail


@dataclass
class _Pool:
    """The environments of one version, all of them of the same code and configuration."""

    function: DeployedFunction
    idle: list[ExecutionEnvironment] = field(default_factory=list)  # the one used last is at the end
    size: int = 0  # idle, busy and starting


class EnvironmentPool:
    """Thread-safe. `bound` limits the processes of one version, `idle_s` is how long an unused one is kept,
    `init_s` the limit of the init phase (all in seconds)."""

    def __init__(
        self, *, endpoint: str, state_dir: Path, bound: int, idle_s: float, init_s: float, aws_runtime_client: bool
    ) -> None:
        self._bound = bound
        self._idle_s = idle_s
        self._init_s = init_s
        self._code = CodeStore(state_dir / "lambda-code")
        self._spawner = ThreadPoolExecutor(1, "lambda-spawner")
        self._api = RuntimeApi()
        self._shared = Surroundings(
            api=self._api,
            log_events=LogEvents(),
            spawner=self._spawner,
            endpoint=endpoint,
            bootstrap=build_site(state_dir / "lambda-site", runtime_client=aws_runtime_client),
            bytecode=state_dir / "lambda-pycache",
        )
        self._changed = threading.Condition()
        self._pools: dict[tuple[str, str, str, str], _Pool] = {}
        self._in_use: set[ExecutionEnvironment] = set()
        self._closed = False

    def acquire(self, function: DeployedFunction) -> ExecutionEnvironment:
        """An initialised environment of this very version, for this caller alone until `release`.

        Raises:
            InitProblem: the function's own init failed.
            FunctionUnusable: there can't be one.
            Throttled: all are in use for longer than any function may run.
        """
        environment = self._free(function)
        if environment is not None:
            return environment
        try:
            environment = self._start(function)
        finally:
            if environment is None:
                self._forget(function)
        return environment

    def release(self, environment: ExecutionEnvironment, *, usable: bool) -> None:
        """Give an environment back; it is kept for the next caller when it still can serve one."""
        old = time.monotonic() - environment.started_at > ENVIRONMENT_AGE_S
        with self._changed:
            self._in_use.discard(environment)
            pool = self._pools.get(_key(environment.function))
            same = pool is not None and pool.function == environment.function
            kept = usable and same and not old and not self._closed
            if pool is not None and kept:
                pool.idle.append(environment)
            elif pool is not None and same:
                pool.size -= 1
            self._changed.notify_all()
        if not kept:
            environment.end()

    def tidy(self) -> None:
        """End idle environments that nobody will use: too long idle, or their function is gone or changed."""
        with self._changed:
            pools = list(self._pools.items())
        stale = {key for key, pool in pools if not _is_current(pool.function)}
        now = time.monotonic()
        ended: list[ExecutionEnvironment] = []
        with self._changed:
            for key, pool in pools:
                if self._pools.get(key) is not pool:
                    continue
                gone = [
                    environment
                    for environment in pool.idle
                    if key in stale or now - environment.idle_since > self._idle_s or not environment.alive
                ]
                pool.idle = [environment for environment in pool.idle if environment not in gone]
                pool.size -= len(gone)
                ended += gone
                if key in stale and pool.size == 0:
                    del self._pools[key]
        for environment in ended:
            environment.end()

    def close(self) -> None:
        """End every environment, also those in use (their callers see them exit), and take no more callers."""
        with self._changed:
            self._closed = True
            idle = [environment for pool in self._pools.values() for environment in pool.idle]
            busy = list(self._in_use)
            for pool in self._pools.values():
                pool.idle = []
            self._changed.notify_all()
        for environment in busy:
            environment.kill()
        for environment in idle:
            environment.end()

    def let_go(self) -> None:
        """After `close`, when no caller is left: end the Runtime API and the spawning thread."""
        self._api.close()
        self._spawner.shutdown()

    # --- finding or counting ----------------------------------------------------------------------------------

    def _free(self, function: DeployedFunction) -> ExecutionEnvironment | None:
        """An idle environment of this very version, or None when the caller shall start one (it is counted)."""
        began = time.monotonic()
        dead: list[ExecutionEnvironment] = []
        try:
            with self._changed:
                while True:
                    if self._closed:
                        raise FunctionUnusable("the embedded cloud is ending")
                    pool = self._current(function, dead)
                    environment = self._take_idle(pool, dead)
                    if environment is not None:
                        return environment
                    waited = time.monotonic() - began
                    if pool.size == 0 or (pool.size < self._bound and waited >= PATIENCE_S):
                        pool.size += 1
                        return None
                    if waited >= FREE_ENVIRONMENT_WITHIN_S:
                        raise Throttled
                    limit = PATIENCE_S if pool.size < self._bound else FREE_ENVIRONMENT_WITHIN_S
                    self._changed.wait(max(0.0, limit - waited))
        finally:
            for environment in dead:
                environment.end()

    def _take_idle(self, pool: _Pool, dead: list[ExecutionEnvironment]) -> ExecutionEnvironment | None:
        while pool.idle:
            environment = pool.idle.pop()
            if environment.alive:
                self._in_use.add(environment)
                return environment
            dead.append(environment)
            pool.size -= 1
        return None

    def _current(self, function: DeployedFunction, dead: list[ExecutionEnvironment]) -> _Pool:
        """The version's pool; one of older code or configuration is replaced, its idle environments are `dead`."""
        key = _key(function)
        pool = self._pools.get(key)
        if pool is None or pool.function != function:
            if pool is not None:
                dead += pool.idle
            pool = self._pools[key] = _Pool(function)
        return pool

    def _forget(self, function: DeployedFunction) -> None:
        """An environment that was counted in advance didn't come to be."""
        with self._changed:
            pool = self._pools.get(_key(function))
            if pool is not None and pool.function == function:
                pool.size -= 1
            self._changed.notify_all()

    # --- starting -----------------------------------------------------------------------------------------------

    def _start(self, function: DeployedFunction) -> ExecutionEnvironment:
        if not function.runtime.startswith("python"):
            raise FunctionUnusable(f"the embedded cloud runs Python functions only, not {function.runtime or 'images'}")
        tail = ""
        for within in (self._init_s, float(function.timeout)):  # Lambda's second try has the function's own timeout
            environment = self._spawn(function)
            ready = False
            try:
                problem = environment.initialise(within)
                ready = problem is None
            except InitTimeout:
                continue
            finally:
                tail = environment.log_tail
                if not ready:
                    self._discard(environment)
            if problem is not None:
                raise InitProblem(problem, tail)
            return environment
        message = f"Error: Task timed out after {function.timeout:.2f} seconds".encode()
        raise InitProblem(b'{"errorType":"Sandbox.Timedout","errorMessage":"' + message + b'"}', tail)

    def _discard(self, environment: ExecutionEnvironment) -> None:
        with self._changed:
            self._in_use.discard(environment)
        environment.end()

    def _spawn(self, function: DeployedFunction) -> ExecutionEnvironment:
        try:
            task_root = self._code.unpacked(function.code)
            layers = [
                self._code.unpacked(layer_code(function.account, function.region, arn)) for arn in function.layers
            ]
        except CodeUnusable as error:
            raise FunctionUnusable(f"function {function.name}: {error}") from error
        environment = start(
            function, self._shared, task_root=task_root, layers=layers, credentials=_role_credentials(function)
        )
        with self._changed:
            self._in_use.add(environment)
            closed = self._closed
        if closed:  # `close` didn't see it any more
            environment.kill()
        return environment


def _key(function: DeployedFunction) -> tuple[str, str, str, str]:
    return function.account, function.region, function.name, function.version


def _is_current(function: DeployedFunction) -> bool:
    try:
        return find_function(function.account, function.region, function.name, function.version) == function
    except FunctionNotFound:
        return False


def _role_credentials(function: DeployedFunction) -> Mapping[str, str]:
    """What AWS puts into the environment after assuming the function's role.

    Raises:
        FunctionUnusable: the role is gone.
    """
    partition = function.arn.split(":")[1]
    iam: Any = get_backend("iam")[function.account][partition]
    try:
        iam.get_role_by_arn(function.role)
    except IAMNotFound:
        raise FunctionUnusable("The role defined for the function cannot be assumed by Lambda.") from None
    sts: Any = get_backend("sts")[function.account][partition]
    session = sts.assume_role(
        region_name=function.region,
        role_session_name=function.name[:64],
        role_arn=function.role,
        policy=None,
        duration=ROLE_SESSION_S,
        external_id=None,
    )
    return {
        "AWS_ACCESS_KEY_ID": session.access_key_id,
        "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
        "AWS_SESSION_TOKEN": session.session_token,
    }
