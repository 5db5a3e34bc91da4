"""The strict cloud's log of calls tells who asked for what, whatever the protocol."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from aistratus.local import process

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state_dir = tmp_path_factory.mktemp("strict")
    yield process.ensure(state_dir=state_dir, strict=True).endpoint
    process.stop(state_dir)


def log(endpoint: str, order: object = None) -> dict[str, Any]:
    data = None if order is None else json.dumps(order).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/_aistratus/calls", data=data)) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def client(endpoint: str, service: str, **keys: str) -> Any:
    keys = keys or {"aws_access_key_id": "ann", "aws_secret_access_key": "x"}
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, **keys)


def test_every_protocol_is_read(endpoint: str) -> None:
    log(endpoint, {"record": True})
    tag = {"Key": "Env", "Value": "dev"}
    client(endpoint, "ec2").create_vpc(
        CidrBlock="10.0.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": [tag]}]
    )
    client(endpoint, "iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}", Tags=[tag])
    client(endpoint, "dynamodb").list_tables(Limit=3)
    client(endpoint, "apigatewayv2").create_api(Name="a", ProtocolType="HTTP", Tags={"Env": "dev"})
    with suppress(ClientError):
        client(endpoint, "lambda").get_alias(FunctionName="f", Name="live")
    s3 = client(endpoint, "s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="bucket", Key="a folder/ü", Body=b"x" * 2_000_000)
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a", "VersionId": "null"}]})
    calls = log(endpoint)["calls"]
    assert {call["caller"] for call in calls} == {"ann"}
    assert [(call["service"], call["operation"], call["parameters"]) for call in calls] == [
        ("ec2", "CreateVpc", {"CidrBlock": "10.0.0.0/16",
                              "TagSpecifications": [{"ResourceType": "vpc", "Tags": [tag]}]}),
        ("iam", "CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": "{}", "Tags": [tag]}),
        ("dynamodb", "ListTables", {"Limit": 3}),
        ("apigatewayv2", "CreateApi", {"Name": "a", "ProtocolType": "HTTP", "Tags": {"Env": "dev"}}),
        ("lambda", "GetAlias", {"FunctionName": "f", "Name": "live"}),
        ("s3", "CreateBucket", {"Bucket": "bucket"}),
        ("s3", "PutObject", {"Bucket": "bucket", "Key": "a folder/ü"}),
        ("s3", "PutBucketVersioning", {"Bucket": "bucket"}),
        ("s3", "DeleteObjects", {"Bucket": "bucket", "Delete": {"Objects": [{"Key": "a", "VersionId": "null"}]}}),
    ]  # fmt: skip
    assert [call["status"] for call in calls if call["operation"] == "GetAlias"] == [404]


def test_a_roles_credentials_tell_the_role(endpoint: str) -> None:
    arn = "arn:aws:iam::123456789012:role/worker"
    session = client(endpoint, "sts").assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    log(endpoint, {"record": True})
    client(
        endpoint,
        "sqs",
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    ).list_queues()
    assert [call["caller"] for call in log(endpoint)["calls"]] == [arn]


def test_nothing_is_kept_unless_asked_for(endpoint: str) -> None:
    log(endpoint, {"record": False})
    client(endpoint, "sqs").list_queues()
    assert log(endpoint) == {"calls": []}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        log(endpoint, {"keep": 1})
