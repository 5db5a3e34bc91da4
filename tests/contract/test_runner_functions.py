# ruff: noqa: F401, F811 (fixtures are imported by name)
"""The runner executes what was deployed, as Lambda would: environment, versions, logs and metrics."""

from __future__ import annotations

import datetime
import json
import uuid
from pathlib import Path

import pytest
from gateway_cloud import ACCOUNT, REGION, Cloud, invoke, zipped
from runner_parts import answer, cloud, either, eventually, plain_runner, runner, running

from aistratus.local.runner import FunctionRunner

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
