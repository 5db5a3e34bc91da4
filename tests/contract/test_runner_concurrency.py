# ruff: noqa: F401, F811 (fixtures are imported by name)
"""The runner's execution environments: reuse, concurrency, asynchronous invocations, and their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gateway_cloud import Cloud, invoke
from runner_parts import SLOW, answer, cloud, eventually, gone, log_of, runner, running

from aistratus.local.runner import FunctionRunner, FunctionUnusable, Throttled


def test_one_environment_is_used_again_and_parallel_calls_have_their_own(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function(SLOW)
    assert answer(runner, name, 0) == answer(runner, name, 0)
    with ThreadPoolExecutor(3) as pool:
        pids = set(pool.map(lambda _: answer(runner, name, 1.0), range(3)))
    assert len(pids) == 3


def test_callers_beyond_the_bound_wait_for_a_free_environment(cloud: Cloud, tmp_path: Path) -> None:
    runner = FunctionRunner(endpoint=cloud.endpoint, state_dir=tmp_path, environments=2)
    try:
        name = cloud.function(SLOW)
        with ThreadPoolExecutor(8) as pool:
            pids = set(pool.map(lambda _: answer(runner, name, 0.05), range(24)))
        assert len(pids) <= 2
    finally:
        runner.close()


def test_reserved_concurrency_throttles(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function()
    cloud.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(Throttled):
        invoke(runner, name)
    cloud.client("lambda").delete_function_concurrency(FunctionName=name)
    assert answer(runner, name, "again") == "again"


def test_idle_environments_end_after_a_while(cloud: Cloud, tmp_path: Path) -> None:
    runner = FunctionRunner(endpoint=cloud.endpoint, state_dir=tmp_path, idle_s=0.1)
    try:
        pid = answer(runner, cloud.function(SLOW), 0)
        assert eventually(lambda: not running(pid))
    finally:
        runner.close()


def test_an_environment_that_died_while_idle_is_replaced_unnoticed(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function(SLOW)
    pid = answer(runner, name, 0)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: gone(pid))
    assert answer(runner, name, 0) != pid


def test_an_event_is_accepted_at_once_and_run_later(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("def handle(event, context): print('DONE', event)")
    done = invoke(runner, name, "x", kind="Event")
    assert (done.status, done.payload) == (202, b"")
    assert eventually(lambda: "DONE x" in log_of(cloud, name))


def test_a_failed_event_is_tried_twice_more(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("def handle(event, context):\n    print('TRY', context.aws_request_id)\n    1 / 0")
    invoke(runner, name, kind="Event")
    assert eventually(lambda: sum(line.startswith("TRY") for line in log_of(cloud, name)) == 3)
    once = cloud.function("def handle(event, context):\n    print('TRY')\n    1 / 0")
    cloud.client("lambda").put_function_event_invoke_config(FunctionName=once, MaximumRetryAttempts=0)
    invoke(runner, once, kind="Event")
    assert eventually(lambda: log_of(cloud, once).count("TRY") == 1)
    assert log_of(cloud, name) and sum(line == "TRY" for line in log_of(cloud, once)) == 1


def test_a_dry_run_runs_nothing(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("print('ran')\ndef handle(event, context): pass")
    assert invoke(runner, name, kind="DryRun").status == 204
    assert log_of(cloud, name) == []


def test_close_ends_idle_and_busy_environments(cloud: Cloud, tmp_path: Path) -> None:
    runner = FunctionRunner(endpoint=cloud.endpoint, state_dir=tmp_path)
    idle = answer(runner, cloud.function(SLOW), 0)
    busy = cloud.function(
        "import os, time\ndef handle(event, context):\n    print(os.getpid(), flush=True)\n    time.sleep(600)",
        Timeout=600,
    )
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(invoke, runner, busy)
        assert eventually(lambda: any(line.isdigit() for line in log_of(cloud, busy)))
        runner.close()
        assert json.loads(pending.result().payload)["errorType"] == "Runtime.ExitError"
    pid = int(next(line for line in log_of(cloud, busy) if line.isdigit()))
    assert eventually(lambda: not running(idle) and not running(pid))
    with pytest.raises(FunctionUnusable):
        invoke(runner, busy)


HOST = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from gateway_cloud import Cloud, invoke
from aistratus.local.runner import FunctionRunner
cloud = Cloud()
runner = FunctionRunner(endpoint=cloud.endpoint, state_dir=Path({state!r}), aws_runtime_client={aws})
name = cloud.function("import os\\ndef handle(event, context): return os.getpid()")
print("PID", invoke(runner, name).payload.decode(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("aws", [True, False])
def test_functions_die_with_the_cloud_even_by_kill_9(tmp_path: Path, aws: bool) -> None:
    source = HOST.format(here=str(Path(__file__).parent), state=str(tmp_path), aws=aws)
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as host:
        assert host.stdout is not None
        pid = next(int(line.split()[1]) for line in host.stdout if line.startswith(b"PID"))
        assert running(pid)
        host.kill()
    assert eventually(lambda: not running(pid))
