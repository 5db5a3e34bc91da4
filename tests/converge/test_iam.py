"""Roles and instance profiles: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import json

import pytest
from converge_engine import Engine, key_of
from perturb_iam import FOREIGN_TRUST, PERTURB, READ_ONLY

from aistratus import policies
from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.core.resource import Ref, Resource
from aistratus.resources.iam import InstanceProfile, Role, owned_instance_profiles, owned_roles

QUEUE_ARN = "arn:aws:sqs:eu-central-1:123456789012:q.fifo"
LOGS_POLICY = "arn:aws:iam::aws:policy/CloudWatchLogsReadOnlyAccess"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


def stack() -> list[Resource]:
    role = Role(
        key="node_role",
        description="The node",
        trust=policies.trust("ec2.amazonaws.com"),
        inline={"jobs": policies.document(policies.allow(["sqs:ReceiveMessage"], QUEUE_ARN))},
        managed=(LOGS_POLICY,),
        permissions_boundary=ADMIN,
    )
    return [role, InstanceProfile(key="node_profile", role=Ref(role))]


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    name = aws.name("node_role")
    role = aws.iam.get_role(RoleName=name)["Role"]
    assert role["AssumeRolePolicyDocument"] == policies.trust("ec2.amazonaws.com")
    assert (role["Description"], role["MaxSessionDuration"]) == ("The node", 3600)
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == ADMIN
    assert {tag["Key"]: tag["Value"] for tag in role["Tags"]} == aws.tags("node_role")
    assert aws.iam.list_role_policies(RoleName=name)["PolicyNames"] == ["jobs"]
    profile = aws.iam.get_instance_profile(InstanceProfileName=aws.name("node_profile"))["InstanceProfile"]
    assert [entry["RoleName"] for entry in profile["Roles"]] == [name]
    assert engine.plan(*stack()).empty


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(), key_of(stack(), kind), field, PERTURB[kind, field])


def test_a_profile_with_the_wrong_role_gets_the_right_one(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    profile, wrong = aws.name("node_profile"), aws.name("wrong")
    aws.iam.create_role(RoleName=wrong, AssumeRolePolicyDocument=json.dumps(FOREIGN_TRUST))
    aws.iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=aws.name("node_role"))
    aws.iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=wrong)
    assert engine.differences(*stack()) == {"node_profile": {"role"}}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_a_role_that_was_left_bare_by_a_death_after_its_creation_is_completed(aws: Cloud, engine: Engine) -> None:
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("node_role").items()]
    trust = json.dumps(policies.trust("ec2.amazonaws.com"))
    aws.iam.create_role(RoleName=aws.name("node_role"), AssumeRolePolicyDocument=trust, Tags=tags)
    assert engine.differences(*stack())["node_role"] == {"inline", "managed", "description", "permissions_boundary"}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_down_takes_everything_off_a_role_and_leaves_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    # Somebody hung more on it, which IAM would refuse to delete with it.
    aws.iam.attach_role_policy(RoleName=aws.name("node_role"), PolicyArn=READ_ONLY)
    aws.iam.create_instance_profile(InstanceProfileName=f"foreign-{aws.env}")
    aws.iam.remove_role_from_instance_profile(
        InstanceProfileName=aws.name("node_profile"), RoleName=aws.name("node_role")
    )
    aws.iam.add_role_to_instance_profile(InstanceProfileName=f"foreign-{aws.env}", RoleName=aws.name("node_role"))
    assert engine.down(*stack()).ok
    assert owned_roles(aws.fresh()) == owned_instance_profiles(aws.fresh()) == []
    assert aws.iam.get_instance_profile(InstanceProfileName=f"foreign-{aws.env}")["InstanceProfile"]["Roles"] == []


def test_what_has_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    trust = json.dumps(FOREIGN_TRUST)
    aws.iam.create_role(RoleName=aws.name("node_role"), AssumeRolePolicyDocument=trust)
    aws.iam.create_instance_profile(InstanceProfileName=aws.name("node_profile"))
    assert [type(change.error) for change in engine.plan(*stack()).changes] == [Stranger, Stranger]
    assert not engine.try_up(*stack()).ok
    assert engine.down(*stack()).failures
    assert aws.iam.get_role(RoleName=aws.name("node_role"))["Role"]["AssumeRolePolicyDocument"] == FOREIGN_TRUST
    assert aws.iam.get_instance_profile(InstanceProfileName=aws.name("node_profile"))


def test_owned_finds_what_an_older_description_left(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    old = Role(key="old_role", trust=policies.trust("lambda.amazonaws.com"))
    engine.up(old, InstanceProfile(key="old_profile", role=Ref(old)))
    assert {found.state.key for found in owned_roles(aws.fresh())} == {"node_role", "old_role"}
    assert {found.state.key for found in owned_instance_profiles(aws.fresh())} == {"node_profile", "old_profile"}
    assert engine.down(*stack()).ok
    assert owned_roles(aws.fresh()) == []


def test_any_number_of_roles_is_read_with_two_calls(aws: Cloud, engine: Engine) -> None:
    roles = [Role(key=f"role_{n}", trust=policies.trust("ec2.amazonaws.com")) for n in range(5)]
    engine.up(*roles)
    assert engine.calls(lambda: engine.plan(*roles)) == 2
