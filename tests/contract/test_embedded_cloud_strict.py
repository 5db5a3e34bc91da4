"""Strict mode, order, state and limits: for each rule a careless call that fails on it, and the way that passes.

The test of a rule is called `test_<rule>` with underscores. Rules about time: `test_embedded_cloud_strict_time.py`.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from datetime import datetime, timedelta
from typing import Any

from embedded_cloud_parts import (
    REGION,
    await_state,
    build_project,
    complete_connection,
    function,
    image,
    refused,
    role,
    run_instance,
    unique,
)
from strict_judge import Judge, attached_gateway, end, group, subnet


def test_subnet_in_use(judge: Judge, vpc: str) -> None:
    place = subnet(judge, vpc)
    instance = run_instance(judge.connect, SubnetId=place)
    assert refused(judge("ec2").delete_subnet, SubnetId=place) == "DependencyViolation"
    end(judge, instance)
    judge("ec2").delete_subnet(SubnetId=place)


def test_security_group_in_use(judge: Judge, vpc: str) -> None:
    ec2, used, naming = judge("ec2"), group(judge, vpc), group(judge, vpc)
    ec2.authorize_security_group_ingress(
        GroupId=naming,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": used}]}],
    )
    assert refused(ec2.delete_security_group, GroupId=used) == "DependencyViolation"
    ec2.delete_security_group(GroupId=naming)
    instance = run_instance(judge.connect, SubnetId=subnet(judge, vpc), SecurityGroupIds=[used])
    assert refused(ec2.delete_security_group, GroupId=used) == "DependencyViolation"
    end(judge, instance)
    ec2.delete_security_group(GroupId=used)


def test_public_address_mapped(judge: Judge, vpc: str) -> None:
    ec2 = judge("ec2")
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    instance = run_instance(
        judge.connect,
        NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet(judge, vpc), "AssociatePublicIpAddress": True}],
    )
    detach = {"InternetGatewayId": gateway, "VpcId": vpc}
    assert refused(ec2.detach_internet_gateway, **detach) == "DependencyViolation"
    end(judge, instance)
    ec2.detach_internet_gateway(**detach)


def test_vpc_in_use(judge: Judge, vpc: str) -> None:
    ec2, own = judge("ec2"), group(judge, vpc)
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    ec2.delete_security_group(GroupId=own)
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    made = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.s3")["VpcEndpoint"]
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])
    place, table = subnet(judge, vpc), ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    ec2.delete_subnet(SubnetId=place)
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    ec2.delete_route_table(RouteTableId=table)
    ec2.delete_vpc(VpcId=vpc)


def test_address_in_use(judge: Judge, vpc: str) -> None:
    ec2 = judge("ec2")
    attached_gateway(judge, vpc)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    gateway = ec2.create_nat_gateway(SubnetId=subnet(judge, vpc), AllocationId=address)["NatGateway"]["NatGatewayId"]
    assert refused(ec2.release_address, AllocationId=address) == "InvalidIPAddress.InUse"
    ec2.delete_nat_gateway(NatGatewayId=gateway)
    ec2.release_address(AllocationId=address)


def test_nat_fails(judge: Judge, vpc: str) -> None:
    """Without an internet gateway, or with an address that is taken; a failed one holds nothing."""
    ec2, place = judge("ec2"), subnet(judge, vpc)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    wanted = {"SubnetId": place, "AllocationId": address}

    def outcome() -> tuple[str, str]:
        made = ec2.create_nat_gateway(**wanted)["NatGateway"]
        return made["State"], made.get("FailureCode", "")

    assert outcome() == ("failed", "Gateway.NotAttached")
    way_out = attached_gateway(judge, vpc)
    assert outcome() == ("available", "")
    assert outcome() == ("failed", "Resource.AlreadyAssociated")
    detach = {"InternetGatewayId": way_out, "VpcId": vpc}
    assert refused(ec2.detach_internet_gateway, **detach) == "DependencyViolation"
    assert refused(ec2.delete_subnet, SubnetId=place) == "DependencyViolation"
    in_vpc = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "state", "Values": ["available"]}]
    (gateway,) = ec2.describe_nat_gateways(Filter=in_vpc)["NatGateways"]
    ec2.delete_nat_gateway(NatGatewayId=gateway["NatGatewayId"])
    ec2.detach_internet_gateway(**detach)
    ec2.delete_subnet(SubnetId=place)
    ec2.release_address(AllocationId=address)


def test_shape_needs_stopped(judge: Judge) -> None:
    ec2, instance = judge("ec2"), run_instance(judge.connect)
    change: dict[str, Any] = {"InstanceId": instance, "InstanceType": {"Value": "g4dn.xlarge"}}
    assert refused(ec2.modify_instance_attribute, **change) == "IncorrectInstanceState"
    data: dict[str, Any] = {"InstanceId": instance, "UserData": {"Value": b"#!/bin/sh"}}
    assert refused(ec2.modify_instance_attribute, **data) == "IncorrectInstanceState"
    ec2.stop_instances(InstanceIds=[instance])
    await_state(judge.connect, instance, "stopped")
    ec2.modify_instance_attribute(**change)
    ec2.modify_instance_attribute(**data)


def test_profile_replaced_running(judge: Judge) -> None:
    ec2, names = judge("ec2"), [unique("profile"), unique("profile")]
    for name in names:
        judge("iam").create_instance_profile(InstanceProfileName=name)
    instance = run_instance(judge.connect, IamInstanceProfile={"Name": names[0]})
    await_state(judge.connect, instance, "running")
    ec2.stop_instances(InstanceIds=[instance])
    await_state(judge.connect, instance, "stopped")
    filters = [{"Name": "instance-id", "Values": [instance]}]
    (there,) = ec2.describe_iam_instance_profile_associations(Filters=filters)["IamInstanceProfileAssociations"]
    other: dict[str, Any] = {"AssociationId": there["AssociationId"], "IamInstanceProfile": {"Name": names[1]}}
    assert refused(ec2.replace_iam_instance_profile_association, **other) == "IncorrectState"
    ec2.start_instances(InstanceIds=[instance])
    await_state(judge.connect, instance, "running")
    ec2.replace_iam_instance_profile_association(**other)


def test_user_data_size(judge: Judge) -> None:
    wanted = {"ImageId": image(judge.connect), "MinCount": 1, "MaxCount": 1}
    assert refused(judge("ec2").run_instances, **wanted, UserData="x" * 16_385) == "InvalidParameterValue"
    run_instance(judge.connect, UserData="x" * 16_384)


def test_role_in_use(judge: Judge) -> None:
    iam, name, profile = judge("iam"), role(judge.connect).split("/")[1], unique("profile")
    iam.put_role_policy(
        RoleName=name,
        PolicyName="p",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
        ),
    )
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
    iam.create_instance_profile(InstanceProfileName=profile)
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=name)
    assert refused(iam.delete_role, RoleName=name) == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=name)
    assert refused(iam.delete_role, RoleName=name) == "DeleteConflict"
    iam.detach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
    assert refused(iam.delete_role, RoleName=name) == "DeleteConflict"
    iam.delete_role_policy(RoleName=name, PolicyName="p")
    iam.delete_role(RoleName=name)


def test_inline_policy_size(judge: Judge) -> None:
    def policy(actions: int) -> str:
        return json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"] * actions, "Resource": "*"}],
            },
            indent=4,
        )

    name = role(judge.connect).split("/")[1]
    put = {"RoleName": name, "PolicyName": "p"}
    assert refused(judge("iam").put_role_policy, **put, PolicyDocument=policy(1000)) == "LimitExceeded"
    judge("iam").put_role_policy(**put, PolicyDocument=policy(600))


def test_managed_policies_per_role(judge: Judge) -> None:
    iam, name = judge("iam"), role(judge.connect).split("/")[1]
    policies = [one["Arn"] for one in iam.list_policies(Scope="AWS", MaxItems=11)["Policies"]]
    for arn in policies[:10]:
        iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    assert refused(iam.attach_role_policy, RoleName=name, PolicyArn=policies[10]) == "LimitExceeded"


def test_environment_size(judge: Judge) -> None:
    client, name = judge("lambda"), function(judge.connect)
    large = {"FunctionName": name, "Environment": {"Variables": {"A": "x" * 4_096}}}
    assert refused(client.update_function_configuration, **large) == "InvalidParameterValueException"
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"A": "x" * 4_095}})


def test_role_made_anew(judge: Judge) -> None:
    client, iam, own, other = judge("lambda"), judge("iam"), role(judge.connect), role(judge.connect)
    name = function(judge.connect, Role=own, Environment={"Variables": {"A": "x"}})
    trust = json.dumps(iam.get_role(RoleName=own.rpartition("/")[2])["Role"]["AssumeRolePolicyDocument"])
    iam.delete_role(RoleName=own.rpartition("/")[2])
    iam.create_role(RoleName=own.rpartition("/")[2], AssumeRolePolicyDocument=trust)
    client.update_function_configuration(FunctionName=name, Role=own, Environment={"Variables": {"A": "y"}})
    assert refused(client.invoke, FunctionName=name) == "KMSAccessDeniedException"
    for one in (other, own):
        client.update_function_configuration(FunctionName=name, Role=one)
    assert "FunctionError" not in client.invoke(FunctionName=name)


def test_zip_size(judge: Judge) -> None:
    code = refused(
        judge("lambda").create_function,
        FunctionName=unique(),
        Role=role(judge.connect),
        Runtime="python3.13",
        Handler="code.handle",
        Code={"ZipFile": b"\0" * 52_428_801},
    )
    assert code == "RequestEntityTooLargeException"


def test_version_in_use(judge: Judge) -> None:
    client, name = judge("lambda"), function(judge.connect)
    version = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    assert refused(client.delete_function, FunctionName=name, Qualifier=version) == "ResourceConflictException"
    client.delete_alias(FunctionName=name, Name="live")
    client.delete_function(FunctionName=name, Qualifier=version)


def test_bucket_not_empty(judge: Judge) -> None:
    s3, name = judge("s3"), unique("bucket")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=name, Key="k", Body=b"1")
    s3.delete_object(Bucket=name, Key="k")
    assert refused(s3.delete_bucket, Bucket=name) == "BucketNotEmpty"
    listed = s3.list_object_versions(Bucket=name)
    for one in listed["Versions"] + listed["DeleteMarkers"]:
        s3.delete_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])
    s3.delete_bucket(Bucket=name)


def test_parameter_size(judge: Judge) -> None:
    ssm, name = judge("ssm"), f"/{unique()}"
    assert refused(ssm.put_parameter, Name=name, Type="String", Value="x" * 4_097) == "ValidationException"
    ssm.put_parameter(Name=name, Type="String", Value="x" * 4_096)


def test_retention_values(judge: Judge) -> None:
    logs, name = judge("logs"), unique("/group")
    logs.create_log_group(logGroupName=name)
    assert refused(logs.put_retention_policy, logGroupName=name, retentionInDays=31) == "InvalidParameterException"
    logs.put_retention_policy(logGroupName=name, retentionInDays=30)


def test_pool_domain_first(judge: Judge) -> None:
    cognito, domain = judge("cognito-idp"), unique("domain")
    pool = cognito.create_user_pool(PoolName=unique())["UserPool"]["Id"]
    cognito.create_user_pool_domain(Domain=domain, UserPoolId=pool)
    assert refused(cognito.delete_user_pool, UserPoolId=pool) == "InvalidParameterException"
    cognito.delete_user_pool_domain(Domain=domain, UserPoolId=pool)
    cognito.delete_user_pool(UserPoolId=pool)


def test_profile_in_use(judge: Judge) -> None:
    iam, name, profile = judge("iam"), role(judge.connect).split("/")[1], unique("profile")
    iam.create_instance_profile(InstanceProfileName=profile)
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=name)
    assert refused(iam.delete_instance_profile, InstanceProfileName=profile) == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=name)
    iam.delete_instance_profile(InstanceProfileName=profile)


def test_spot_not_stopped(judge: Judge) -> None:
    spot = run_instance(judge.connect, InstanceMarketOptions={"MarketType": "spot"})
    assert refused(judge("ec2").stop_instances, InstanceIds=[spot]) == "UnsupportedOperation"
    end(judge, spot)


def test_launch_time(judge: Judge) -> None:
    def launched() -> datetime:
        found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["LaunchTime"]
        assert isinstance(found, datetime)
        return found

    ec2, instance = judge("ec2"), run_instance(judge.connect)
    first = launched()
    ec2.stop_instances(InstanceIds=[instance])
    await_state(judge.connect, instance, "stopped")
    judge.order(advance_s=3_600)
    assert launched() == first
    ec2.start_instances(InstanceIds=[instance])
    assert launched() - first >= timedelta(hours=1)
    await_state(judge.connect, instance, "running")
    again = launched()
    ec2.start_instances(InstanceIds=[instance])
    assert launched() == again
    end(judge, instance)


def test_agent_needs_role_and_way_out(judge: Judge, vpc: str) -> None:
    ec2, ssm, iam, place = judge("ec2"), judge("ssm"), judge("iam"), subnet(judge, vpc)
    name, profile = role(judge.connect, "ec2.amazonaws.com").split("/")[1], unique("profile")
    iam.create_instance_profile(InstanceProfileName=profile)
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=name)
    instance = run_instance(
        judge.connect,
        IamInstanceProfile={"Name": profile},
        NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": place, "AssociatePublicIpAddress": True}],
    )
    await_state(judge.connect, instance, "running")

    def managed() -> bool:
        listed = ssm.describe_instance_information()["InstanceInformationList"]
        return instance in {one["InstanceId"] for one in listed}

    command = {"InstanceIds": [instance], "DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}}
    assert not managed()
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=table, SubnetId=place)
    assert not managed()
    assert refused(ssm.send_command, **command) == "InvalidInstanceId"
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
    assert managed()
    ssm.send_command(**command)
    end(judge, instance)


def test_unzipped_size(judge: Judge) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("code.py", "")
        archive.infolist()[0].file_size = 262_144_001  # goes by what the archive's directory says
    code = refused(
        judge("lambda").create_function,
        FunctionName=unique(),
        Role=role(judge.connect),
        Runtime="python3.13",
        Handler="code.handle",
        Code={"ZipFile": content.getvalue()},
    )
    assert code == "InvalidParameterValueException"


def test_provisioned_needs_version(judge: Judge) -> None:
    client, name = judge("lambda"), function(judge.connect)
    wanted = {"FunctionName": name, "ProvisionedConcurrentExecutions": 1, "Qualifier": "live"}
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    assert refused(client.put_provisioned_concurrency_config, **wanted) == "InvalidParameterValueException"
    client.update_alias(
        FunctionName=name, Name="live", FunctionVersion=client.publish_version(FunctionName=name)["Version"]
    )
    client.put_provisioned_concurrency_config(**wanted)


def test_issuer_unreachable(judge: Judge) -> None:
    client = judge("apigatewayv2")
    api = client.create_api(Name=unique(), ProtocolType="HTTP")["ApiId"]

    def authorizer(pool: str) -> dict[str, Any]:
        issuer = f"https://cognito-idp.{REGION}.amazonaws.com/{pool}"
        return {
            "ApiId": api,
            "Name": "jwt",
            "AuthorizerType": "JWT",
            "IdentitySource": ["$request.header.x"],
            "JwtConfiguration": {"Audience": ["c"], "Issuer": issuer},
        }

    assert refused(client.create_authorizer, **authorizer(f"{REGION}_none")) == "BadRequestException"
    pool = judge("cognito-idp").create_user_pool(PoolName=unique())["UserPool"]["Id"]
    made = client.create_authorizer(**authorizer(pool))["AuthorizerId"]
    change = {**authorizer(f"{REGION}_none"), "AuthorizerId": made}
    assert refused(client.update_authorizer, **change) == "BadRequestException"


def test_domain_name(judge: Judge) -> None:
    cognito = judge("cognito-idp")
    pool = cognito.create_user_pool(PoolName=unique())["UserPool"]["Id"]
    for name in ("my-aws-pages", "cognito1", "Upper", "-dash", "under_score"):
        assert refused(cognito.create_user_pool_domain, Domain=name, UserPoolId=pool) == "InvalidParameterException"


def test_callback_over_http(judge: Judge) -> None:
    cognito = judge("cognito-idp")
    pool = cognito.create_user_pool(PoolName=unique())["UserPool"]["Id"]
    make = cognito.create_user_pool_client
    wrong = ["http://localhost.example/callback"]
    right = ["http://localhost:1/callback", "http://127.0.0.1:1/", "https://a.example/", "app://x"]
    made = make(UserPoolId=pool, ClientName="c", CallbackURLs=right)["UserPoolClient"]["ClientId"]
    assert refused(make, UserPoolId=pool, ClientName="c", CallbackURLs=wrong) == "InvalidParameterException"
    update = cognito.update_user_pool_client
    assert refused(update, UserPoolId=pool, ClientId=made, LogoutURLs=wrong) == "InvalidParameterException"


def test_domain_taken(judge: Judge) -> None:
    cognito, domain = judge("cognito-idp"), unique("domain")
    first, second = (cognito.create_user_pool(PoolName=unique())["UserPool"]["Id"] for _ in range(2))
    cognito.create_user_pool_domain(Domain=domain, UserPoolId=first)
    assert refused(cognito.create_user_pool_domain, Domain=domain, UserPoolId=second) == "InvalidParameterException"
    assert (
        refused(cognito.create_user_pool_domain, Domain=unique("domain"), UserPoolId=first)
        == "InvalidParameterException"
    )
    cognito.delete_user_pool_domain(Domain=domain, UserPoolId=first)
    cognito.create_user_pool_domain(Domain=domain, UserPoolId=second)


def test_ttl_takes_days(judge: Judge) -> None:
    dynamodb, name = judge("dynamodb"), unique("table")
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )
    dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "at"})
    key = {"pk": {"S": "old"}}
    dynamodb.put_item(TableName=name, Item={**key, "at": {"N": str(int(time.time()) - 5)}})
    judge.order(advance_s=3600)
    assert "Item" in dynamodb.get_item(TableName=name, Key=key)
    judge.order(advance_s=2 * 86_400)
    assert "Item" not in dynamodb.get_item(TableName=name, Key=key)


def test_secret_scheduled(judge: Judge) -> None:
    secrets, name = judge("secretsmanager"), unique()
    secrets.create_secret(Name=name, SecretString="x")
    secrets.delete_secret(SecretId=name)
    assert refused(secrets.create_secret, Name=name, SecretString="y") == "InvalidRequestException"
    assert refused(secrets.put_secret_value, SecretId=name, SecretString="y") == "InvalidRequestException"
    assert refused(secrets.tag_resource, SecretId=name, Tags=[]) == "InvalidRequestException"
    secrets.restore_secret(SecretId=name)
    assert secrets.get_secret_value(SecretId=name)["SecretString"] == "x"
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    secrets.create_secret(Name=name, SecretString="y")


# --- CloudWatch -------------------------------------------------------------------------------------------------------


def plain_alarm(**changed: Any) -> dict[str, Any]:
    return {
        "AlarmName": unique("a"), "Namespace": "N", "MetricName": "m", "Statistic": "Sum", "Period": 300,
        "EvaluationPeriods": 3, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold", **changed,
    }  # fmt: skip


def test_alarm_one_source(judge: Judge) -> None:
    put = judge("cloudwatch").put_metric_alarm
    stat = {"Metric": {"Namespace": "N", "MetricName": "m"}, "Period": 60, "Stat": "Sum"}
    metric = {"Id": "m", "MetricStat": stat, "ReturnData": False}
    watched = {"Id": "e", "Expression": "m * 2", "ReturnData": True}
    assert refused(put, **plain_alarm(Metrics=[watched, metric])) == "InvalidParameterCombination"
    assert refused(put, **plain_alarm(ExtendedStatistic="p95")) == "InvalidParameterCombination"
    math = plain_alarm()
    for name in ("Namespace", "MetricName", "Statistic", "Period"):
        del math[name]
    assert refused(put, **math, Metrics=[watched, {**metric, "ReturnData": True}]) == "ValidationError"
    put(**math, Metrics=[watched, metric])
    put(**plain_alarm())


def test_alarm_period(judge: Judge) -> None:
    put = judge("cloudwatch").put_metric_alarm
    assert refused(put, **plain_alarm(Period=90)) == "ValidationError"
    assert refused(put, **plain_alarm(EvaluationPeriods=289)) == "ValidationError"
    put(**plain_alarm(Period=3_600, EvaluationPeriods=168))
    put(**plain_alarm(Period=10))


def test_dashboard_body(judge: Judge) -> None:
    put, name = judge("cloudwatch").put_dashboard, unique("d")
    text = {"type": "text", "properties": {"markdown": "hello"}}
    row = ["AWS/SQS", "NumberOfMessagesSent", "QueueName"]
    graph = {"type": "metric", "properties": {"region": REGION, "metrics": [row]}}
    for widget in ({**text, "type": "picture"}, {**text, "x": 20}, {"type": "metric", "properties": {}}, graph):
        body = json.dumps({"widgets": [text, widget]})
        assert refused(put, DashboardName=name, DashboardBody=body) == "InvalidParameterInput"
    row.append("jobs")
    put(DashboardName=name, DashboardBody=json.dumps({"widgets": [text, graph]}))


def test_build_connection_refused(judge: Judge) -> None:
    builds, iam = judge("codebuild"), judge("iam")
    arn = judge("codeconnections").create_connection(ConnectionName=unique(), ProviderType="GitHub")["ConnectionArn"]
    wanted = build_project(judge.connect)
    wanted["source"]["auth"] = {"type": "CODECONNECTIONS", "resource": arn}
    allowed = {"Effect": "Allow", "Action": "codeconnections:*", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=wanted["serviceRole"].rpartition("/")[2], PolicyName="use", PolicyDocument=policy)
    assert refused(builds.create_project, **wanted) == "OAuthProviderException"  # nobody has completed it
    complete_connection(judge.connect, arn)
    builds.create_project(**wanted)
    another = build_project(judge.connect, source=wanted["source"])
    assert refused(builds.create_project, **another) == "OAuthProviderException"  # its role may not use it
    plain = build_project(judge.connect)
    builds.create_project(**plain)
    assert refused(builds.update_project, name=plain["name"], source=wanted["source"]) == "OAuthProviderException"
