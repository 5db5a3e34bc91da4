"""Log groups: made, repaired, removed, taken over where Lambda made them, and told apart from strangers'."""

from __future__ import annotations

import pytest
from converge_engine import Engine
from perturb_logs import PERTURB

from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger, UsageError
from aistratus.core.resource import Resource
from aistratus.resources.logs import LogGroup, owned_log_groups


def stack(aws: Cloud) -> list[Resource]:
    return [
        LogGroup(key="router_log", name=f"/aws/lambda/{aws.prefix}router"),
        LogGroup(key="api_log", name=f"/aws/vendedlogs/{aws.prefix}api", retention_days=7),
        LogGroup(key="node_log", name=f"/tinyllama/{aws.env}/node"),
    ]


def owned(aws: Cloud) -> set[str]:
    return {found.id for found in owned_log_groups(aws.fresh())}


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack(aws))
    name = f"/aws/vendedlogs/{aws.prefix}api"
    (group,) = aws.logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert group["retentionInDays"] == 7
    # API Gateway wants the ARN without the `:*` that stands for the group's streams.
    arn = next(change.found.ids["arn"] for change in outcome.changes if change.key == "api_log" and change.found)
    assert f"{arn}:*" == group["arn"]
    assert aws.logs.list_tags_for_resource(resourceArn=arn)["tags"] == aws.tags("api_log")
    assert engine.plan(*stack(aws)).empty


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(standing.aws), "api_log", field, PERTURB[kind, field])


def test_down_removes_them(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok
    assert owned(aws) == set()
    assert engine.down(*stack(aws)).ok


def test_a_group_that_lambda_made_for_our_function_is_taken_over(aws: Cloud, engine: Engine) -> None:
    aws.logs.create_log_group(logGroupName=f"/aws/lambda/{aws.prefix}router")
    assert engine.differences(*stack(aws)) == {"router_log": {"retention_days", "tags"}}
    engine.up(*stack(aws))
    assert engine.plan(*stack(aws)).empty


def test_a_group_that_lambda_made_again_after_down_is_swept(aws: Cloud, engine: Engine) -> None:
    aws.logs.create_log_group(logGroupName=f"/aws/lambda/{aws.prefix}router")
    assert owned(aws) == {f"/aws/lambda/{aws.prefix}router"}
    assert engine.down().ok
    assert owned(aws) == set()


def test_groups_of_an_env_whose_name_starts_like_ours_are_left_alone(aws: Cloud, engine: Engine) -> None:
    name = f"/aws/lambda/{aws.prefix}2-router"
    aws.logs.create_log_group(logGroupName=name)
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok
    assert aws.logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]


@pytest.mark.parametrize("name", ["/aws/vendedlogs/tinyllama-{env}-api", "/tinyllama/{env}/node"])
def test_an_untagged_group_that_lambda_never_makes_is_refused(aws: Cloud, engine: Engine, name: str) -> None:
    aws.logs.create_log_group(logGroupName=name.format(env=aws.env))
    assert [type(change.error) for change in engine.try_up(*stack(aws)).failures] == [Stranger]
    assert engine.down(*stack(aws)).failures
    assert aws.logs.describe_log_groups(logGroupNamePrefix=name.format(env=aws.env))["logGroups"]


def test_a_lambda_group_that_is_tagged_as_somebody_elses_is_refused(aws: Cloud, engine: Engine) -> None:
    name = f"/aws/lambda/{aws.prefix}router"
    aws.logs.create_log_group(logGroupName=name, tags={"Project": "another"})
    assert [type(change.error) for change in engine.try_up(*stack(aws)).failures] == [Stranger]
    assert engine.down(*stack(aws)).failures


def test_owned_finds_what_an_older_description_left(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws), LogGroup(key="old", name=f"/tinyllama/{aws.env}/old"))
    assert engine.down(*stack(aws)).ok
    assert owned(aws) == set()


def test_a_retention_that_aws_does_not_know_is_told() -> None:
    with pytest.raises(UsageError, match="can't be kept for 31 days; AWS allows 1, 3, 5"):
        LogGroup(key="log", name="/log", retention_days=31)
