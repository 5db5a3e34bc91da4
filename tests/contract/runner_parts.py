"""Fixtures of the function runner's tests: a cloud with moto's Lambda, and runners of both kinds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from gateway_cloud import Cloud, invoke

from aistratus.local.runner import FunctionRunner

WAIT_S = 20.0
"""Cap for what happens in the background; a busy machine may need seconds."""


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true within the cap; looks every 20 ms."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def runner(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionRunner]:
    made = FunctionRunner(
        endpoint=cloud.endpoint, state_dir=tmp_path_factory.mktemp("state"), retries_after_s=(0.0, 0.0)
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain_runner(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionRunner]:
    """A runner as on a system that AWS's runtime client has no wheel for."""
    made = FunctionRunner(endpoint=cloud.endpoint, state_dir=tmp_path_factory.mktemp("plain"), aws_runtime_client=False)
    yield made
    made.close()


@pytest.fixture(params=["aws", "own"])
def either(request: pytest.FixtureRequest, runner: FunctionRunner, plain_runner: FunctionRunner) -> FunctionRunner:
    return runner if request.param == "aws" else plain_runner


def answer(runner: FunctionRunner, name: str, event: object = None, **more: Any) -> Any:
    done = invoke(runner, name, event, **more)
    assert done.function_error is None, done.payload
    return json.loads(done.payload)


def failure(runner: FunctionRunner, name: str, event: object = None) -> dict[str, Any]:
    done = invoke(runner, name, event)
    assert (done.status, done.function_error) == (200, "Unhandled")
    problem: dict[str, Any] = json.loads(done.payload)
    return problem


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


SLOW = "import os, time\ndef handle(event, context):\n    time.sleep(event)\n    return os.getpid()"


def log_of(cloud: Cloud, name: str) -> list[str]:
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    return cloud.log_lines(f"/aws/lambda/{name}") if groups else []


def gone(pid: int) -> bool:
    """No thread of it is left; a process of which only the first has ended can't be seen to be dead yet."""
    try:
        return not running(pid) and psutil.Process(pid).num_threads() <= 1
    except psutil.NoSuchProcess:
        return True
