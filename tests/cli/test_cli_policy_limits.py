"""What the operator's policy must not allow: taking the account over, or touching another env.

Both evaluators judge the policies themselves, with everything switched on; no cloud is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from policy_judges import Case, by_ourselves, by_the_simulator, simulator_is_there, unknown_to_the_simulator

from aistratus.cli.session import shipped
from aistratus.core.graph import Stack
from aistratus.permissions import Need, asked, operator
from aistratus.policies import Document, Names
from aistratus.settings_load import load
from aistratus.stack import describe
from aistratus.trace import READS

Judge = Callable[[Sequence[Document], Sequence[Case]], list[bool]]
JUDGES = [
    pytest.param(by_ourselves, id="ours"),
    pytest.param(
        by_the_simulator,
        id="iam-simulate",
        marks=pytest.mark.skipif(not simulator_is_there(), reason="iam-simulate isn't installed"),
    ),
]

DEV, DEV2 = (Names("aws", "123456789012", "eu-central-1", env) for env in ("dev", "dev2"))
GIVEN = "arn:aws:{}:eu-central-1:123456789012:connection/00000000-1111-2222-3333-444444444444".format
ARN = "arn:aws:{}:eu-central-1:123456789012:{}".format
IAM = "arn:aws:iam::123456789012:{}".format


def stack_of(names: Names, connection_arn: str | None = None) -> Stack:
    """Everything on."""
    on = {
        "network": {"enable_nat_gw": True},
        "router": {"provisioned_concurrency": 1, "warm_minutes": 5},
        "delivery": {"repository": "ann/llm", "connection_arn": connection_arn},
        "auth": {"operator_email": "ann@example.com"},
    }
    settings = load(flags={"env": names.env, **on}, environ={})
    return describe(settings, names, shipped(settings))


@pytest.fixture(scope="module")
def policy() -> Document:
    """What the operator of `dev` may do, with all commands."""
    return operator(DEV, stack_of(DEV))


TAKING_OVER = [
    *((f"iam:{verb}", IAM(whom)) for whom in ("role/Admin", "role/tinyllama-dev2-node_role") for verb in (
        "AttachRolePolicy", "CreateRole", "DeleteRole", "DeleteRolePolicy", "DetachRolePolicy", "PassRole",
        "PutRolePermissionsBoundary", "PutRolePolicy", "TagRole", "UpdateAssumeRolePolicy", "UpdateRole")),
    ("iam:PutUserPolicy", IAM("user/ann")),
    ("iam:AddRoleToInstanceProfile", IAM("instance-profile/other")),
    ("iam:CreateOpenIDConnectProvider", IAM("oidc-provider/other.example.com")),
    ("iam:DeleteOpenIDConnectProvider", IAM("oidc-provider/other.example.com")),
    ("iam:AddClientIDToOpenIDConnectProvider", IAM("oidc-provider/other.example.com")),
    ("ecr:DeleteRepository", ARN("ecr", "repository/other")),
    ("ecr:PutLifecyclePolicy", ARN("ecr", "repository/other")),
    ("cloudwatch:DeleteAlarms", ARN("cloudwatch", "alarm:other")),
    ("cloudwatch:PutMetricAlarm", ARN("cloudwatch", "alarm:other")),
    ("cloudwatch:DeleteDashboards", "arn:aws:cloudwatch::123456789012:dashboard/other"),
    ("budgets:ModifyBudget", "arn:aws:budgets::123456789012:budget/other"),
    ("lambda:UpdateFunctionCode", ARN("lambda", "function:other")),
    ("secretsmanager:PutSecretValue", ARN("secretsmanager", "secret:other-abcdef")),
    ("s3:DeleteBucket", "arn:aws:s3:::other"),
    ("ec2:TerminateInstances", ARN("ec2", "instance/i-0123456789abcdef0")),
    ("codeconnections:DeleteConnection", GIVEN("codeconnections")),
]  # fmt: skip
"""Of nobody's env, or of another's, and without our tags."""


def granted(judge: Judge, policy: Document, needs: Sequence[Need]) -> set[tuple[str, str]]:
    """Which of these the policy allows, as far as the judge knows them."""
    known = [need for need in needs if judge is by_ourselves or not unknown_to_the_simulator(need)]
    answers = judge([policy], [Case((0,), need, tuple(sorted(need.context.items()))) for need in known])
    return {(need.action, need.resource) for need, yes in zip(known, answers, strict=True) if yes}


@pytest.mark.parametrize("judge", JUDGES)
def test_nobody_takes_the_account_over(policy: Document, judge: Judge) -> None:
    services = ("ec2", "lambda", "codebuild", "scheduler")
    needs = [
        Need(action, resource, context={"iam:PassedToService": f"{service}.amazonaws.com"})
        for action, resource in TAKING_OVER
        for service in services[: None if action == "iam:PassRole" else 1]
    ]
    assert granted(judge, policy, needs) == set()


def questions(names: Names) -> Iterator[Need]:
    """Everything that the commands do, on examples of this env's resources with its tags."""
    for one in asked(names, stack_of(names)):
        for action in one.actions:
            for resource in one.resources:
                yield Need(action, resource, context=one.context)


ANYBODYS = {
    # AWS gives these no resource level.
    *((f"logs:{verb}", "*") for verb in (
        "CreateLogDelivery", "DeleteLogDelivery", "PutResourcePolicy", "UpdateLogDelivery")),
    ("sns:Unsubscribe", "*"),
    ("ssm:CancelCommand", "*"),
    # AWS's own documents; the instance that each of these calls must be allowed, too, is told by its tags.
    ("ssm:SendCommand", "arn:aws:ssm:eu-central-1::document/AWS-RunShellScript"),
    ("ssm:StartSession", "arn:aws:ssm:eu-central-1::document/AWS-StartSSHSession"),
    # An API's id is API Gateway's own, and the tags of an API say nothing about its routes and stages.
    *((f"apigateway:{verb}", f"arn:aws:apigateway:eu-central-1::/apis{rest}")
      for verb in ("DELETE", "PATCH", "POST", "TagResource") for rest in ("", "/example")),
    ("apigateway:POST", "arn:aws:apigateway:eu-central-1::/tags/example"),
    # An account has one for GitHub; envs share it.
    *((f"iam:{verb}", IAM("oidc-provider/token.actions.githubusercontent.com")) for verb in (
        "AddClientIDToOpenIDConnectProvider", "CreateOpenIDConnectProvider", "DeleteOpenIDConnectProvider",
        "RemoveClientIDFromOpenIDConnectProvider", "TagOpenIDConnectProvider", "UntagOpenIDConnectProvider")),
    # Settings may name any image.
    ("ec2:RunInstances", "arn:aws:ec2:eu-central-1::image/ami-example"),
    # By the env's own connection, which has no ARN before it is made.
    ("codeconnections:PassConnection", ARN("codeconnections", "connection/example")),
}  # fmt: skip
"""What changes something and can't be told apart by env, each with the reason."""


@pytest.mark.parametrize("judge", JUDGES)
def test_another_envs_things_are_never_changed(policy: Document, judge: Judge) -> None:
    """Also one whose name begins with ours."""
    changing = [need for need in questions(DEV2) if not READS.match(need.action.partition(":")[2])]
    changing = [need for need in changing if need.action not in ("apigateway:GET", "budgets:ViewBudget")]
    assert len(changing) > 200
    expected = {
        (need.action, need.resource)
        for need in changing
        if (need.action, need.resource) in ANYBODYS and (judge is by_ourselves or not unknown_to_the_simulator(need))
    }
    assert granted(judge, policy, changing) == expected
    assert judge is not by_ourselves or expected == ANYBODYS


@pytest.mark.parametrize("judge", JUDGES)
def test_the_envs_own_things_are_allowed(policy: Document, judge: Judge) -> None:
    own = [need for need in questions(DEV) if judge is by_ourselves or not unknown_to_the_simulator(need)]
    assert {(need.action, need.resource) for need in own} - granted(judge, policy, own) == set()


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("service", ["codeconnections", "codestar-connections"])
def test_builds_are_given_just_the_connection_that_the_settings_name(service: str, judge: Judge) -> None:
    """AWS checks for the name of the service that stands in the connection's ARN."""
    given = operator(DEV, stack_of(DEV, GIVEN(service)))
    needs = [
        Need(f"{name}:PassConnection", resource)
        for name in ("codeconnections", "codestar-connections")
        for resource in (GIVEN(name), ARN(name, "connection/other"))
    ]
    assert granted(judge, given, needs) == {(f"{service}:PassConnection", GIVEN(service))}
