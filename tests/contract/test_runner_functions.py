"""The runner executes what was deployed, as Lambda would: environment, limits, errors, logs, versions, concurrency."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from gateway_cloud import ACCOUNT, REGION, Cloud, invoke, zipped

from aistratus.local.runner import FunctionNotFound, FunctionRunner, FunctionUnusable, PayloadTooLarge, Throttled

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


# --- what a function finds ----------------------------------------------------------------------------------------


def test_the_handler_gets_the_event_and_a_context(cloud: Cloud, either: FunctionRunner) -> None:
    name = cloud.function(
        """
def handle(event, context):
    return {
        "event": event, "id": context.aws_request_id, "arn": context.invoked_function_arn,
        "name": context.function_name, "version": context.function_version, "memory": context.memory_limit_in_mb,
        "group": context.log_group_name, "left": context.get_remaining_time_in_millis(),
    }
""",
        MemorySize=192,
        Timeout=7,
    )
    got = answer(either, name, {"hello": "wörld"})
    uuid.UUID(got["id"])
    assert got["event"] == {"hello": "wörld"}
    assert got["arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    assert (got["name"], got["version"], int(got["memory"])) == (name, "$LATEST", 192)
    assert got["group"] == f"/aws/lambda/{name}"
    assert 0 < got["left"] <= 7000


def test_our_source_tree_and_other_packages_are_out_of_reach(cloud: Cloud, either: FunctionRunner) -> None:
    name = cloud.function("""
import importlib.util, sys
def handle(event, context):
    return [found for found in event if importlib.util.find_spec(found)], sys.path
""")
    hidden = ["aistratus", "moto", "httpx", "pytest", "starlette", "cryptography", "pip"]
    found, path = answer(either, name, [*hidden, "boto3", "botocore", "urllib3", "dateutil", "six", "jmespath"])
    assert found == ["boto3", "botocore", "urllib3", "dateutil", "six", "jmespath"]
    assert not [entry for entry in path if "site-packages" in entry or Path(entry, "aistratus").exists()]


def test_importing_our_core_fails_in_a_function(cloud: Cloud, runner: FunctionRunner) -> None:
    done = invoke(runner, cloud.function("import aistratus.core\ndef handle(event, context): return 1"))
    assert done.function_error == "Unhandled"
    problem = json.loads(done.payload)
    assert problem["errorType"] == "Runtime.ImportModuleError"
    assert "No module named 'aistratus'" in problem["errorMessage"]


def test_the_environment_is_lambdas_and_nothing_of_ours(
    cloud: Cloud, either: FunctionRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cloud.function(
        "import os\ndef handle(event, context): return dict(os.environ)", variables={"JOBS_TABLE": "t"}
    )
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv("OPERATORS_SECRET", "x")
    monkeypatch.setenv("HTTP_PROXY", "http://nowhere.example")
    found = answer(either, name)
    assert found["JOBS_TABLE"] == "t"
    assert found["AWS_ENDPOINT_URL"] == cloud.endpoint
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == REGION
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == name
    assert found["_HANDLER"] == "app.handle"
    assert found["AWS_LAMBDA_LOG_GROUP_NAME"] == f"/aws/lambda/{name}"
    assert not {"PYTHONPATH", "OPERATORS_SECRET", "HTTP_PROXY", "HOME", "VIRTUAL_ENV"} & found.keys()


def test_credentials_are_those_of_the_functions_role(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("""
import boto3
def handle(event, context):
    return boto3.client("sts").get_caller_identity()["Arn"]
""")
    role = cloud.role.rpartition("/")[2]
    assert answer(runner, name) == f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}"


def test_the_task_root_is_the_working_directory_and_read_only(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("""
import os, stat
def handle(event, context):
    return [os.getcwd() == os.environ["LAMBDA_TASK_ROOT"], sorted(os.listdir(".")), oct(os.stat("app.py").st_mode)]
""")
    assert answer(runner, name) == [True, ["app.py"], "0o100444"]


def test_a_zip_entry_that_others_may_not_read_is_not_readable(cloud: Cloud, runner: FunctionRunner) -> None:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", "import os\ndef handle(event, context): return os.stat('private').st_mode & 0o777")
        archive.writestr("private", "x")
        for entry in archive.infolist():
            entry.external_attr = (0o644 if entry.filename == "app.py" else 0o600) << 16
    assert answer(runner, cloud.function(Code={"ZipFile": buffer.getvalue()})) == 0


def test_layers_are_importable(cloud: Cloud, runner: FunctionRunner) -> None:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("python/extra.py")
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, "WORD = 'layered'")
    layer = cloud.client("lambda").publish_layer_version(
        LayerName=f"layer-{uuid.uuid4().hex[:8]}", Content={"ZipFile": buffer.getvalue()}
    )["LayerVersionArn"]
    name = cloud.function("import extra\ndef handle(event, context): return extra.WORD", Layers=[layer])
    assert answer(runner, name) == "layered"


# --- how it can fail ----------------------------------------------------------------------------------------------


def failure(runner: FunctionRunner, name: str, event: object = None) -> dict[str, Any]:
    done = invoke(runner, name, event)
    assert (done.status, done.function_error) == (200, "Unhandled")
    problem: dict[str, Any] = json.loads(done.payload)
    return problem


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


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


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


# --- versions and changes -----------------------------------------------------------------------------------------


def test_versions_keep_their_code_and_aliases_follow(cloud: Cloud, runner: FunctionRunner) -> None:
    client = cloud.client("lambda")
    name = cloud.function("def handle(event, context): return ['one', context.function_version]")
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.update_function_code(
        FunctionName=name, ZipFile=zipped(app="def handle(event, context): return ['two', context.function_version]")
    )
    assert answer(runner, name, qualifier="1") == ["one", "1"]
    assert answer(runner, name, qualifier="live") == ["one", "1"]
    assert answer(runner, name) == answer(runner, name, qualifier="$LATEST") == ["two", "$LATEST"]
    client.publish_version(FunctionName=name)
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    done = invoke(runner, name, qualifier="live")
    assert (json.loads(done.payload), done.executed_version) == (["two", "2"], "2")


def test_code_from_s3_is_run(cloud: Cloud, runner: FunctionRunner) -> None:
    s3 = cloud.client("s3")
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=bucket, Key="f.zip", Body=zipped(app="def handle(event, context): return 'from s3'"))
    assert answer(runner, cloud.function(Code={"S3Bucket": bucket, "S3Key": "f.zip"})) == "from s3"


def test_a_new_configuration_counts_from_the_next_invocation(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function(
        "import os\ndef handle(event, context): return [os.environ['WORD'], os.getpid()]", variables={"WORD": "old"}
    )
    word, pid = answer(runner, name)
    assert word == "old"
    cloud.client("lambda").update_function_configuration(FunctionName=name, Environment={"Variables": {"WORD": "new"}})
    assert answer(runner, name)[0] == "new"
    assert eventually(lambda: not running(pid))


def test_a_deleted_functions_processes_end(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("import os\ndef handle(event, context): return os.getpid()")
    pid = answer(runner, name)
    assert running(pid)
    cloud.client("lambda").delete_function(FunctionName=name)
    assert eventually(lambda: not running(pid))


# --- concurrency --------------------------------------------------------------------------------------------------

SLOW = "import os, time\ndef handle(event, context):\n    time.sleep(event)\n    return os.getpid()"


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


# --- logs and metrics ---------------------------------------------------------------------------------------------


def test_output_is_in_the_log_group_between_start_and_report(cloud: Cloud, either: FunctionRunner) -> None:
    name = cloud.function("""
import sys
print("at init")
def handle(event, context):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    sys.stdout.write("without an end of line")
""")
    done = invoke(either, name)
    lines = cloud.log_lines(f"/aws/lambda/{name}")
    kinds = [line.split("\t")[0].split(" RequestId")[0] for line in lines]
    assert kinds == ["at init", "START", "to stdout", "to stderr", "without an end of line", "END", "REPORT"]
    for part in ("Duration: ", "Billed Duration: ", "Memory Size: 256 MB", "Max Memory Used: ", "Init Duration: "):
        assert part in lines[-1]
    assert done.log_tail.splitlines() == lines[1:]


def test_a_raised_error_is_one_event_in_the_log(cloud: Cloud, either: FunctionRunner) -> None:
    name = cloud.function("def handle(event, context): raise KeyError('nope')")
    invoke(either, name)
    (line,) = (line for line in cloud.log_lines(f"/aws/lambda/{name}") if line.startswith("[ERROR]"))
    assert line.startswith("[ERROR] KeyError: 'nope'\n")
    assert "raise KeyError('nope')" in line


def test_much_output_is_not_lost_and_does_not_block(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("def handle(event, context):\n    for n in range(event): print('line', n)")
    invoke(runner, name, 9_000)
    lines = [line for line in cloud.log_lines(f"/aws/lambda/{name}") if line.startswith("line ")]
    assert lines == [f"line {n}" for n in range(9_000)]


def test_a_stream_keeps_its_latest_events_only(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("def handle(event, context):\n    for n in range(event): print('line', n)")
    invoke(runner, name, 12_000)
    lines = cloud.log_lines(f"/aws/lambda/{name}")
    assert len(lines) == 5_000
    assert lines[-3] == "line 11999"
    assert lines[-1].startswith("REPORT ")


def test_embedded_metrics_become_metrics(cloud: Cloud, runner: FunctionRunner) -> None:
    space = f"space-{uuid.uuid4().hex[:8]}"
    name = cloud.function("""
import json, time
def handle(event, context):
    print(json.dumps({
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [{
            "Namespace": event, "Dimensions": [["Reason"], []], "Metrics": [{"Name": "EC2Starts", "Unit": "Count"}]}]},
        "Reason": "ColdBoot", "EC2Starts": [1, 2],
    }))
    print('{"_aws": "broken"}')
    print('{"_aws": {"Timestamp": 1e99, "CloudWatchMetrics": []}}')
""")
    invoke(runner, name, space)
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    found = cloud.client("cloudwatch").get_metric_statistics(
        Namespace=space,
        MetricName="EC2Starts",
        Dimensions=[{"Name": "Reason", "Value": "ColdBoot"}],
        StartTime=now - hour,
        EndTime=now + hour,
        Period=7200,
        Statistics=["Sum", "SampleCount"],
    )["Datapoints"]
    assert [(point["Sum"], point["SampleCount"], point["Unit"]) for point in found] == [(3.0, 2.0, "Count")]


# --- asynchronous invocations and dry runs ------------------------------------------------------------------------


def test_an_event_is_accepted_at_once_and_run_later(cloud: Cloud, runner: FunctionRunner) -> None:
    name = cloud.function("def handle(event, context): print('DONE', event)")
    done = invoke(runner, name, "x", kind="Event")
    assert (done.status, done.payload) == (202, b"")
    assert eventually(lambda: "DONE x" in log_of(cloud, name))


def log_of(cloud: Cloud, name: str) -> list[str]:
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    return cloud.log_lines(f"/aws/lambda/{name}") if groups else []


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


# --- the end ------------------------------------------------------------------------------------------------------


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


def gone(pid: int) -> bool:
    """No thread of it is left; a process of which only the first has ended can't be seen to be dead yet."""
    try:
        return not running(pid) and psutil.Process(pid).num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


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
