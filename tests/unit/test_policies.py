"""The IAM documents are exactly these, allow no more than they must, and say why where they say `*`."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from aistratus import policies
from aistratus.local.shim.policy_evaluation import ALLOWED as ALLOWED_WORD
from aistratus.local.shim.policy_evaluation import Request, decide
from aistratus.policies import Document, Names

GOLDEN = Path(__file__).parent / "golden"
NAMES = Names("aws", "123456789012", "eu-central-1", "prod")
CONNECTION = "arn:aws:codeconnections:eu-central-1:123456789012:connection/00000000-1111-2222-3333-444444444444"
BUCKET = "tinyllama-prod-data-123456789012-eu-central-1"

DOCUMENTS: dict[str, Document] = {
    "router": policies.router(NAMES, log_group="/aws/lambda/tinyllama-prod-router", types=("g4dn.xlarge", "t3.small")),
    "node": policies.node(NAMES, bucket=BUCKET, log_group="/tinyllama/prod/node"),
    "stop-build-box": policies.stop_build_box(NAMES, log_group="/aws/lambda/tinyllama-prod-stop-build-box"),
    "managed-node": policies.managed_node(),
    "github": policies.github(NAMES, project="tinyllama-prod-deploy", keys=("api", "router", "deploy_project")),
    "github-trust": policies.github_trust(NAMES, repository="owner/name"),
    "deploy": policies.deploy(
        NAMES, function="router", log_group="/aws/codebuild/tinyllama-prod-deploy", connection=CONNECTION
    ),
    "build-runner": policies.build_runner(
        NAMES, repository="tinyllama-prod-builder", bucket=BUCKET, log_group="/tinyllama/prod/build-runner"
    ),
    "tls-only": policies.tls_only(NAMES, BUCKET),
    "daily-summary": policies.daily_summary(
        NAMES, log_group="/aws/lambda/tinyllama-prod-daily-summary", budget="monthly", item="money#summary"
    ),
    "call-function": policies.call_function(NAMES, function="daily-summary"),
    "alerts-topic": policies.alerts_topic(NAMES),
    "killer-topic": policies.killer_topic(NAMES),
    "trust-lambda": policies.trust("lambda.amazonaws.com"),
    "trust-ec2": policies.trust("ec2.amazonaws.com"),
    "trust-scheduler": policies.trust("scheduler.amazonaws.com", account=NAMES.account),
    "trust-codebuild": policies.trust("codebuild.amazonaws.com", account=NAMES.account),
}

WITHOUT_RESOURCE_LEVEL = {
    "cloudwatch:GetMetricStatistics",
    "ec2:DescribeInstances",
    "ecr:GetAuthorizationToken",
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
}
"""Source: the Service Authorization Reference of CloudWatch, EC2, ECR, Systems Manager, Message Gateway and Message
Delivery: none of these actions names a resource type (ssm:UpdateInstanceInformation's is optional), so that they work
with `*` alone."""


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


ALLOWED = [
    (name, statement)
    for name, document in DOCUMENTS.items()
    for statement in document["Statement"]
    if statement["Effect"] == "Allow"
]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_document_is_the_golden_one(name: str) -> None:
    assert DOCUMENTS[name] == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def test_every_document_is_looked_at() -> None:
    """A new policy function must get its golden document."""
    made = {
        name
        for name, member in inspect.getmembers(policies, inspect.isfunction)
        if member.__module__ == policies.__name__ and name not in ("document", "allow") and not name.startswith("_")
    }
    assert {name.split("-")[0] if name.startswith("trust") else name.replace("-", "_") for name in DOCUMENTS} == made
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(DOCUMENTS)


def test_no_allowed_action_has_a_wildcard() -> None:
    actions = [action for _, statement in ALLOWED for action in listed(statement["Action"])]
    assert actions and [action for action in actions if "*" in action] == []


def test_every_resource_is_named_unless_aws_knows_none() -> None:
    everywhere = [
        action
        for _, statement in ALLOWED
        if "*" in listed(statement.get("Resource", []))
        for action in listed(statement["Action"])
    ]
    assert set(everywhere) == WITHOUT_RESOURCE_LEVEL


def test_an_open_name_is_bound_to_our_tags_or_lies_below_ours() -> None:
    for name, statement in ALLOWED:
        for resource in listed(statement.get("Resource", [])):
            if resource != "*" and resource.endswith("*"):
                ours = "tinyllama-prod-" in resource or "/tinyllama/prod/" in resource
                assert ours or "aws:ResourceTag/Env" in json.dumps(statement["Condition"]), (name, resource)


def test_every_star_has_a_reason_beside_it() -> None:
    source = inspect.getsource(policies)
    lines = source.splitlines()
    stars = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "allow"
        and any(isinstance(argument, ast.Constant) and argument.value == "*" for argument in node.args)
    ]
    assert stars
    for star in stars:
        before = "\n".join(lines[max(0, star.lineno - 12) : star.lineno])
        assert "resource level" in before


OPERATOR_PASSWORD = NAMES.parameter("operator_password")
"""What the ledger keeps encrypted, beside ids."""


def test_no_role_reads_the_operators_password_or_writes_the_ledger() -> None:
    for name, document in DOCUMENTS.items():
        for action in ("ssm:GetParameter", "ssm:GetParameters", "ssm:GetParameterHistory", "ssm:PutParameter"):
            assert decide([document], Request(action=action, resource=OPERATOR_PASSWORD)) != ALLOWED_WORD, name
        for action in ("ssm:PutParameter", "ssm:DeleteParameter", "ssm:DeleteParameters", "ssm:GetParametersByPath"):
            for parameter in (NAMES.parameter("node"), NAMES.arn("ssm", "parameter/tinyllama/prod")):
                assert decide([document], Request(action=action, resource=parameter)) != ALLOWED_WORD, name


def test_the_router_reads_one_secret_whatever_aws_puts_behind_its_name() -> None:
    def reads(name: str) -> bool:
        arn = NAMES.arn("secretsmanager", f"secret:{name}")
        request = Request(action="secretsmanager:GetSecretValue", resource=arn)
        return decide([DOCUMENTS["router"]], request) == ALLOWED_WORD

    assert reads("tinyllama/prod/openai-api-key-AbC123")
    for other in ("tinyllama/prod/openai-api-key-2-AbC123", "tinyllama/dev/openai-api-key-AbC123",
                  "tinyllama/prod/openai-api-key-abcdef-AbC123", "tinyllama/prod/other-AbC123"):  # fmt: skip
        assert not reads(other)


def test_a_connection_of_the_services_first_name_is_used_under_that_name() -> None:
    old = CONNECTION.replace("codeconnections", "codestar-connections")
    (statement,) = (
        one
        for one in policies.deploy(NAMES, function="router", log_group="/l", connection=old)["Statement"]
        if one["Resource"] == [old]
    )
    assert {action.partition(":")[0] for action in statement["Action"]} == {"codestar-connections"}


def test_only_the_named_service_may_assume_a_role() -> None:
    statement = policies.trust("lambda.amazonaws.com")["Statement"][0]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert "Condition" not in statement, "Lambda doesn't promise to say on whose behalf it comes"


@pytest.mark.parametrize("service", ["scheduler", "codebuild"])
def test_a_service_assumes_a_role_only_on_behalf_of_our_account(service: str) -> None:
    statement = DOCUMENTS[f"trust-{service}"]["Statement"][0]
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": NAMES.account}}


def test_only_workflows_of_the_one_repository_may_assume_the_role_of_github() -> None:
    statement = policies.github_trust(NAMES, repository="owner/name")["Statement"][0]
    provider = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    assert statement["Principal"] == {"Federated": provider}
    assert statement["Condition"]["StringEquals"] == {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}


@pytest.mark.parametrize(
    ("subject", "repository", "lets_in"),
    [
        ("repo:owner/name:ref:refs/heads/main", None, True),
        ("repo:owner/name:ref:refs/heads/main", "owner/name", True),
        # As of new repositories: GitHub puts the ids of owner and repository into it.
        ("repo:owner@12/name@345:ref:refs/heads/main", "owner/name", True),
        ("repo:owner@12/name@345:environment:prod", None, True),
        ("repo:owner@12/names@345:ref:refs/heads/main", None, False),
        ("repo:owners@12/name@345:ref:refs/heads/main", None, False),
        ("repo:owner/other:ref:refs/heads/main", None, False),
        ("repo:owner@12/other@6:environment:a/name@345:b", "owner/other", False),
    ],
)
def test_a_workflow_is_known_by_its_repository_with_or_without_ids(
    subject: str, repository: str | None, lets_in: bool
) -> None:
    claims = {"aud": ["sts.amazonaws.com"], "sub": [subject], **({"repository": [repository]} if repository else {})}
    context = {f"{policies.GITHUB_TOKENS}:{name}": value for name, value in claims.items()}
    request = Request(action="sts:AssumeRoleWithWebIdentity", resource="*", context=context)
    trust = policies.github_trust(NAMES, repository="owner/name")
    assert (decide([trust], request) == ALLOWED_WORD) is lets_in


def test_a_repository_that_got_another_ones_name_is_told_by_its_number() -> None:
    trust = policies.github_trust(NAMES, repository="owner/name", number=345)
    claims = {"aud": "sts.amazonaws.com", "sub": "repo:owner@9/name@8:ref:refs/heads/main", "repository": "owner/name"}
    for number, lets_in in (("345", True), ("8", False), (None, False)):
        known = {**claims, **({"repository_id": number} if number else {})}
        context = {f"{policies.GITHUB_TOKENS}:{name}": [value] for name, value in known.items()}
        request = Request(action="sts:AssumeRoleWithWebIdentity", resource="*", context=context)
        assert (decide([trust], request) == ALLOWED_WORD) is lets_in


def test_arns_follow_the_partition() -> None:
    china = Names("aws-cn", "123456789012", "cn-north-1", "prod")
    assert json.dumps(policies.router(china, log_group="/g", types=())).count("arn:aws:") == 0
