"""Groups and users of a pool.

A user is created without a mail and without a known password: the first sign-in sets one. The group decides what a
user may do, so membership is kept exactly as declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.resources.calls import at_once, unless_gone
from aistratus.resources.pools import GONE, change, drop, in_pool, pool_id, pool_is_ours

NO_USER = GONE | {"UserNotFoundException"}


# --- groups -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class UserPoolGroup(Resource):
    """A group of users; its name is in their tokens (`cognito:groups`).

    precedence: of a user's groups the lowest decides the preferred role, 0 or more.
    """

    pool: Ref | str
    name: str
    description: str = ""
    precedence: int | None = None

    replace_on: ClassVar[frozenset[str]] = frozenset({"pool", "name"})


def find_group(aws: Cloud, want: UserPoolGroup) -> Found | None:
    """By name within the pool."""
    pool = pool_id(aws, want.pool)
    groups = in_pool(aws, "list_groups", "Groups", pool) if pool else []
    group = next((entry for entry in groups if entry["GroupName"] == want.name), None)
    if pool is None or group is None or not pool_is_ours(aws, want.pool):
        return None
    state = UserPoolGroup(
        key=want.key,
        pool=pool,
        name=want.name,
        description=group.get("Description", ""),
        precedence=group.get("Precedence"),
    )
    return Found(state=state, ids={"id": want.name, "pool": pool})


def remove_group(aws: Cloud, have: Found) -> None:
    drop(aws, aws.cognito_idp.delete_group, UserPoolId=have.ids["pool"], GroupName=have.ids["id"])


@reconciles(UserPoolGroup, find=find_group, remove=remove_group)
def ensure_group(aws: Cloud, want: UserPoolGroup, have: Found | None, changes: frozenset[str]) -> Found:
    settings: dict[str, Any] = {
        "UserPoolId": want.pool,
        "GroupName": want.name,
        "Description": want.description,
        **({} if want.precedence is None else {"Precedence": want.precedence}),
    }
    if have is None:
        have = aws.create_once(
            "cognito-idp",
            "create_group",
            look=lambda cloud: find_group(cloud, want),
            taken={"GroupExistsException"},
            **settings,
        )
        changes = frozenset(entry.field for entry in diff(want, have, {}))
    if changes:
        change(aws, aws.cognito_idp.update_group, **settings)
    return await_match(find_group, aws, want)


# --- users ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class User(Resource):
    """A user that the administrator made.

    email: address, taken as verified; None leaves it alone.
    groups: names of all groups of the user.
    enabled: may sign in.
    """

    pool: Ref | str
    username: str = "operator"
    email: str | None = None
    groups: tuple[Ref | str, ...] = unordered(default=())
    enabled: bool = True

    replace_on: ClassVar[frozenset[str]] = frozenset({"pool", "username"})


def find_user(aws: Cloud, want: User) -> Found | None:
    """By name within the pool."""
    pool = pool_id(aws, want.pool)
    if pool is None:
        return None
    who = {"UserPoolId": pool, "Username": want.username}
    groups = aws.cognito_idp.get_paginator("admin_list_groups_for_user").paginate(**who)
    user, names = at_once(
        lambda: unless_gone(NO_USER, aws.cognito_idp.admin_get_user, **who),
        lambda: unless_gone(NO_USER, lambda: [group["GroupName"] for page in groups for group in page["Groups"]]),
    )
    if user is None or names is None or not pool_is_ours(aws, want.pool):
        return None
    attributes = {entry["Name"]: entry["Value"] for entry in user.get("UserAttributes", [])}
    email = attributes.get("email")
    verified = attributes.get("email_verified") == "true"
    state = User(
        key=want.key,
        pool=pool,
        username=want.username,
        email=email if verified or email is None else f"{email} (not verified)",
        groups=tuple(names),
        enabled=user.get("Enabled", True),
    )
    return Found(state=state, ids={"id": want.username, "pool": pool, "sub": attributes.get("sub", "")})


def remove_user(aws: Cloud, have: Found) -> None:
    drop(aws, aws.cognito_idp.admin_delete_user, gone=NO_USER, UserPoolId=have.ids["pool"], Username=have.ids["id"])


@reconciles(User, find=find_user, remove=remove_user)
def ensure_user(aws: Cloud, want: User, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        attributes: dict[str, Any] = {"UserAttributes": _verified(want.email)} if want.email else {}
        have = aws.create_once(
            "cognito-idp",
            "admin_create_user",
            look=lambda cloud: find_user(cloud, want),
            taken={"UsernameExistsException"},
            UserPoolId=want.pool,
            Username=want.username,
            MessageAction="SUPPRESS",
            **attributes,
        )
        changes = frozenset(entry.field for entry in diff(want, have, {}))
    _repair_user(aws, want, have, changes)
    return await_match(find_user, aws, want)


def _repair_user(aws: Cloud, want: User, have: Found, changes: frozenset[str]) -> None:
    who = {"UserPoolId": want.pool, "Username": want.username}
    if "email" in changes and want.email is not None:
        aws.cognito_idp.admin_update_user_attributes(UserAttributes=_verified(want.email), **who)
    if "groups" in changes and isinstance(have.state, User):
        wanted, there = {str(name) for name in want.groups}, {str(name) for name in have.state.groups}
        for name in sorted(there - wanted):
            aws.cognito_idp.admin_remove_user_from_group(GroupName=name, **who)
        for name in sorted(wanted - there):
            aws.cognito_idp.admin_add_user_to_group(GroupName=name, **who)
    if "enabled" in changes:
        switch = aws.cognito_idp.admin_enable_user if want.enabled else aws.cognito_idp.admin_disable_user
        switch(**who)


def _verified(email: str) -> list[dict[str, str]]:
    return [{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}]
