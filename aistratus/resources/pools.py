"""Cognito user pools, and how a pool's clients, groups and users find it.

Names of pools aren't unique and the listing shows no tags, so a pool is found by its name (or its recorded id) and
counts only if its own description carries our tags. `UpdateUserPool` and `UpdateUserPoolClient` reset every omitted
setting to its default, so each update sends all settings: the found ones, overridden by the desired ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import unless_gone

GONE = frozenset({"ResourceNotFoundException"})
PAGE = {"PageSize": 60}
"""The most that Cognito lists at once."""

POOL_ID = re.compile(r"[\w-]{1,54}_[0-9a-zA-Z]+")
"""Cognito refuses to look for anything else. Source: Cognito API reference, DescribeUserPool."""

POOL_FREE = Wait(
    what="Cognito ends another change of the user pool",
    within=60,
    codes=frozenset({"ConcurrentModificationException"}),
)
"""Two changes of one pool at the same time are refused.

Source: Cognito API reference, errors of UpdateUserPool, CreateUserPoolDomain and others.
"""

DOMAIN_RELEASED = Wait(
    what="Cognito releases the user pool's domain",
    within=120,
    codes=frozenset({"InvalidParameterException"}),
    saying="(?i)domain",
)
"""A pool with a domain can't be deleted, and taking one away takes seconds (a custom one longer)."""

NEEDS = ("lowercase", "numbers", "symbols", "uppercase")
"""What a password can be made to contain; the names are those of the policy's `Require…` switches."""


# --- pools ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class UserPool(Resource):
    """A user pool named `tinyllama-<env>-<name>`, whose users sign in with a name that ignores case.

    name: the key unless given.
    password_min: characters, 6 to 99.
    password_needs: which of lower case, numbers, symbols and upper case a password must contain.
    mfa: `OFF`, or `OPTIONAL` (each user may add an authenticator app).
    admin_create_only: nobody can sign up by themselves.
    auto_verified: attributes that Cognito verifies by sending a code.
    deletion_protection: if it is on, `down` fails at the pool until somebody turns it off.
    """

    name: str = ""
    password_min: int = 12
    password_needs: tuple[str, ...] = unordered(default=NEEDS)
    mfa: str = "OFF"
    admin_create_only: bool = True
    auto_verified: tuple[str, ...] = unordered(default=("email",))
    deletion_protection: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", "-"))


def find_pool(aws: Cloud, want: UserPool) -> Found | None:
    """By name or recorded id, and tags.

    Raises:
        Stranger: a pool has our name, and none has our tags.
    """
    ours = _our_pool(aws, want)
    if ours is not None:
        return _found_pool(aws, want.key, ours)
    name = aws.name(want.name)
    for pool in _described(aws, [pool for pool, known_as in _pools(aws).items() if known_as == name]):
        aws.require_ours("user pool", name, pool.get("UserPoolTags", {}), want.key)
    return None


def owned_pools(aws: Cloud) -> list[Found]:
    """By tags, among the pools with our name."""
    owned = []
    for pool in _described(aws, [pool for pool, name in _pools(aws).items() if name.startswith(aws.prefix)]):
        tags = pool.get("UserPoolTags", {})
        if aws.owns(tags):
            owned.append(_found_pool(aws, tags["aistratus:key"], pool))
    return owned


def remove_pool(aws: Cloud, have: Found) -> None:
    """Removes its domains, then the pool with all clients, groups and users."""
    pool = have.ids["id"]
    answer = unless_gone(GONE, aws.cognito_idp.describe_user_pool, UserPoolId=pool)
    if answer is None:
        return
    for domain in ("Domain", "CustomDomain"):
        if name := answer["UserPool"].get(domain):
            drop(aws, aws.cognito_idp.delete_user_pool_domain, UserPoolId=pool, Domain=name)
    delete = aws.cognito_idp.delete_user_pool
    unless_gone(GONE, lambda: settle(DOMAIN_RELEASED, delete, clock=aws.clock, UserPoolId=pool))


@reconciles(UserPool, find=find_pool, remove=remove_pool, owned=owned_pools)
def ensure_pool(aws: Cloud, want: UserPool, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "cognito-idp",
            "create_user_pool",
            look=lambda cloud: find_pool(cloud, want),
            PoolName=aws.name(want.name),
            UserPoolTags=aws.tags(want.key),
            UsernameConfiguration={"CaseSensitive": False},
            AccountRecoverySetting={"RecoveryMechanisms": [{"Name": "verified_email", "Priority": 1}]},
            **_settings(want, {}),
        )
        changes = frozenset(entry.field for entry in diff(want, have, aws.tags(want.key)))
    pool = have.ids["id"]
    if changes - {"tags", "mfa"}:
        there = aws.cognito_idp.describe_user_pool(UserPoolId=pool)["UserPool"]
        whole = {**restated(aws, "UpdateUserPool", there), "PoolName": aws.name(want.name), **_settings(want, there)}
        change(aws, aws.cognito_idp.update_user_pool, **whole)
    if "mfa" in changes:
        # The only call that also says by what means: `UpdateUserPool` would demand text messages.
        means = {} if want.mfa == "OFF" else {"SoftwareTokenMfaConfiguration": {"Enabled": True}}
        change(aws, aws.cognito_idp.set_user_pool_mfa_config, UserPoolId=pool, MfaConfiguration=want.mfa, **means)
    if "tags" in changes:
        aws.cognito_idp.tag_resource(ResourceArn=have.ids["arn"], Tags=aws.tags(want.key))
    return await_match(find_pool, aws, want)


def _settings(want: UserPool, there: Mapping[str, Any]) -> dict[str, Any]:
    """What both create and update take, laid over what is there."""
    policies = there.get("Policies", {})
    switches = {f"Require{need.capitalize()}": need in want.password_needs for need in NEEDS}
    password = {**policies.get("PasswordPolicy", {}), "MinimumLength": want.password_min, **switches}
    creation = {**there.get("AdminCreateUserConfig", {}), "AllowAdminCreateUserOnly": want.admin_create_only}
    # The old name of the password policy's TemporaryPasswordValidityDays: described, but refused beside the new one.
    creation.pop("UnusedAccountValidityDays", None)
    protection = want.deletion_protection
    return {
        "Policies": {**policies, "PasswordPolicy": password},
        "AdminCreateUserConfig": creation,
        "AutoVerifiedAttributes": list(want.auto_verified),
        **({} if protection is None else {"DeletionProtection": "ACTIVE" if protection else "INACTIVE"}),
    }


def _found_pool(aws: Cloud, key: str, pool: Mapping[str, Any]) -> Found:
    password = pool.get("Policies", {}).get("PasswordPolicy", {})
    state = UserPool(
        key=key,
        name=pool["Name"].removeprefix(aws.prefix),
        password_min=password.get("MinimumLength", 8),
        password_needs=tuple(need for need in NEEDS if password.get(f"Require{need.capitalize()}")),
        mfa=pool.get("MfaConfiguration", "OFF"),
        admin_create_only=pool.get("AdminCreateUserConfig", {}).get("AllowAdminCreateUserOnly", False),
        auto_verified=tuple(pool.get("AutoVerifiedAttributes", ())),
        deletion_protection=pool.get("DeletionProtection") == "ACTIVE",
    )
    identifier = pool["Id"]
    ids = {
        "id": identifier,
        "arn": aws.arn("cognito-idp", f"userpool/{identifier}"),
        "issuer": f"https://cognito-idp.{aws.region}.amazonaws.com/{identifier}",
    }
    return Found(state=state, ids=ids, tags=pool.get("UserPoolTags", {}))


# --- what lives in a pool ------------------------------------------------------------------------------------------


def pool_id(aws: Cloud, value: Ref | str) -> str | None:
    """The id of the pool that a field stands for, `None` while there is none.

    Where just one pool comes into question its tags aren't looked at yet, so that reading what is in it needs no answer
    about the pool itself: `pool_is_ours` has the last word.
    """
    if isinstance(value, str):
        return value
    known = _recorded_pool(aws, _pool_of(value))
    if known is not None:
        return str(known["Id"])
    candidates = _candidates(aws, _pool_of(value))
    if len(candidates) == 1:
        return candidates[0]
    ours = _our_pool(aws, _pool_of(value)) if candidates else None
    return None if ours is None else str(ours["Id"])


def pool_is_ours(aws: Cloud, value: Ref | str) -> bool:
    """Does the pool carry our tags? One that is given by id is one that we have just ensured."""
    return isinstance(value, str) or _our_pool(aws, _pool_of(value)) is not None


def described_pool(aws: Cloud, pool: str) -> Mapping[str, Any]:
    """What Cognito tells of a pool; nothing once it is gone."""
    return next(iter(_described(aws, [pool])), {})


def in_pool(aws: Cloud, operation: str, items: str, pool: str) -> list[dict[str, Any]]:
    """All that the listing `operation` tells of a pool; nothing once the pool is gone."""

    def read() -> list[dict[str, Any]]:
        pages = aws.cognito_idp.get_paginator(operation).paginate(UserPoolId=pool, PaginationConfig=PAGE)
        return unless_gone(GONE, lambda: [item for page in pages for item in page.get(items, [])]) or []

    return aws.shared(f"cognito.{operation}.{pool}", read)


def restated(aws: Cloud, operation: str, there: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is there, as the update `operation` takes it."""
    accepted = aws.cognito_idp.meta.service_model.operation_model(operation).input_shape.members
    kept = {name: value for name, value in there.items() if name in accepted}
    return {**kept, **({"UserPoolId": there["Id"]} if "Id" in there else {})}


def change(aws: Cloud, call: Callable[..., Any], **params: Any) -> Any:
    """A call that changes something in a pool; waits for other changes of it."""
    return settle(POOL_FREE, call, clock=aws.clock, **params)


def drop(aws: Cloud, call: Callable[..., Any], *, gone: frozenset[str] = GONE, **params: Any) -> None:
    """A call that removes something; already gone is fine."""
    unless_gone(gone, lambda: change(aws, call, **params))


def _pool_of(value: Ref) -> UserPool:
    if not isinstance(value.to, UserPool):
        raise TypeError(f"{value!r} is no user pool")
    return value.to


def _pools(aws: Cloud) -> dict[str, str]:
    """The names of all pools of the account and region, by id."""

    def read() -> dict[str, str]:
        pages = aws.cognito_idp.get_paginator("list_user_pools").paginate(PaginationConfig=PAGE)
        return {pool["Id"]: pool["Name"] for page in pages for pool in page.get("UserPools", [])}

    return aws.shared("cognito.pools", read)


def _candidates(aws: Cloud, want: UserPool) -> list[str]:
    recorded = aws.recorded(want.key).get("id")
    return [pool for pool, name in _pools(aws).items() if name == aws.name(want.name) or pool == recorded]


def _our_pool(aws: Cloud, want: UserPool) -> dict[str, Any] | None:
    """Of several with our tags the recorded one, else the oldest."""
    known = _recorded_pool(aws, want)
    if known is not None:
        return known
    recorded = aws.recorded(want.key).get("id")
    pools = _described(aws, _candidates(aws, want))
    ours = [pool for pool in pools if aws.owns(pool.get("UserPoolTags", {}), want.key)]
    order = sorted(ours, key=lambda pool: (pool["Id"] != recorded, str(pool.get("CreationDate")), pool["Id"]))
    return order[0] if order else None


def _recorded_pool(aws: Cloud, want: UserPool) -> dict[str, Any] | None:
    """The pool that the ledger names, if it is there and ours. It comes before all others, so no listing is needed."""
    recorded = aws.recorded(want.key).get("id", "")
    if not POOL_ID.fullmatch(recorded):
        return None
    pool = next(iter(_described(aws, [recorded])), None)
    return pool if pool is not None and aws.owns(pool.get("UserPoolTags", {}), want.key) else None


def _described(aws: Cloud, pools: list[str]) -> list[dict[str, Any]]:
    def read(pool: str) -> dict[str, Any] | None:
        answer = unless_gone(GONE, aws.cognito_idp.describe_user_pool, UserPoolId=pool)
        return answer["UserPool"] if answer else None

    described = [aws.shared(f"cognito.pool.{pool}", lambda pool=pool: read(pool)) for pool in pools]  # type: ignore[misc]
    return [pool for pool in described if pool is not None]
