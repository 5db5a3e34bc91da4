"""S3, IAM's simulator and the tagging API in the embedded cloud."""

from __future__ import annotations

import json
from typing import Any

import pytest
from embedded_cloud_parts import REGION, Connect, refused, role, unique


@pytest.fixture
def bucket(connect: Connect) -> str:
    name = unique("bucket")
    connect("s3").create_bucket(
        Bucket=name,
        CreateBucketConfiguration={"LocationConstraint": REGION, "Tags": [{"Key": "Project", "Value": name}]},
    )
    return name


def deny(bucket: str, **extra: Any) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
                    **extra,
                }
            ],
        }
    )


def test_a_bucket_has_its_tags_from_the_first_moment(connect: Connect, bucket: str) -> None:
    assert connect("s3").get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "Project", "Value": bucket}]


def test_a_tls_only_policy_lets_the_embedded_endpoint_in(connect: Connect, bucket: str) -> None:
    s3 = connect("s3")
    s3.put_bucket_policy(
        Bucket=bucket,
        Policy=deny(
            bucket, Condition={"Bool": {"aws:SecureTransport": "false"}, "NumericLessThan": {"s3:TlsVersion": "1.2"}}
        ),
    )
    s3.put_object(Bucket=bucket, Key="k", Body=b"content")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"content"


def test_any_other_denial_still_denies(connect: Connect, bucket: str) -> None:
    s3 = connect("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"content")
    s3.put_bucket_policy(Bucket=bucket, Policy=deny(bucket, Condition={"Bool": {"aws:SecureTransport": "true"}}))
    assert refused(s3.get_object, Bucket=bucket, Key="k") == "403"
    s3.put_bucket_policy(Bucket=bucket, Policy=deny(bucket))
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"x") == "403"


def test_the_simulator_reads_the_policies_of_a_role(connect: Connect) -> None:
    iam, arn = connect("iam"), role(connect)
    iam.put_role_policy(
        RoleName=arn.split("/")[1],
        PolicyName="p",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": "sqs:Send*", "Resource": "arn:aws:sqs:*:*:jobs"},
                    {"Effect": "Deny", "Action": "sqs:SendMessageBatch", "Resource": "*"},
                ],
            }
        ),
    )
    answer = iam.simulate_principal_policy(
        PolicySourceArn=arn,
        ActionNames=["sqs:SendMessage", "sqs:SendMessageBatch", "sqs:ReceiveMessage"],
        ResourceArns=[f"arn:aws:sqs:{REGION}:123456789012:jobs"],
    )
    decisions = {one["EvalActionName"]: one["EvalDecision"] for one in answer["EvaluationResults"]}
    assert decisions == {
        "sqs:SendMessage": "allowed",
        "sqs:SendMessageBatch": "explicitDeny",
        "sqs:ReceiveMessage": "implicitDeny",
    }


def test_the_tagging_api_lists_what_aws_lists(connect: Connect) -> None:
    mark, ec2 = unique("mark"), connect("ec2")

    def tags(kind: str) -> dict[str, Any]:
        return {"TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": "Mark", "Value": mark}]}]}

    vpc = ec2.create_vpc(CidrBlock="10.98.0.0/16", **tags("vpc"))["Vpc"]["VpcId"]
    ec2.allocate_address(Domain="vpc", **tags("elastic-ip"))
    ec2.create_key_pair(KeyName=mark, **tags("key-pair"))
    ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.s3", **tags("vpc-endpoint"))
    connect("apigatewayv2").create_api(Name=mark, ProtocolType="HTTP", Tags={"Mark": mark})
    connect("cognito-idp").create_user_pool(PoolName=mark, UserPoolTags={"Mark": mark})
    found = connect("resourcegroupstaggingapi").get_resources(TagFilters=[{"Key": "Mark", "Values": [mark]}])
    parts = [one["ResourceARN"].split(":", 5) for one in found["ResourceTagMappingList"]]
    kinds = sorted(f"{part[2]}:{part[5].strip('/').split('/')[0]}" for part in parts)
    assert kinds == [
        "apigateway:apis",
        "cognito-idp:userpool",
        "ec2:elastic-ip",
        "ec2:key-pair",
        "ec2:vpc",
        "ec2:vpc-endpoint",
    ]
