"""Things that several tests of the embedded cloud need: names, errors, an image, a role, a function, a small bundle."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import time
import urllib.request
import zipfile
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from aistratus.local.process import Running

T = TypeVar("T")

REGION = "eu-central-1"

Connect = Callable[[str], Any]
"""Makes a client of a service."""

WITHIN_S = 20.0
"""Cap for what happens in milliseconds on an idle machine; a busy one may need longer."""
LOOK_EVERY_S = 0.02

AL2023 = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


@functools.cache
def _session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)


def connected_to(cloud: Running) -> Connect:
    """Makes clients of one cloud; they never repeat a call, so that a test sees each answer."""
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    return lambda service: _session().client(service, endpoint_url=cloud.endpoint, config=config)


def unique(prefix: str = "t") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid4().hex[:12]}"


def refused(call: Callable[..., Any], **parameters: Any) -> str:
    """The error code that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    code: str = caught.value.response["Error"]["Code"]
    return code


def eventually(look: Callable[[], T], *, until: Callable[[T], bool] = bool) -> T:
    """What `look` gives once it satisfies `until`; the last look if that doesn't come about in time."""
    deadline = time.monotonic() + WITHIN_S
    found = look()
    while not until(found) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        found = look()
    return found


def image(connect: Connect, parameter: str = AL2023) -> str:
    """An image's id from a public parameter."""
    value: str = connect("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
    return value


def run_instance(connect: Connect, **wanted: Any) -> str:
    """Id of a new instance."""
    answer = connect("ec2").run_instances(
        ImageId=image(connect), MinCount=1, MaxCount=1, **{"InstanceType": "t3.small", **wanted}
    )
    identifier: str = answer["Instances"][0]["InstanceId"]
    return identifier


def instance_state(connect: Connect, instance_id: str) -> str:
    answer = connect("ec2").describe_instances(InstanceIds=[instance_id])
    state: str = answer["Reservations"][0]["Instances"][0]["State"]["Name"]
    return state


def await_state(connect: Connect, instance_id: str, state: str) -> None:
    assert eventually(lambda: instance_state(connect, instance_id), until=lambda found: found == state) == state


def role(connect: Connect, service: str = "lambda.amazonaws.com") -> str:
    """ARN of a new role; its name is the ARN's last part."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    answer = connect("iam").create_role(RoleName=unique("role"), AssumeRolePolicyDocument=json.dumps(trust))
    arn: str = answer["Role"]["Arn"]
    return arn


def zipped(files: dict[str, str]) -> bytes:
    """A zip of text files by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


HANDLER = """
import os
def handle(event, context):
    print("a line of the function")
    if event.get("fail"):
        raise ValueError("asked to")
    return {"event": event, "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"], "x": os.environ.get("X")}
"""


def function(connect: Connect, **wanted: Any) -> str:
    """Name of a new function."""
    name = unique("function")
    connect("lambda").create_function(
        **{
            "FunctionName": name,
            "Role": role(connect),
            "Runtime": "python3.13",
            "Handler": "code.handle",
            "Code": {"ZipFile": zipped({"code.py": HANDLER})},
            **wanted,
        }
    )
    return name


WORKER = """
import os, signal, sys, time, aistratus
print("started", aistratus.__version__, aistratus.__file__, os.getpid(), flush=True)
print("model", open(os.environ["WORKER_MODEL_PATH"]).read(), os.environ["WORKER_QUEUE_URL"], flush=True)
signal.signal(signal.SIGTERM, lambda *_: (print("gave back", flush=True), sys.exit(0)))
off = os.path.join(os.environ["WORKER_STATE_DIR"], "off")
while True:
    time.sleep(0.02)
    if os.path.exists(off):
        os.unlink(off)
        sys.exit(64)
"""


def upload_node(
    connect: Connect, bucket: str, *, group: str | None = None, worker: str = WORKER, bundle_sha256: str | None = None
) -> None:
    """Puts bundle, model and manifest of a node into a new bucket; the manifest comes last, as `up` does it."""
    s3 = connect("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    bundle = zipped(
        {
            "aistratus/__init__.py": "__version__ = 'shipped'",
            "aistratus/worker/__init__.py": "",
            "aistratus/worker/__main__.py": worker,
        }
    )
    model = b"a small model"
    s3.put_object(Bucket=bucket, Key="node/worker.zip", Body=bundle)
    s3.put_object(Bucket=bucket, Key="node/model.gguf", Body=model)
    manifest = {
        "schema": 1,
        "bundle": {"key": "node/worker.zip", "sha256": bundle_sha256 or hashlib.sha256(bundle).hexdigest()},
        "model": {
            "name": "small",
            "file": "model.gguf",
            "sha256": hashlib.sha256(model).hexdigest(),
            "key": "node/model.gguf",
            "url": None,
            "context_tokens": 64,
        },
        "environment": {"WORKER_QUEUE_URL": "the-queue", **({"WORKER_LOG_GROUP": group} if group else {})},
    }
    s3.put_object(Bucket=bucket, Key="node/manifest.json", Body=json.dumps(manifest))


def user_data(bucket: str) -> str:
    return f"""#!/bin/bash
# --- configuration
NODE_BUCKET='{bucket}'
NODE_MANIFEST_KEY='node/manifest.json'
NODE_REGION='eu-central-1'
# --- end of configuration
exit 1   # never run by the embedded cloud
"""


def log_lines(connect: Connect, group: str) -> list[str]:
    logs = connect("logs")
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    return [
        event["message"]
        for stream in streams
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    ]


BUILD_ENVIRONMENT = {
    "type": "ARM_CONTAINER",
    "image": "aws/codebuild/amazonlinux-aarch64-standard:3.0",
    "computeType": "BUILD_GENERAL1_SMALL",
}


def build_project(connect: Connect, **wanted: Any) -> dict[str, Any]:
    """The parameters of a project."""
    return {
        "name": unique("build"),
        "source": {"type": "GITHUB", "location": "https://github.com/owner/name.git"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": BUILD_ENVIRONMENT,
        "serviceRole": role(connect, "codebuild.amazonaws.com"),
        **wanted,
    }


def complete_connection(connect: Connect, arn: str) -> None:
    """Does what a person does in the console, by the console's own call."""
    client = connect("codeconnections")
    request = urllib.request.Request(
        f"{client.meta.endpoint_url}/",
        json.dumps({"ConnectionArn": arn}).encode(),
        {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "com.amazonaws.codeconnections.CodeConnections_20231201.UpdateConnectionInstallation",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=a/20260101/{REGION}/codeconnections/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
