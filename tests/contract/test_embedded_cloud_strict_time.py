"""Strict mode, rules about time: a test asks for them, and counts calls instead of waiting.

For each rule a careless sequence fails on it; asking again, as often as was ordered, passes.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud_parts import (
    HANDLER,
    REGION,
    Connect,
    await_state,
    build_project,
    function,
    image,
    refused,
    role,
    run_instance,
    unique,
    zipped,
)
from strict_judge import Judge, attached_gateway, end, group, subnet

from aistratus import local
from aistratus.local.process import Running
from aistratus.local.strict import RULES

TESTS = Path(__file__).parent.parent
README = Path(local.__file__).with_name("README.md")


def test_every_rule_has_its_row_and_every_row_a_test_that_is_there() -> None:
    rows = re.findall(r"(?m)^\| ([a-z0-9-]+)(?: \(\*(?:calls|every)\*\))? \|", README.read_text())
    assert {rule.name for rule in RULES} <= set(rows)
    written = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    promised = [f"test_{rule.name.replace('-', '_')}" for rule in RULES]
    promised += re.findall(r"`(test_\w+)`", README.read_text())
    assert [name for name in promised if f"def {name}(" not in written] == []


def test_the_rules_can_be_listed_with_their_sources(judge: Judge) -> None:
    with urllib.request.urlopen(judge.address, timeout=20) as answer:
        rules = json.load(answer)["rules"]
    assert {rule["name"] for rule in rules} == {rule.name for rule in RULES}
    assert all(rule["source"].startswith("https://docs.aws.amazon.com/") for rule in rules)


@pytest.mark.parametrize(
    "order",
    [
        {"rule": "no-such-rule", "calls": 1},
        {"rule": "subnet-in-use", "calls": 1},
        {"rule": "not-found-yet", "every": 1},
        {"rule": "not-found-yet", "calls": -1},
        {},
    ],
)
def test_an_order_that_means_nothing_is_refused(judge: Judge, order: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        judge.order(**order)
    assert caught.value.code == 400


def test_a_cloud_that_is_not_strict_has_no_control_path(embedded_cloud: Running, connect: Connect) -> None:
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{embedded_cloud.endpoint}/_aistratus/strict", timeout=20)
    sqs, name = connect("sqs"), unique("queue")
    sqs.delete_queue(QueueUrl=sqs.create_queue(QueueName=name)["QueueUrl"])
    sqs.create_queue(QueueName=name)


# --- EC2 --------------------------------------------------------------------------------------------------------


def test_not_found_yet(judge: Judge, vpc: str) -> None:
    """Each kind: by id, in a listing, by a call that names it, and only what is new."""
    ec2, place = judge("ec2"), subnet(judge, vpc)
    wanted = {"ImageId": image(judge.connect), "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    attached_gateway(judge, vpc)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    judge.delay("not-found-yet", 2)
    assert ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]
    endpoint = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.s3")["VpcEndpoint"]
    key = ec2.import_key_pair(KeyName=unique(), PublicKeyMaterial=PUBLIC_KEY)
    made = {
        ("describe_vpcs", "VpcIds", "InvalidVpcID.NotFound"): ec2.create_vpc(CidrBlock="10.30.0.0/24")["Vpc"]["VpcId"],
        ("describe_subnets", "SubnetIds", "InvalidSubnetID.NotFound"): ec2.create_subnet(
            VpcId=vpc, CidrBlock="10.20.1.0/24"
        )["Subnet"]["SubnetId"],
        (
            "describe_internet_gateways",
            "InternetGatewayIds",
            "InvalidInternetGatewayID.NotFound",
        ): ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"],
        ("describe_route_tables", "RouteTableIds", "InvalidRouteTableID.NotFound"): ec2.create_route_table(VpcId=vpc)[
            "RouteTable"
        ]["RouteTableId"],
        ("describe_security_groups", "GroupIds", "InvalidGroup.NotFound"): group(judge, vpc),
        ("describe_vpc_endpoints", "VpcEndpointIds", "InvalidVpcEndpointId.NotFound"): endpoint["VpcEndpointId"],
        ("describe_key_pairs", "KeyPairIds", "InvalidKeyPair.NotFound"): key["KeyPairId"],
        ("describe_addresses", "AllocationIds", "InvalidAllocationID.NotFound"): ec2.allocate_address(Domain="vpc")[
            "AllocationId"
        ],
        ("describe_nat_gateways", "NatGatewayIds", "NatGatewayNotFound"): ec2.create_nat_gateway(
            SubnetId=place, AllocationId=address
        )["NatGateway"]["NatGatewayId"],
        ("describe_instances", "InstanceIds", "InvalidInstanceID.NotFound"): ec2.run_instances(
            **wanted, SubnetId=place
        )["Instances"][0]["InstanceId"],
    }
    for (listing, parameter, code), identity in made.items():
        assert refused(getattr(ec2, listing), **{parameter: [identity]}) == code
        assert identity not in json.dumps(getattr(ec2, listing)(), default=str)
        assert identity in json.dumps(getattr(ec2, listing)(**{parameter: [identity]}), default=str)
    judge.delay("not-found-yet", 1)
    young = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.2.0/24")["Subnet"]["SubnetId"]
    change = {"SubnetId": young, "MapPublicIpOnLaunch": {"Value": True}}
    assert refused(ec2.modify_subnet_attribute, **change) == "InvalidSubnetID.NotFound"
    ec2.modify_subnet_attribute(**change)
    young = ec2.allocate_address(Domain="vpc")["AllocationId"]
    assert refused(ec2.create_nat_gateway, SubnetId=place, AllocationId=young) == "InvalidElasticIpID.NotFound"
    judge.order(reset=True)
    end(judge, made["describe_instances", "InstanceIds", "InvalidInstanceID.NotFound"])


PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5Jb8Yl7tQ3zvVnCwXyq0m9kqk0b8aQ3p0eZ6b7mJ2v"


def test_tags_not_indexed_yet(judge: Judge) -> None:
    ec2, mark = judge("ec2"), unique()
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "mark", "Value": mark}]}]
    judge.delay("tags-not-indexed-yet", 2)
    made = ec2.create_vpc(CidrBlock="10.30.0.0/24", TagSpecifications=tags)["Vpc"]["VpcId"]
    by_tag = {"Filters": [{"Name": "tag:mark", "Values": [mark]}]}
    assert ec2.describe_vpcs(VpcIds=[made])["Vpcs"]
    assert [len(ec2.describe_vpcs(**by_tag)["Vpcs"]) for _ in range(3)] == [0, 0, 1]


def test_interface_lingers(judge: Judge, vpc: str) -> None:
    ec2, place, own = judge("ec2"), subnet(judge, vpc), group(judge, vpc)
    instance = run_instance(judge.connect, SubnetId=place, SecurityGroupIds=[own])
    await_state(judge.connect, instance, "running")
    judge.delay("interface-lingers", 2)
    end(judge, instance)
    assert refused(ec2.delete_subnet, SubnetId=place) == "DependencyViolation"
    assert refused(ec2.delete_security_group, GroupId=own) == "DependencyViolation"
    ec2.delete_security_group(GroupId=own)
    ec2.delete_subnet(SubnetId=place)


def test_nat_lingers(judge: Judge, vpc: str) -> None:
    ec2, place = judge("ec2"), subnet(judge, vpc)
    attached_gateway(judge, vpc)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    gateway = ec2.create_nat_gateway(SubnetId=place, AllocationId=address)["NatGateway"]["NatGatewayId"]
    judge.delay("nat-lingers", 4)
    ec2.delete_nat_gateway(NatGatewayId=gateway)
    assert refused(ec2.release_address, AllocationId=address) == "InvalidIPAddress.InUse"
    assert refused(ec2.delete_subnet, SubnetId=place) == "DependencyViolation"
    states = [ec2.describe_nat_gateways(NatGatewayIds=[gateway])["NatGateways"][0]["State"] for _ in range(3)]
    assert states == ["deleting", "deleting", "deleted"]
    ec2.release_address(AllocationId=address)
    ec2.delete_subnet(SubnetId=place)


def test_nat_pending(judge: Judge, vpc: str) -> None:
    ec2, place = judge("ec2"), subnet(judge, vpc)
    attached_gateway(judge, vpc)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    judge.delay("nat-pending", 2)
    made = ec2.create_nat_gateway(SubnetId=place, AllocationId=address)["NatGateway"]
    gateway = made["NatGatewayId"]
    states = [ec2.describe_nat_gateways(NatGatewayIds=[gateway])["NatGateways"][0]["State"] for _ in range(3)]
    assert [made["State"], *states] == ["pending", "pending", "pending", "available"]


def test_profile_not_propagated(judge: Judge) -> None:
    profile = unique("profile")
    judge.delay("profile-not-propagated", 2)
    judge("iam").create_instance_profile(InstanceProfileName=profile)
    wanted = {"ImageId": image(judge.connect), "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": {"Name": profile}}
    assert refused(judge("ec2").run_instances, **wanted) == "InvalidParameterValue"
    with pytest.raises(ClientError, match="Invalid IAM Instance Profile name"):
        judge("ec2").run_instances(**wanted)
    end(judge, judge("ec2").run_instances(**wanted)["Instances"][0]["InstanceId"])


def test_no_capacity(judge: Judge) -> None:
    ec2, instance = judge("ec2"), run_instance(judge.connect)
    await_state(judge.connect, instance, "running")
    ec2.stop_instances(InstanceIds=[instance])
    await_state(judge.connect, instance, "stopped")
    judge.delay("no-capacity", 1)
    assert refused(ec2.start_instances, InstanceIds=[instance]) == "InsufficientInstanceCapacity"
    ec2.start_instances(InstanceIds=[instance])
    wanted = {"ImageId": image(judge.connect), "MinCount": 1, "MaxCount": 1, "ClientToken": unique()}
    assert refused(ec2.run_instances, **wanted) == "InsufficientInstanceCapacity"
    end(judge, ec2.run_instances(**wanted)["Instances"][0]["InstanceId"])
    end(judge, instance)


def test_gpu_quota(judge: Judge) -> None:
    ec2, instance = judge("ec2"), run_instance(judge.connect)
    await_state(judge.connect, instance, "running")
    ec2.stop_instances(InstanceIds=[instance])
    await_state(judge.connect, instance, "stopped")
    judge.delay("gpu-quota", 1)
    ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "g4dn.xlarge"})
    assert refused(ec2.start_instances, InstanceIds=[instance]) == "VcpuLimitExceeded"
    ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.small"})
    ec2.start_instances(InstanceIds=[instance])
    end(judge, instance)


# --- Lambda -----------------------------------------------------------------------------------------------------


def test_role_not_assumable(judge: Judge) -> None:
    client, old = judge("lambda"), role(judge.connect)
    judge.delay("role-not-assumable", 1)
    name = function(judge.connect, Role=old)
    new = role(judge.connect)
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        function(judge.connect, Role=new)
    function(judge.connect, Role=new)
    change = {"FunctionName": name, "Role": role(judge.connect)}
    assert refused(client.update_function_configuration, **change) == "InvalidParameterValueException"
    client.update_function_configuration(**change)


def test_build_role_not_assumable(judge: Judge) -> None:
    builds, old = judge("codebuild"), build_project(judge.connect)
    builds.create_project(**old)
    foreign = role(judge.connect, "lambda.amazonaws.com")
    assert (
        refused(builds.create_project, **build_project(judge.connect, serviceRole=foreign)) == "InvalidInputException"
    )
    judge.delay("build-role-not-assumable", 1)
    new = build_project(judge.connect)
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        builds.create_project(**new)
    builds.create_project(**new)
    change = {"name": old["name"], "serviceRole": role(judge.connect, "codebuild.amazonaws.com")}
    assert refused(builds.update_project, **change) == "InvalidInputException"
    builds.update_project(**change)


def test_function_in_progress(judge: Judge) -> None:
    client = judge("lambda")
    judge.delay("function-in-progress", 2)
    name = function(judge.connect)
    new = [client.get_function(FunctionName=name)["Configuration"]["State"] for _ in range(3)]
    assert new == ["Pending", "Pending", "Active"]
    assert client.update_function_configuration(FunctionName=name, Timeout=5)["LastUpdateStatus"] == "InProgress"
    assert refused(client.publish_version, FunctionName=name) == "ResourceConflictException"
    assert (
        refused(client.update_function_code, FunctionName=name, ZipFile=zipped({"code.py": HANDLER}))
        == "ResourceConflictException"
    )
    version = client.publish_version(FunctionName=name)["Version"]
    client.update_function_configuration(FunctionName=name, Timeout=6)
    alias = {"FunctionName": name, "Name": "live", "FunctionVersion": version}
    assert refused(client.create_alias, **alias) == "ResourceConflictException"
    states = [client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] for _ in range(2)]
    assert states == ["InProgress", "Successful"]
    client.create_alias(**alias)


# --- SQS and S3 -------------------------------------------------------------------------------------------------


def test_queue_deleted_recently(judge: Judge) -> None:
    sqs, name = judge("sqs"), unique("queue")
    sqs.delete_queue(QueueUrl=sqs.create_queue(QueueName=name)["QueueUrl"])
    assert refused(sqs.create_queue, QueueName=name) == "AWS.SimpleQueueService.QueueDeletedRecently"
    judge.order(advance_s=61)
    sqs.create_queue(QueueName=name)


def test_queue_settling(judge: Judge) -> None:
    sqs = judge("sqs")
    url = sqs.create_queue(QueueName=unique("queue"), Attributes={"VisibilityTimeout": "30"})["QueueUrl"]
    judge.delay("queue-settling", 2)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "45"})
    sqs.send_message(QueueUrl=url, MessageBody="x")
    seen = [sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for _ in range(3)]
    assert [entry["VisibilityTimeout"] for entry in seen] == ["30", "30", "45"]
    assert [entry["ApproximateNumberOfMessages"] for entry in seen] == ["1", "1", "1"]


def test_queue_lingers(judge: Judge) -> None:
    sqs, name = judge("sqs"), unique("queue")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    judge.delay("queue-lingers", 2)
    sqs.delete_queue(QueueUrl=url)
    seen = [len(sqs.list_queues(QueueNamePrefix=name).get("QueueUrls", [])) for _ in range(3)]
    assert seen == [1, 1, 0]
    code = refused(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])
    assert code == "AWS.SimpleQueueService.NonExistentQueue"


def test_secret_lingers(judge: Judge) -> None:
    secrets, name = judge("secretsmanager"), unique("secret")
    judge.delay("secret-lingers", 2)
    secrets.create_secret(Name=name)
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    assert ["DeletedDate" in secrets.describe_secret(SecretId=name) for _ in range(2)] == [True, True]
    assert refused(secrets.describe_secret, SecretId=name) == "ResourceNotFoundException"
    assert [refused(secrets.create_secret, Name=name) for _ in range(2)] == ["InvalidRequestException"] * 2
    secrets.create_secret(Name=name)
    assert "DeletedDate" not in secrets.describe_secret(SecretId=name)


def test_bucket_name_busy(judge: Judge) -> None:
    s3, wanted = judge("s3"), {"Bucket": unique("bucket"), "CreateBucketConfiguration": {"LocationConstraint": REGION}}
    judge.delay("bucket-name-busy", 2)
    s3.create_bucket(**wanted)
    s3.delete_bucket(Bucket=wanted["Bucket"])
    assert [refused(s3.create_bucket, **wanted) for _ in range(2)] == ["OperationAborted"] * 2
    s3.create_bucket(**wanted)


def test_topic_tags_linger(judge: Judge) -> None:
    sns, wanted = judge("sns"), {"Name": unique("topic"), "Tags": [{"Key": "Project", "Value": "x"}]}
    judge.delay("topic-tags-linger", 2)
    sns.delete_topic(TopicArn=sns.create_topic(**wanted)["TopicArn"])
    assert [refused(sns.create_topic, **wanted) for _ in range(2)] == ["StaleTag"] * 2
    sns.create_topic(**wanted)


def test_changed_at_once(judge: Judge) -> None:
    cognito, profile = judge("cognito-idp"), {"InstanceProfileName": unique("profile")}
    pool = cognito.create_user_pool(PoolName=unique("pool"))["UserPool"]["Id"]
    domain = {"UserPoolId": pool, "Domain": unique("domain").lower().replace("_", "-")}
    judge.delay("changed-at-once", 1)
    assert refused(cognito.create_user_pool_domain, **domain) == "ConcurrentModificationException"
    assert refused(judge("iam").create_instance_profile, **profile) == "ConcurrentModification"
    cognito.create_user_pool_domain(**domain)
    judge("iam").create_instance_profile(**profile)


# --- throttling -------------------------------------------------------------------------------------------------


def test_parameter_throttled(judge: Judge) -> None:
    put = {"Name": f"/{unique()}", "Type": "String", "Value": "x", "Overwrite": True}
    judge.throttle("parameter-throttled", 2)
    judge("ssm").put_parameter(**put)
    assert refused(judge("ssm").put_parameter, **put) == "ThrottlingException"
    judge("ssm").put_parameter(**put)


def test_ec2_throttled(judge: Judge, vpc: str) -> None:
    ec2, tags = judge("ec2"), {"Resources": [vpc], "Tags": [{"Key": "a", "Value": "b"}]}
    judge.throttle("ec2-throttled", 2)
    ec2.create_tags(**tags)
    ec2.describe_vpcs(VpcIds=[vpc])
    assert refused(ec2.create_tags, **tags) == "RequestLimitExceeded"
    ec2.create_tags(**tags)


def test_iam_throttled(judge: Judge) -> None:
    iam, name = judge("iam"), role(judge.connect).split("/")[1]
    judge.throttle("iam-throttled", 2)
    iam.update_role(RoleName=name, Description="one")
    iam.get_role(RoleName=name)
    assert refused(iam.update_role, RoleName=name, Description="two") == "Throttling"
    iam.update_role(RoleName=name, Description="three")


def test_api_throttled(judge: Judge) -> None:
    judge.throttle("api-throttled", 2)
    judge("apigatewayv2").get_apis()
    assert refused(judge("apigatewayv2").get_apis) == "TooManyRequestsException"
    judge("apigatewayv2").get_apis()


def published(judge: Judge) -> dict[str, str]:
    """A new function with an alias, as calls on provisioned concurrency name it."""
    name = function(judge.connect)
    version = judge("lambda").publish_version(FunctionName=name)["Version"]
    judge("lambda").create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    return {"FunctionName": name, "Qualifier": "live"}


def test_provisioned_in_progress(judge: Judge) -> None:
    client, which = judge("lambda"), published(judge)
    judge.delay("provisioned-in-progress", 1)
    client.put_provisioned_concurrency_config(**which, ProvisionedConcurrentExecutions=2)
    states = [client.get_provisioned_concurrency_config(**which)["Status"] for _ in range(2)]
    assert states == ["IN_PROGRESS", "READY"]
    client.update_function_configuration(FunctionName=which["FunctionName"], Timeout=9)
    version = client.publish_version(FunctionName=which["FunctionName"])["Version"]
    client.update_alias(FunctionName=which["FunctionName"], Name="live", FunctionVersion=version)
    alias = client.get_alias(FunctionName=which["FunctionName"], Name="live")
    assert alias["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 1.0}}
    more = {**which, "ProvisionedConcurrentExecutions": 3}
    assert refused(client.put_provisioned_concurrency_config, **more) == "InvalidParameterValueException"
    assert "RoutingConfig" not in client.get_alias(FunctionName=which["FunctionName"], Name="live")
    client.put_provisioned_concurrency_config(**more)


def test_policy_changed_at_once(judge: Judge) -> None:
    client, name = judge("lambda"), function(judge.connect)
    judge.delay("policy-changed-at-once", 1)
    wanted = {"FunctionName": name, "StatementId": "one", "Action": "lambda:InvokeFunction",
              "Principal": "events.amazonaws.com"}  # fmt: skip
    assert refused(client.add_permission, **wanted) == "ResourceConflictException"
    client.add_permission(**wanted)


def test_provisioning_fails(judge: Judge) -> None:
    client, which = judge("lambda"), published(judge)
    judge.delay("provisioning-fails", 1)
    client.put_provisioned_concurrency_config(**which, ProvisionedConcurrentExecutions=2)
    assert client.get_provisioned_concurrency_config(**which)["Status"] == "FAILED"
    client.put_provisioned_concurrency_config(**which, ProvisionedConcurrentExecutions=2)
    assert client.get_provisioned_concurrency_config(**which)["Status"] == "READY"
    client.delete_alias(FunctionName=which["FunctionName"], Name="live")
    assert refused(client.get_provisioned_concurrency_config, **which) == "ResourceNotFoundException"
