"""Secrets: made empty, repaired, restored, never overwritten, removed for good, and told apart from strangers'."""

from __future__ import annotations

import dataclasses

import pytest
from botocore.exceptions import ClientError
from converge_engine import Engine
from perturb_secrets import PERTURB

from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.resources.secrets import Secret, ensure_secret, find_secret, owned_secrets

SECRET = Secret(key="a_key", name="a-key", description="For a test")


def name(aws: Cloud) -> str:
    return f"tinyllama/{aws.env}/a-key"


def gone(aws: Cloud) -> bool:
    with pytest.raises(ClientError) as refused:
        aws.secretsmanager.describe_secret(SecretId=name(aws))
    return bool(refused.value.response["Error"]["Code"] == "ResourceNotFoundException")


def test_up_makes_it_empty_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(SECRET)
    there = aws.secretsmanager.describe_secret(SecretId=name(aws))
    assert there["Description"] == "For a test"
    assert {tag["Key"]: tag["Value"] for tag in there["Tags"]} == aws.tags("a_key")
    assert not there.get("VersionIdsToStages")
    assert not there.get("KmsKeyId")
    assert engine.plan(SECRET).empty
    assert engine.calls(lambda: find_secret(aws.fresh(), SECRET)) == 1


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_repaired_and_the_value_stays(
    aws: Cloud, engine: Engine, kind: type, field: str
) -> None:
    engine.up(SECRET)
    aws.secretsmanager.put_secret_value(SecretId=name(aws), SecretString="theirs")
    found = find_secret(aws.fresh(), SECRET)
    assert found is not None
    PERTURB[kind, field](aws, found)
    assert engine.differences(SECRET) == {"a_key": {field}}
    engine.up(SECRET)
    assert engine.plan(SECRET).empty
    assert aws.secretsmanager.get_secret_value(SecretId=name(aws))["SecretString"] == "theirs"
    assert len(aws.secretsmanager.list_secret_version_ids(SecretId=name(aws))["Versions"]) == 1


def test_one_that_was_deleted_for_good_since_the_look_is_made_anew(aws: Cloud, engine: Engine) -> None:
    engine.up(SECRET)
    aws.secretsmanager.delete_secret(SecretId=name(aws))
    found = find_secret(aws.fresh(), SECRET)
    aws.secretsmanager.delete_secret(SecretId=name(aws), ForceDeleteWithoutRecovery=True)
    ensure_secret(aws.fresh(), SECRET, found, frozenset({"scheduled_for_deletion"}))
    assert engine.plan(SECRET).empty


def test_down_removes_it_with_its_value_and_up_makes_it_again(aws: Cloud, engine: Engine) -> None:
    engine.up(SECRET)
    aws.secretsmanager.put_secret_value(SecretId=name(aws), SecretString="theirs")
    assert engine.down(SECRET).ok
    assert gone(aws)
    assert engine.down(SECRET).ok
    engine.up(SECRET)
    assert not aws.secretsmanager.describe_secret(SecretId=name(aws)).get("VersionIdsToStages")


def test_down_removes_one_that_is_scheduled_for_deletion(aws: Cloud, engine: Engine) -> None:
    engine.up(SECRET)
    aws.secretsmanager.delete_secret(SecretId=name(aws))
    assert engine.down(SECRET).ok
    assert gone(aws)


def test_a_stranger_is_refused_and_left_alone_also_when_it_is_scheduled(aws: Cloud, engine: Engine) -> None:
    aws.secretsmanager.create_secret(Name=name(aws), SecretString="theirs")
    for _ in range(2):
        outcome = engine.try_up(SECRET)
        assert [type(change.error) for change in outcome.failures] == [Stranger]
        assert engine.down(SECRET).failures
        there = aws.secretsmanager.describe_secret(SecretId=name(aws))
        assert not there.get("Tags")
        if not there.get("DeletedDate"):
            aws.secretsmanager.delete_secret(SecretId=name(aws))
    aws.secretsmanager.restore_secret(SecretId=name(aws))
    assert aws.secretsmanager.get_secret_value(SecretId=name(aws))["SecretString"] == "theirs"


def test_owned_finds_what_an_older_description_left_and_no_other_env(aws: Cloud, engine: Engine) -> None:
    # Both filters of the listing match this one by their beginnings.
    other = aws.secretsmanager.create_secret(
        Name=f"tinyllama/{aws.env}-2/a-key",
        Tags=[
            {"Key": "Project", "Value": "tinyllama"},
            {"Key": "Env", "Value": f"{aws.env}-2"},
            {"Key": "aistratus:key", "Value": "a_key"},
        ],
    )
    old = dataclasses.replace(SECRET, key="old", name="old")
    engine.up(SECRET, old)
    aws.secretsmanager.delete_secret(SecretId=f"tinyllama/{aws.env}/old")
    assert {found.state.key for found in owned_secrets(aws.fresh())} == {"a_key", "old"}
    assert engine.down(SECRET).ok
    assert owned_secrets(aws.fresh()) == []
    assert aws.secretsmanager.describe_secret(SecretId=other["ARN"])
