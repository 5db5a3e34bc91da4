"""Roles and instance profiles.

All roles are read with two shared calls, however many there are: `GetAccountAuthorizationDetails` gives documents,
attached policies and tags, `ListRoles` the two settings that the former leaves out. What somebody adds to a role
outside (a policy, an attachment) widens what our programs may do, so it is drift and goes away again.

IAM is one service for all regions and shows changes some seconds late, so every ensure reads back until it sees its
work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import canonical_policy, diff
from aistratus.core.resource import Found, Ref, Resource, policy_document, reconciles
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import tag_list, tag_mapping, unless_gone

GONE = frozenset({"NoSuchEntity"})

IAM_CATCHES_UP = Wait(
    what="IAM knows the role or profile that was just made, or ends another change of it",
    within=60,
    codes=frozenset({"NoSuchEntity", "ConcurrentModification"}),
    saying=r"(?i)\brole\b|profile|modif",
)
"""A new role isn't known everywhere at once, and IAM refuses two changes at the same time.

`saying` leaves out NoSuchEntity for a managed policy that doesn't exist: that never gets better. Source: IAM user
guide, "Changes that I make are not always immediately visible"; error lists of PutRolePolicy, CreateInstanceProfile and
DeleteRole. The refusal may have no words at all (terraform-provider-aws issue 42079).
"""

IAM_LETS_GO = Wait(
    what="IAM sees that nothing hangs on the role any more",
    within=60,
    codes=frozenset({"DeleteConflict", "ConcurrentModification"}),
)
"""DeleteConflict can follow a detach that was answered but isn't seen everywhere yet."""


# --- roles -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Role(Resource):
    """A role named `tinyllama-<env>-<key>`.

    Its output `unique` is IAM's own id of it, which another role that is made later under the same name hasn't.

    trust: who may assume it.
    inline: all its inline policies by name; others are removed.
    managed: ARNs of all its managed policies; others are detached.
    max_session_s: seconds that one assumption may last, 3600 to 43200.
    permissions_boundary: ARN of the policy that caps it.
    """

    trust: Mapping[str, Any] = policy_document()
    inline: Mapping[str, Mapping[str, Any]] = policy_document(default_factory=dict)
    managed: tuple[str, ...] = ()
    description: str = ""
    max_session_s: int | None = 3600
    permissions_boundary: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "managed", tuple(sorted(self.managed)))


def find_role(aws: Cloud, want: Role) -> Found | None:
    """By name."""
    name = aws.name(want.key)
    role = _roles(aws).get(name)
    if role is None:
        return None
    aws.require_ours("role", name, _tags(role), want.key)
    return _found_role(aws, want.key, role)


def owned_roles(aws: Cloud) -> list[Found]:
    """By tags."""
    tagged = [(role, _tags(role)) for role in _roles(aws).values()]
    return [_found_role(aws, tags["aistratus:key"], role) for role, tags in tagged if aws.owns(tags)]


def remove_role(aws: Cloud, have: Found) -> None:
    """Takes everything off the role, then removes it: IAM deletes only bare roles."""
    name = have.ids["name"]
    for policy in _pages(aws, "list_role_policies", "PolicyNames", RoleName=name):
        unless_gone(GONE, aws.iam.delete_role_policy, RoleName=name, PolicyName=policy)
    for policy in _pages(aws, "list_attached_role_policies", "AttachedPolicies", RoleName=name):
        unless_gone(GONE, aws.iam.detach_role_policy, RoleName=name, PolicyArn=policy["PolicyArn"])
    for profile in _pages(aws, "list_instance_profiles_for_role", "InstanceProfiles", RoleName=name):
        _take_role_off(aws, profile["InstanceProfileName"], name)
    unless_gone(GONE, settle, wait=IAM_LETS_GO, call=aws.iam.delete_role, clock=aws.clock, RoleName=name)


@reconciles(Role, find=find_role, remove=remove_role, owned=owned_roles)
def ensure_role(aws: Cloud, want: Role, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "iam",
            "create_role",
            look=lambda cloud: find_role(cloud, want),
            taken={"EntityAlreadyExists"},
            settling=IAM_CATCHES_UP,
            RoleName=aws.name(want.key),
            AssumeRolePolicyDocument=_text(want.trust),
            Description=want.description,
            Tags=tag_list(aws.tags(want.key)),
            **_if_managed("MaxSessionDuration", want.max_session_s),
            **_if_managed("PermissionsBoundary", want.permissions_boundary),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    if changes:
        _repair_role(aws, want, have, changes)
    return await_match(find_role, aws, want)


def _repair_role(aws: Cloud, want: Role, have: Found, changes: frozenset[str]) -> None:
    name = have.ids["name"]
    assert isinstance(have.state, Role)
    if "trust" in changes:
        _write(aws, "update_assume_role_policy", RoleName=name, PolicyDocument=_text(want.trust))
    if changes & {"description", "max_session_s"}:
        length = _if_managed("MaxSessionDuration", want.max_session_s)
        _write(aws, "update_role", RoleName=name, Description=want.description, **length)
    if "permissions_boundary" in changes:
        _write(aws, "put_role_permissions_boundary", RoleName=name, PermissionsBoundary=want.permissions_boundary)
    if "inline" in changes:
        _repair_inline(aws, name, want.inline, have.state.inline)
    if "managed" in changes:
        _repair_managed(aws, name, set(want.managed), set(have.state.managed))
    if "tags" in changes:
        _write(aws, "tag_role", RoleName=name, Tags=tag_list(aws.tags(want.key)))


def _repair_inline(aws: Cloud, role: str, want: Mapping[str, Any], have: Mapping[str, Any]) -> None:
    # What is too much goes first: all inline policies of a role share 10,240 characters.
    for name in have.keys() - want.keys():
        unless_gone(GONE, aws.iam.delete_role_policy, RoleName=role, PolicyName=name)
    for name, document in want.items():
        if name not in have or canonical_policy(document) != canonical_policy(have[name]):
            _write(aws, "put_role_policy", RoleName=role, PolicyName=name, PolicyDocument=_text(document))


def _repair_managed(aws: Cloud, role: str, want: set[str], have: set[str]) -> None:
    # Detach first: a role takes ten.
    for arn in have - want:
        unless_gone(GONE, aws.iam.detach_role_policy, RoleName=role, PolicyArn=arn)
    for arn in sorted(want - have):
        _write(aws, "attach_role_policy", RoleName=role, PolicyArn=arn)


def _found_role(aws: Cloud, key: str, role: Mapping[str, Any]) -> Found:
    name = role["RoleName"]
    settings = _settings(aws).get(name, {})
    state = Role(
        key=key,
        trust=_document(role["AssumeRolePolicyDocument"]),
        inline={policy["PolicyName"]: _document(policy["PolicyDocument"]) for policy in role.get("RolePolicyList", [])},
        managed=tuple(policy["PolicyArn"] for policy in role.get("AttachedManagedPolicies", [])),
        description=settings.get("Description", ""),
        max_session_s=settings.get("MaxSessionDuration"),
        permissions_boundary=role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
    )
    return Found(
        state=state, ids={"id": name, "arn": role["Arn"], "name": name, "unique": role["RoleId"]}, tags=_tags(role)
    )


def _roles(aws: Cloud) -> dict[str, Mapping[str, Any]]:
    """Every role of the account with its policies and tags, by name."""

    def read() -> dict[str, Mapping[str, Any]]:
        pages = aws.iam.get_paginator("get_account_authorization_details").paginate(
            Filter=["Role"], PaginationConfig={"PageSize": 1000}
        )
        return {role["RoleName"]: role for page in pages for role in page["RoleDetailList"]}

    return aws.shared("iam.roles", read)


def _settings(aws: Cloud) -> dict[str, Mapping[str, Any]]:
    """Every role of the account with its description and session length, by name."""

    def read() -> dict[str, Mapping[str, Any]]:
        pages = aws.iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 1000})
        return {role["RoleName"]: role for page in pages for role in page["Roles"]}

    return aws.shared("iam.role settings", read)


# --- instance profiles -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InstanceProfile(Resource):
    """What carries a role to an EC2 instance: a profile named `tinyllama-<env>-<key>` that holds one role, by name."""

    role: Ref | str | None


def find_instance_profile(aws: Cloud, want: InstanceProfile) -> Found | None:
    """By name."""
    name = aws.name(want.key)
    answer = unless_gone(GONE, aws.iam.get_instance_profile, InstanceProfileName=name)
    if answer is None:
        return None
    aws.require_ours("instance profile", name, _tags(answer["InstanceProfile"]), want.key)
    return _found_profile(want.key, answer["InstanceProfile"])


def owned_instance_profiles(aws: Cloud) -> list[Found]:
    """By tags, among the profiles with our name: the listing itself has no tags."""
    pages = aws.iam.get_paginator("list_instance_profiles").paginate(PaginationConfig={"PageSize": 1000})
    names = [profile["InstanceProfileName"] for page in pages for profile in page["InstanceProfiles"]]
    owned = []
    for name in names:
        if not name.startswith(aws.prefix):
            continue
        answer = unless_gone(GONE, aws.iam.get_instance_profile, InstanceProfileName=name)
        if answer is not None and aws.owns(tags := _tags(answer["InstanceProfile"])):
            owned.append(_found_profile(tags["aistratus:key"], answer["InstanceProfile"]))
    return owned


def remove_instance_profile(aws: Cloud, have: Found) -> None:
    """Takes its role off, then removes it; an instance that still uses it keeps its credentials until they run out."""
    name = have.ids["name"]
    answer = unless_gone(GONE, aws.iam.get_instance_profile, InstanceProfileName=name)
    for role in answer["InstanceProfile"]["Roles"] if answer else ():
        _take_role_off(aws, name, role["RoleName"])
    call = aws.iam.delete_instance_profile
    unless_gone(GONE, settle, wait=IAM_LETS_GO, call=call, clock=aws.clock, InstanceProfileName=name)


@reconciles(InstanceProfile, find=find_instance_profile, remove=remove_instance_profile, owned=owned_instance_profiles)
def ensure_instance_profile(aws: Cloud, want: InstanceProfile, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "iam",
            "create_instance_profile",
            look=lambda cloud: find_instance_profile(cloud, want),
            taken={"EntityAlreadyExists"},
            settling=IAM_CATCHES_UP,
            InstanceProfileName=aws.name(want.key),
            Tags=tag_list(aws.tags(want.key)),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    name = have.ids["name"]
    if "role" in changes:
        assert isinstance(have.state, InstanceProfile)
        if have.state.role is not None:
            _take_role_off(aws, name, str(have.state.role))
        # LimitExceeded: the profile holds a role already. It is the right one if an earlier answer got lost; whether it
        # is, the reading back shows.
        add = aws.iam.add_role_to_instance_profile
        params = {"InstanceProfileName": name, "RoleName": want.role}
        unless_gone({"LimitExceeded"}, settle, wait=IAM_CATCHES_UP, call=add, clock=aws.clock, **params)
    if "tags" in changes:
        _write(aws, "tag_instance_profile", InstanceProfileName=name, Tags=tag_list(aws.tags(want.key)))
    return await_match(find_instance_profile, aws, want)


def _found_profile(key: str, profile: Mapping[str, Any]) -> Found:
    name = profile["InstanceProfileName"]
    role = next((role["RoleName"] for role in profile["Roles"]), None)  # IAM allows one
    ids = {"id": name, "arn": profile["Arn"], "name": name}
    return Found(state=InstanceProfile(key=key, role=role), ids=ids, tags=_tags(profile))


def _take_role_off(aws: Cloud, profile: str, role: str) -> None:
    unless_gone(GONE, aws.iam.remove_role_from_instance_profile, InstanceProfileName=profile, RoleName=role)


# --- both --------------------------------------------------------------------------------------------------------


def _write(aws: Cloud, operation: str, **params: Any) -> None:
    settle(IAM_CATCHES_UP, getattr(aws.iam, operation), clock=aws.clock, **params)


def _pages(aws: Cloud, operation: str, field: str, **params: Any) -> list[Any]:
    """All entries of a listing about a role; none if the role is gone."""

    def read() -> list[Any]:
        return [entry for page in aws.iam.get_paginator(operation).paginate(**params) for entry in page[field]]

    return unless_gone(GONE, read) or []


def _if_managed(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _text(document: Mapping[str, Any]) -> str:
    """Without blanks: IAM counts characters."""
    return json.dumps(document, separators=(",", ":"))


def _document(value: Any) -> Mapping[str, Any]:
    """A policy as the SDK gives it: it undoes IAM's URL encoding and parses the JSON."""
    document: Mapping[str, Any] = json.loads(value) if isinstance(value, str) else value
    return document


def _tags(described: Mapping[str, Any]) -> dict[str, str]:
    return tag_mapping(described.get("Tags"))
