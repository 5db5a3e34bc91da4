"""Tables: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import pytest
from converge_engine import Engine
from perturb_dynamodb import PERTURB

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Stranger
from aistratus.resources.dynamodb import Table, owned_tables

JOBS = Table(key="jobs_table", name="jobs", ttl_attribute="expires_at")
GUARDED = Table(
    key="guarded",
    name="guarded",
    ttl_attribute="expires_at",
    point_in_time_recovery=True,
    deletion_protection=False,
)


def test_up_makes_it_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(JOBS)
    name = f"tinyllama-{aws.env}-jobs"
    table = aws.dynamodb.describe_table(TableName=name)["Table"]
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    ttl = aws.dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")
    tags = aws.dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == aws.tags("jobs_table")
    assert engine.plan(JOBS).empty
    assert engine.calls(lambda: engine.plan(JOBS)) == 3


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs([GUARDED], "guarded", field, PERTURB[kind, field])


def test_another_ttl_attribute_is_replaced(aws: Cloud, engine: Engine) -> None:
    engine.up(Table(key="jobs_table", name="jobs", ttl_attribute="wrong"))
    assert engine.differences(JOBS) == {"jobs_table": {"ttl_attribute"}}
    engine.up(JOBS)
    assert engine.plan(JOBS).empty


def test_another_hash_key_plans_as_a_replacement(engine: Engine) -> None:
    engine.up(JOBS)
    other = Table(key="jobs_table", name="jobs", ttl_attribute="expires_at", hash_key="id")
    assert [change.action for change in engine.plan(other).changes] == ["replace"]


def test_a_table_left_without_settings_by_a_death_after_its_creation_is_completed(aws: Cloud, engine: Engine) -> None:
    aws.dynamodb.create_table(
        TableName=aws.name("jobs"),
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=[{"Key": name, "Value": value} for name, value in aws.tags("jobs_table").items()],
    )
    assert engine.differences(JOBS) == {"jobs_table": {"ttl_attribute"}}
    engine.up(JOBS)
    assert engine.plan(JOBS).empty


def test_down_removes_it(aws: Cloud, engine: Engine) -> None:
    engine.up(JOBS)
    assert engine.down(JOBS).ok
    assert owned_tables(aws.fresh()) == []
    assert engine.down(JOBS).ok


def test_a_protected_table_stays_and_down_says_why(aws: Cloud, engine: Engine) -> None:
    engine.up(JOBS)
    aws.dynamodb.update_table(TableName=aws.name("jobs"), DeletionProtectionEnabled=True)
    outcome = engine.down(JOBS)
    assert [found.state.key for found in outcome.left] == ["jobs_table"]
    with pytest.raises(Failure, match="protected against deletion"):
        engine.remove(JOBS)
    aws.dynamodb.update_table(TableName=aws.name("jobs"), DeletionProtectionEnabled=False)
    assert engine.down(JOBS).ok


def test_a_table_with_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    aws.dynamodb.create_table(
        TableName=aws.name("jobs"),
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert [type(change.error) for change in engine.try_up(JOBS).changes] == [Stranger]
    assert engine.down(JOBS).failures
    assert aws.dynamodb.describe_table(TableName=aws.name("jobs"))


def test_owned_finds_what_an_older_description_left(aws: Cloud, engine: Engine) -> None:
    engine.up(JOBS, Table(key="old", name="old"))
    assert {found.state.key for found in owned_tables(aws.fresh())} == {"jobs_table", "old"}
    assert engine.down(JOBS).ok
    assert owned_tables(aws.fresh()) == []
