"""What somebody may do to roles and instance profiles from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import json
from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.iam import InstanceProfile, Role

FOREIGN_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
FOREIGN_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
WRONG_MANAGER = [{"Key": "ManagedBy", "Value": "somebody"}]


def _trust(aws: Cloud, found: Found) -> None:
    aws.iam.update_assume_role_policy(RoleName=found.id, PolicyDocument=json.dumps(FOREIGN_TRUST))


def _inline(aws: Cloud, found: Found) -> None:
    """One policy too much, and one of ours widened."""
    assert isinstance(found.state, Role)
    for name in ["foreign", *found.state.inline]:
        aws.iam.put_role_policy(RoleName=found.id, PolicyName=name, PolicyDocument=json.dumps(FOREIGN_POLICY))


def _managed(aws: Cloud, found: Found) -> None:
    aws.iam.attach_role_policy(RoleName=found.id, PolicyArn=READ_ONLY)


def _description(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Role)
    length = found.state.max_session_s
    aws.iam.update_role(RoleName=found.id, Description="somebody's", MaxSessionDuration=length)


def _max_session(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Role)
    aws.iam.update_role(RoleName=found.id, Description=found.state.description, MaxSessionDuration=43_200)


def _boundary(aws: Cloud, found: Found) -> None:
    aws.iam.put_role_permissions_boundary(RoleName=found.id, PermissionsBoundary=READ_ONLY)


def _role_tags(aws: Cloud, found: Found) -> None:
    aws.iam.tag_role(RoleName=found.id, Tags=WRONG_MANAGER)


def _profile_role(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, InstanceProfile)
    aws.iam.remove_role_from_instance_profile(InstanceProfileName=found.id, RoleName=found.state.role)


def _profile_tags(aws: Cloud, found: Found) -> None:
    aws.iam.tag_instance_profile(InstanceProfileName=found.id, Tags=WRONG_MANAGER)


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (Role, "trust"): _trust,
    (Role, "inline"): _inline,
    (Role, "managed"): _managed,
    (Role, "description"): _description,
    (Role, "max_session_s"): _max_session,
    (Role, "permissions_boundary"): _boundary,
    (Role, "tags"): _role_tags,
    (InstanceProfile, "role"): _profile_role,
    (InstanceProfile, "tags"): _profile_tags,
}
