"""The map from AWS calls to IAM is whole, and the operator's policy is as narrow as AWS allows."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

import aistratus
import aistratus.stack  # registers every kind
from aistratus.cli.app import app
from aistratus.core.graph import Stack
from aistratus.core.resource import Ref, kinds
from aistratus.permissions import COMMANDS, MANAGED_POLICY_CHARACTERS, Need, needs, operator, parts, size
from aistratus.permissions.operations import OPERATIONS
from aistratus.permissions.operator import DECLARED, ONLY, checks, kind_of, operations
from aistratus.policies import Document, Names
from aistratus.resources.iam import InstanceProfile, Role
from aistratus.trace import READS

NAMES = Names("aws", "123456789012", "eu-central-1", "prod")
STACK = Stack((role := Role(key="r", trust={}), InstanceProfile(key="p", role=Ref(role))))
HOME = Path(aistratus.__file__).parent
NOT_ASKING = ("local", "permissions")
"""The embedded cloud isn't run by anybody's rights, and the map itself names operations without making them."""

WITHOUT_RESOURCE_LEVEL = {
    # Lists of all that the account has: the Service Authorization Reference names no resource type for them.
    "cognito-idp:ListUserPools", "dynamodb:ListTables", "iam:GetAccountAuthorizationDetails", "iam:ListAccountAliases",
    "iam:ListInstanceProfiles", "iam:ListRoles", "lambda:ListFunctions", "logs:DescribeLogGroups",
    "s3:ListAllMyBuckets", "secretsmanager:ListSecrets", "sqs:ListQueues", "sns:ListTopics", "events:ListRules",
    "cloudwatch:ListDashboards", "scheduler:ListScheduleGroups", "codebuild:ListProjects",
    "iam:ListOpenIDConnectProviders", "servicequotas:GetServiceQuota", "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    # Run Command's commands are no resources of IAM's; only sending one names a document and an instance.
    "ssm:CancelCommand", "ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommands",
    # What things cost, in one account or for everybody, and what CloudWatch has counted.
    "ce:GetCostAndUsage", "ce:ListCostAllocationTags", "cloudwatch:GetMetricStatistics", "pricing:GetProducts",
    # Names a resource type, but is asked for all connections at once, so that no ARN would match.
    "codeconnections:ListConnections",
    # Knows topics, but the request names only the subscription, which is no resource of IAM's.
    "sns:Unsubscribe",
    # EC2's lists know no resources at all.
    *(f"ec2:Describe{what}" for what in (
        "Addresses", "AvailabilityZones", "IamInstanceProfileAssociations", "Images", "Instances", "InternetGateways",
        "KeyPairs", "NatGateways", "NetworkInterfaces", "RouteTables", "SecurityGroups", "Subnets", "Volumes",
        "VpcEndpoints", "Vpcs")),
    # The access log of an API is set up by whoever makes the stage; these actions name no log group.
    "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeResourcePolicies", "logs:GetLogDelivery",
    "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
    # These have no ARN yet: the tags that they must be made with stand in the condition.
    "cognito-idp:CreateUserPool", "codeconnections:CreateConnection",
}  # fmt: skip

OPEN = {
    "arn:aws:apigateway:eu-central-1::/apis": "an API's id is API Gateway's own",
    "arn:aws:apigateway:eu-central-1::/apis/*": "and its tags say nothing about its routes",
    "arn:aws:apigateway:eu-central-1::/tags/*": "the path names the tagged ARN, which has no name of ours",
    "arn:aws:ec2:eu-central-1::image/ami-*": "any image may be in the settings",
    "arn:aws:ssm:eu-central-1::parameter/aws/service/*": "AWS's own, readable by everybody",
    "arn:aws:ssm:eu-central-1::document/AWS-RunShellScript": "AWS's own; the instance is bound to our tags",
    "arn:aws:ssm:eu-central-1::document/AWS-StartSSHSession": "likewise",
    "arn:aws:iam::123456789012:user/*": "only the caller's own policy is simulated, and it has no name of ours",
    "arn:aws:iam::123456789012:role/*": "likewise",
    "arn:aws:iam::123456789012:oidc-provider/*": "read, to find ours among the account's",
    "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com": "one an account",
    "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:*": "read: a listing by prefix is asked for on all",
    "arn:aws:ecr:eu-central-1:123456789012:repository/*": "read: the sweep looks through all",
    "arn:aws:budgets::123456789012:budget/*": "read: a listing is asked for on all",
    "arn:aws:codeconnections:eu-central-1:123456789012:connection/*": "settings may name one that was made by hand",
}
"""Resources that neither name nor tags tell to be ours, each with the reason."""


# --- the map is whole -------------------------------------------------------------------------------------------------


def snake_names() -> dict[str, set[str]]:
    """Every operation of every service that the map knows, by the name that boto3 gives it."""
    session = botocore.session.get_session()
    named: dict[str, set[str]] = {}
    for service in {name.partition(":")[0] for name in OPERATIONS}:
        for operation in session.get_service_model(service).operation_names:
            named.setdefault(xform_name(operation), set()).add(f"{service}:{operation}")
    return named


def sources() -> Iterator[ast.Module]:
    for file in HOME.rglob("*.py"):
        if file.relative_to(HOME).parts[0] not in NOT_ASKING:
            yield ast.parse(file.read_text(encoding="utf-8"))


def said() -> tuple[set[str], set[str]]:
    """Attributes and strings of the code that calls AWS; strings with a part that is filled in are patterns."""
    words: set[str] = set()
    patterns: set[str] = set()
    for tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                pieces = [re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+" for part in node.values]
                patterns.add("".join(pieces))
    return words, {pattern for pattern in patterns if re.fullmatch(r"[a-z]+_[a-z]+_[a-z_]*\\w\+", pattern)}


PLATFORM = {
    "lambda:Invoke": "API Gateway and schedules do it for us",
    "s3:CreateMultipartUpload": "the SDK sends a large file in parts",
    "s3:UploadPart": "likewise",
    "s3:CompleteMultipartUpload": "likewise",
    "logs:CreateLogStream": "so does Lambda",
    "logs:PutLogEvents": "likewise",
}
"""Operations that others make with our roles or on our functions."""

PLAIN_WORDS = {"publish", "subscribe", "invoke", "query", "scan", "create_token", "get_id", "sign_up", "get_state"}
"""Words that mean something else in our code, too."""


def test_every_operation_in_the_code_is_in_the_map() -> None:
    words, patterns = said()
    for name, known in snake_names().items():
        if name in words - PLAIN_WORDS or any(re.fullmatch(pattern, name) for pattern in patterns):
            assert known & OPERATIONS.keys(), name


def elsewhere() -> set[str]:
    """Operations of commands and of fields that this program hasn't got."""
    there = {group.name for group in app.registered_groups} | {command.name for command in app.registered_commands}
    absent = [operations for command, operations in ONLY.items() if command not in there]
    fields = {f"{kind.__name__}.{entry.name}" for kind in kinds() for entry in dataclasses.fields(kind)}
    of_fields = {operation for operation, field in DECLARED.items() if field not in fields}
    kept = {name for operation in of_fields for name in OPERATIONS if name.endswith(operation.partition("Put")[2])}
    return of_fields | kept | set().union(*absent)


def test_the_map_has_no_operation_that_nobody_makes() -> None:
    words, patterns = said()
    targets = {word.rpartition(".")[2] for word in words}  # the router signs its calls itself, by AWS's own names
    declared = {kind.__name__ for kind in kinds()}
    unused = [
        name
        for name in OPERATIONS.keys() - PLATFORM.keys() - elsewhere()
        if kind_of(name) in {None, *declared}
        and (verb := name.partition(":")[2]) not in targets
        and xform_name(verb) not in words
        and not any(re.fullmatch(pattern, xform_name(verb)) for pattern in patterns)
    ]
    assert unused == []


def test_each_operation_is_one_of_awss_own() -> None:
    known = {operation for operations in snake_names().values() for operation in operations}
    assert OPERATIONS.keys() - known == set()


# --- what a call needs ------------------------------------------------------------------------------------------------


def wanted(service: str, operation: str, **params: object) -> set[tuple[str, str]]:
    return {(need.action, need.resource) for need in needs(NAMES, service, operation, params)}


ARN = "arn:aws:{}:eu-central-1:123456789012:{}".format


def test_how_ec2_lists_what_the_stack_has_stays_allowed_to_all_who_look_at_it() -> None:
    """What a command of its own reads too (`model` the node's volume) isn't taken from the others for that."""
    listings = ("Instances", "Volumes", "Vpcs", "Subnets", "SecurityGroups", "RouteTables", "Addresses", "NatGateways")
    for command in ("plan", "status", "up", "down"):
        assert {f"ec2:Describe{kind}" for kind in listings} <= operations(command, frozenset())


def test_an_irregular_call_is_known_by_what_iam_checks() -> None:
    queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/tinyllama-prod-jobs.fifo"
    assert wanted("sqs", "ChangeMessageVisibilityBatch", QueueUrl=queue) == {
        ("sqs:ChangeMessageVisibility", ARN("sqs", "tinyllama-prod-jobs.fifo"))
    }
    assert wanted("lambda", "Invoke", FunctionName="tinyllama-prod-router:live") == {
        ("lambda:InvokeFunction", ARN("lambda", "function:tinyllama-prod-router:live"))
    }
    assert wanted("apigatewayv2", "UpdateRoute", ApiId="a1", RouteId="r1") == {
        ("apigateway:PATCH", "arn:aws:apigateway:eu-central-1::/apis/a1/routes/r1")
    }
    assert wanted("s3", "DeleteObjects", Bucket="b", Delete={"Objects": [{"Key": "x", "VersionId": "1"}]}) == {
        ("s3:DeleteObjectVersion", "arn:aws:s3:::b/x")
    }
    assert wanted("s3", "DeleteObjects", Bucket="b", Delete={"Objects": [{"Key": "x"}]}) == {
        ("s3:DeleteObject", "arn:aws:s3:::b/x")
    }
    assert wanted("sts", "GetCallerIdentity") == set()


def test_a_role_that_is_handed_over_is_passed_to_one_service() -> None:
    role = "arn:aws:iam::123456789012:role/tinyllama-prod-router_role"
    made = needs(NAMES, "lambda", "CreateFunction", {"FunctionName": "f", "Role": role, "Tags": {"Env": "prod"}})
    assert Need("iam:PassRole", role, context={"iam:PassedToService": "lambda.amazonaws.com"}) in made
    assert Need("lambda:TagResource", ARN("lambda", "function:f"), tags={"Env": "prod"}) in made
    assert "iam:PassRole" not in {n.action for n in needs(NAMES, "lambda", "UpdateFunctionConfiguration",
                                                          {"FunctionName": "f"})}  # fmt: skip


def test_starting_an_instance_is_checked_for_everything_that_it_touches() -> None:
    interface = {"SubnetId": "subnet-1", "Groups": ["sg-1"]}
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Env", "Value": "prod"}]}]
    found = wanted("ec2", "RunInstances", ImageId="ami-1", NetworkInterfaces=[interface], TagSpecifications=tags,
                   KeyName="k", IamInstanceProfile={"Name": "tinyllama-prod-node_profile"})  # fmt: skip
    touched = {resource.split(":", 5)[5] for action, resource in found if action == "ec2:RunInstances"}
    assert touched == {"image/ami-1", "subnet/subnet-1", "security-group/sg-1", "key-pair/k", "instance/*", "volume/*",
                       "network-interface/*"}  # fmt: skip
    assert ("iam:PassRole", "arn:aws:iam::123456789012:role/tinyllama-prod-node_role") in found
    assert ("ec2:CreateTags", ARN("ec2", "instance/*")) in found


def test_a_connection_is_passed_under_the_name_that_its_arn_has() -> None:
    for service in ("codeconnections", "codestar-connections"):
        connection = ARN(service, "connection/c1")
        found = wanted(
            "codebuild", "CreateProject", name="tinyllama-prod-deploy", source={"auth": {"resource": connection}}
        )
        assert {one for one in found if "PassConnection" in one[0]} == {(f"{service}:PassConnection", connection)}


def test_an_identity_provider_is_made_under_its_own_address() -> None:
    made = wanted("iam", "CreateOpenIDConnectProvider", Url="https://token.actions.githubusercontent.com")
    provider = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    assert made == {("iam:CreateOpenIDConnectProvider", provider)}


# --- the operator's policy --------------------------------------------------------------------------------------------

POLICIES = {command or "all": operator(NAMES, STACK, command=command) for command in (None, *COMMANDS)}
STATEMENTS = [(name, statement) for name, policy in POLICIES.items() for statement in policy["Statement"]]


def test_no_action_has_a_wildcard() -> None:
    actions = [action for _, statement in STATEMENTS for action in statement["Action"]]
    assert actions and [action for action in actions if "*" in action] == []


def test_every_resource_is_named_unless_aws_knows_none() -> None:
    everywhere = {
        action for _, statement in STATEMENTS if "*" in statement["Resource"] for action in statement["Action"]
    }
    assert everywhere - WITHOUT_RESOURCE_LEVEL == set()


def test_each_action_has_only_the_resources_that_its_own_checks_name() -> None:
    """Not those of other actions of its service: who may look at every role must not rewrite every role."""
    for name, policy in POLICIES.items():
        named: dict[str, set[str]] = {}
        for check in checks(STACK, COMMANDS if name == "all" else (name,)):
            named.setdefault(check.action, set()).update(check.resource.of_env(NAMES))
        allowed: dict[str, set[str]] = {}
        for statement in policy["Statement"]:
            for action in statement["Action"]:
                allowed.setdefault(action, set()).update(statement["Resource"])
        assert allowed.keys() == named.keys(), name
        assert {action for action in allowed if not allowed[action] <= named[action]} == set(), name


def test_every_open_resource_is_bound_to_our_tags_or_has_a_reason() -> None:
    for name, statement in STATEMENTS:
        for resource in statement["Resource"]:
            ours = "tinyllama-prod-" in resource or "tinyllama/prod" in resource
            bound = "Tag/Env" in json.dumps(statement.get("Condition", {}))
            assert ours or bound or resource == "*" or resource in OPEN, (name, resource)


def test_what_only_looks_changes_nothing() -> None:
    for command in ("plan", "status", "logs", "doctor"):
        verbs = {action.partition(":")[2] for one in POLICIES[command]["Statement"] for action in one["Action"]}
        assert {verb for verb in verbs if not READS.match(verb)} <= {"GET", "FilterLogEvents", "ViewBudget"}, command


def test_tags_are_set_on_others_things_never() -> None:
    """Who may tag anything as ours may then delete it."""
    for name, statement in STATEMENTS:
        if "ec2:CreateTags" in statement["Action"] or "cognito-idp:TagResource" in statement["Action"]:
            condition = statement["Condition"]["StringEquals"]
            assert "ec2:CreateAction" in condition or "aws:ResourceTag/Env" in condition, name


def test_a_long_policy_is_split_without_loss() -> None:
    whole = POLICIES["all"]
    assert size(whole) > MANAGED_POLICY_CHARACTERS
    split = parts(whole)
    assert all(size(part) <= MANAGED_POLICY_CHARACTERS for part in split)
    told = [json.dumps(one) for part in split for one in part["Statement"]]
    assert sorted(told) == sorted(json.dumps(one) for one in whole["Statement"])
    assert len(split) <= 10  # what a role takes
    one: Document = {"Version": "2012-10-17", "Statement": whole["Statement"][:1]}
    assert parts(one) == [one]
    with pytest.raises(ValueError, match="fits no policy"):
        parts(one, limit=100)


def test_another_env_and_partition_are_left_alone() -> None:
    china = json.dumps(operator(Names("aws-cn", "123456789012", "cn-north-1", "dev"), STACK))
    assert "arn:aws:" not in china and "prod" not in china
