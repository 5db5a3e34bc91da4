"""Rules that hold in the embedded cloud whether it is strict or not: moto keeps them, or the shim does.

They are written down here because other parts count on them, and because moto may change.
"""

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore.config import Config
from embedded_cloud_parts import (
    REGION,
    Connect,
    await_state,
    eventually,
    function,
    log_lines,
    refused,
    run_instance,
    unique,
    upload_node,
    user_data,
)

from aistratus.local.process import Running


def test_get_parameters_takes_ten_names(connect: Connect) -> None:
    names = [f"/{unique()}" for _ in range(11)]
    assert refused(connect("ssm").get_parameters, Names=names) == "ValidationException"
    assert len(connect("ssm").get_parameters(Names=names[:10])["InvalidParameters"]) == 10


def test_parameters_by_path_come_in_pages_of_ten(connect: Connect) -> None:
    ssm, path = connect("ssm"), f"/{unique()}"
    for number in range(11):
        ssm.put_parameter(Name=f"{path}/{number}", Type="String", Value="x")
    page = ssm.get_parameters_by_path(Path=path)
    assert (len(page["Parameters"]), bool(page.get("NextToken"))) == (10, True)
    assert len(ssm.get_parameters_by_path(Path=path, NextToken=page["NextToken"])["Parameters"]) == 1
    assert refused(ssm.get_parameters_by_path, Path=path, MaxResults=11) == "ValidationException"


def test_a_location_is_given_everywhere_but_in_us_east_1(connect: Connect, embedded_cloud: Running) -> None:
    virginia = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=embedded_cloud.endpoint,
        aws_access_key_id="t",
        aws_secret_access_key="t",
        config=Config(retries={"total_max_attempts": 1}),
    )
    named: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": "us-east-1"}}
    assert refused(connect("s3").create_bucket, Bucket=unique("b")) == "IllegalLocationConstraintException"
    assert refused(virginia.create_bucket, Bucket=unique("b"), **named) == "InvalidLocationConstraint"
    virginia.create_bucket(Bucket=unique("b"))
    connect("s3").create_bucket(Bucket=unique("b"), CreateBucketConfiguration={"LocationConstraint": REGION})


def test_a_user_name_is_taken_once_and_a_client_name_is_not(connect: Connect) -> None:
    cognito = connect("cognito-idp")
    pool = cognito.create_user_pool(PoolName=unique())["UserPool"]["Id"]
    ada = {"UserPoolId": pool, "Username": "ada", "MessageAction": "SUPPRESS"}
    cognito.admin_create_user(**ada)
    assert refused(cognito.admin_create_user, **ada) == "UsernameExistsException"
    clients = {
        cognito.create_user_pool_client(UserPoolId=pool, ClientName="app")["UserPoolClient"]["ClientId"]
        for _ in range(2)
    }
    assert len(clients) == 2


def test_a_message_over_the_queues_limit_is_refused(connect: Connect) -> None:
    sqs = connect("sqs")
    url = sqs.create_queue(QueueName=unique(), Attributes={"MaximumMessageSize": "262144"})["QueueUrl"]
    assert refused(sqs.send_message, QueueUrl=url, MessageBody="x" * 262_145) == "InvalidParameterValue"
    sqs.send_message(QueueUrl=url, MessageBody="x" * 262_144)


def test_an_oidc_provider_is_one_per_url(connect: Connect) -> None:
    iam, url = connect("iam"), f"https://{unique()}.example.com"
    provider = {"Url": url, "ThumbprintList": ["a" * 40], "ClientIDList": ["sts.amazonaws.com"]}
    iam.create_open_id_connect_provider(**provider)
    assert refused(iam.create_open_id_connect_provider, **provider) == "EntityAlreadyExists"


SLOW_TO_END = """
import signal, sys, time
print("started", flush=True)
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1.5), sys.exit(0)))
while True:
    time.sleep(0.02)
"""


def test_an_instance_that_is_stopping_cannot_be_started(connect: Connect) -> None:
    ec2, bucket, group = connect("ec2"), unique("bucket"), unique("/group")
    connect("logs").create_log_group(logGroupName=group)
    upload_node(connect, bucket, group=group, worker=SLOW_TO_END)
    instance = run_instance(connect, UserData=user_data(bucket))
    assert "started" in eventually(lambda: log_lines(connect, group))
    await_state(connect, instance, "running")
    ec2.stop_instances(InstanceIds=[instance])
    assert refused(ec2.start_instances, InstanceIds=[instance]) == "IncorrectInstanceState"
    await_state(connect, instance, "stopped")
    ec2.start_instances(InstanceIds=[instance])
    await_state(connect, instance, "running")
    ec2.terminate_instances(InstanceIds=[instance])


def test_a_log_group_comes_back_when_its_function_logs_again(connect: Connect) -> None:
    logs, name = connect("logs"), function(connect)
    group = f"/aws/lambda/{name}"

    def there() -> bool:
        return group in {one["logGroupName"] for one in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]}

    for _ in range(2):
        connect("lambda").invoke(FunctionName=name, Payload=json.dumps({}).encode())
        assert eventually(there)
        logs.delete_log_group(logGroupName=group)
        assert not there()
    connect("lambda").delete_function(FunctionName=name)
