# ruff: noqa: F401, F811 (fixtures are imported by name)
"""How a function can fail in the runner: its own errors, crashes, limits, and requests that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gateway_cloud import Cloud, invoke
from runner_parts import answer, cloud, either, eventually, failure, plain_runner, runner, running

from aistratus.local.runner import FunctionNotFound, FunctionRunner, FunctionUnusable, PayloadTooLarge


def test_an_exception_is_described_and_the_environment_lives_on(cloud: Cloud, either: FunctionRunner) -> None:
    name = cloud.function("""
import os
def handle(event, context):
    if event == "fail":
        raise ValueError("no good")
    return os.getpid()
""")
    first = answer(either, name)
    problem = failure(either, name, "fail")
    assert (problem["errorType"], problem["errorMessage"]) == ("ValueError", "no good")
    assert any("raise ValueError" in frame for frame in problem["stackTrace"])
    assert answer(either, name) == first


@pytest.mark.parametrize(
    ("source", "handler", "kind"),
    [
        ("import nosuchmodule\ndef handle(event, context): pass", "app.handle", "Runtime.ImportModuleError"),
        ("def handle(event, context) pass", "app.handle", "Runtime.UserCodeSyntaxError"),
        ("x = 1", "app.handle", "Runtime.HandlerNotFound"),
        ("x = 1", "nodot", "Runtime.MalformedHandlerName"),
        ("1 / 0", "app.handle", "ZeroDivisionError"),
    ],
)
def test_an_init_that_fails_is_told(cloud: Cloud, either: FunctionRunner, source: str, handler: str, kind: str) -> None:
    assert failure(either, cloud.function(source, Handler=handler))["errorType"] == kind


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os\ndef handle(event, context): os._exit(3)", "Runtime exited with error: exit status 3"),
        ("import os\ndef handle(event, context): os._exit(0)", "Runtime exited without providing a reason"),
        (
            "import os\ndef handle(event, context): os.kill(os.getpid(), 11)",
            "Runtime exited with error: signal: segmentation fault",
        ),
    ],
)
def test_a_crash_is_an_exit_error(cloud: Cloud, runner: FunctionRunner, source: str, words: str) -> None:
    problem = failure(runner, cloud.function(source))
    assert problem["errorType"] == "Runtime.ExitError"
    assert problem["errorMessage"].endswith(words)


def test_a_crash_during_init_is_an_exit_error(cloud: Cloud, runner: FunctionRunner) -> None:
    problem = failure(runner, cloud.function("import os\nos._exit(4)"))
    assert problem["errorType"] == "Runtime.ExitError"
    assert "exit status 4" in problem["errorMessage"]


def test_the_timeout_ends_the_process_and_the_next_call_has_a_new_one(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function(
        """
import os, subprocess, time
def handle(event, context):
    if event == "hang":
        child = subprocess.Popen(["sleep", "600"])
        print("CHILD", child.pid, flush=True)
        time.sleep(600)
    return os.getpid()
""",
        Timeout=1,
    )
    first = answer(runner, name)
    done = invoke(runner, name, "hang")
    assert done.function_error == "Unhandled"
    told = json.loads(done.payload)["errorMessage"]
    assert told.endswith("Task timed out after 1.00 seconds")
    assert "Status: timeout" in done.log_tail
    grandchild = int(done.log_tail.partition("CHILD ")[2].split()[0])
    assert eventually(lambda: not running(first) and not running(grandchild))
    assert answer(runner, name) not in (first, None)


def test_an_init_over_its_limit_is_tried_again_within_the_functions_timeout(cloud: Cloud, tmp_path: Path) -> None:
    runner = FunctionRunner(endpoint=cloud.endpoint, state_dir=tmp_path, init_s=0.3)
    try:
        slow = cloud.function("import time\ntime.sleep(0.8)\ndef handle(event, context): return 'up'", Timeout=20)
        assert answer(runner, slow) == "up"
        hanging = cloud.function("import time\ntime.sleep(600)\ndef handle(event, context): return 'up'", Timeout=1)
        assert "timed out after 1.00 seconds" in failure(runner, hanging)["errorMessage"]
    finally:
        runner.close()


def test_more_memory_than_configured_is_killed(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function(
        """
import time
def handle(event, context):
    kept = bytearray(300 * 1024 * 1024)
    kept[::4096] = b"x" * len(kept[::4096])
    time.sleep(20)
""",
        MemorySize=128,
        Timeout=30,
    )
    done = invoke(runner, name)
    problem = json.loads(done.payload)
    assert problem["errorType"] == "Runtime.ExitError"
    assert problem["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert "Max Memory Used: 128 MB" in done.log_tail


def test_an_answer_that_is_too_large_is_refused(cloud: Cloud, either: FunctionRunner) -> None:
    name = cloud.function("def handle(event, context): return 'x' * event")
    assert failure(either, name, 7_000_000)["errorType"] == "Function.ResponseSizeTooLarge"
    assert answer(either, name, 3) == "xxx"
    assert len(answer(either, name, 6_000_000)) == 6_000_000


def test_a_payload_that_is_too_large_is_refused(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function()
    with pytest.raises(PayloadTooLarge):
        invoke(runner, name, "x" * 7_000_000)
    with pytest.raises(PayloadTooLarge):
        invoke(runner, name, "x" * 1_100_000, kind="Event")


def test_unknown_functions_versions_and_aliases_are_told_apart_from_failures(
    cloud: Cloud, runner: FunctionRunner
) -> None:
    name = cloud.function()
    with pytest.raises(FunctionNotFound):
        invoke(runner, "no-such-function")
    for qualifier in ("7", "no-such-alias"):
        with pytest.raises(FunctionNotFound):
            invoke(runner, name, qualifier=qualifier)


def test_what_cannot_be_started_says_why(cloud: Cloud, runner: FunctionRunner) -> None:
    with pytest.raises(FunctionUnusable, match="isn't a zip"):
        invoke(runner, cloud.function(Code={"ZipFile": b"not a zip"}))
    with pytest.raises(FunctionUnusable, match=r"nodejs22\.x"):
        invoke(runner, cloud.function(Runtime="nodejs22.x"))
