"""User pools and what is in them: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import pytest
from converge_engine import Engine
from perturb_cognito import PERTURB

from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.core.resource import Ref, Resource
from aistratus.resources.cognito import User, UserPool, UserPoolClient, UserPoolGroup
from aistratus.resources.pools import owned_pools

KEYS = {UserPool: "user_pool", UserPoolClient: "user_client", UserPoolGroup: "operators", User: "operator"}


def stack() -> list[Resource]:
    pool = UserPool(key="user_pool", deletion_protection=False)
    client = UserPoolClient(
        key="user_client",
        pool=Ref(pool),
        callback_urls=("https://b.example/", "https://a.example/"),
        oauth_flows=("code",),
        scopes=("openid", "email"),
        providers=("COGNITO",),
    )
    operators = UserPoolGroup(key="operators", pool=Ref(pool), name="operators", description="May run it", precedence=1)
    readers = UserPoolGroup(key="readers", pool=Ref(pool), name="readers")
    operator = User(key="operator", pool=Ref(pool), email="operator@example.com", groups=(Ref(readers), Ref(operators)))
    return [operator, readers, operators, client, pool]


def pools_named(aws: Cloud, name: str) -> list[str]:
    pages = aws.cognito_idp.get_paginator("list_user_pools").paginate(PaginationConfig={"PageSize": 60})
    return [pool["Id"] for page in pages for pool in page["UserPools"] if pool["Name"] == name]


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack())
    ids = {change.key: change.found.ids for change in outcome.changes if change.found}
    pool_id, client_id = ids["user_pool"]["id"], ids["user_client"]["id"]
    pool = aws.cognito_idp.describe_user_pool(UserPoolId=pool_id)["UserPool"]
    assert pool["Name"] == f"tinyllama-{aws.env}-user-pool"
    assert pool["UserPoolTags"] == aws.tags("user_pool")
    assert pool["Policies"]["PasswordPolicy"]["MinimumLength"] == 12
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    assert pool["UsernameConfiguration"] == {"CaseSensitive": False}
    assert ids["user_pool"]["arn"] == pool["Arn"]
    assert ids["user_pool"]["issuer"] == f"https://cognito-idp.eu-central-1.amazonaws.com/{pool_id}"
    client = aws.cognito_idp.describe_user_pool_client(UserPoolId=pool_id, ClientId=client_id)["UserPoolClient"]
    assert "ClientSecret" not in client
    assert (client["AccessTokenValidity"], client["TokenValidityUnits"]["AccessToken"]) == (60, "minutes")
    assert (client["RefreshTokenValidity"], client["TokenValidityUnits"]["RefreshToken"]) == (30, "days")
    user = aws.cognito_idp.admin_get_user(UserPoolId=pool_id, Username="operator")
    attributes = {entry["Name"]: entry["Value"] for entry in user["UserAttributes"]}
    assert (attributes["email"], attributes["email_verified"]) == ("operator@example.com", "true")
    assert ids["operator"]["sub"] == attributes["sub"]
    groups = aws.cognito_idp.admin_list_groups_for_user(UserPoolId=pool_id, Username="operator")["Groups"]
    assert {group["GroupName"] for group in groups} == {"operators", "readers"}
    again = engine.up(*stack())
    assert {change.action for change in again.changes} == {"unchanged"}


FOUND_BY_NAME = [(kind, field) for kind, field in PERTURB if field != "name"]
"""Under another name they are found by the ledger alone, which is kept in the tests of the whole stack."""


@pytest.mark.parametrize(("kind", "field"), FOUND_BY_NAME, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(), KEYS[kind], field, PERTURB[kind, field])


def test_an_update_of_one_setting_leaves_those_that_are_not_ours_alone(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack())
    pool_id = next(change.found.ids["id"] for change in outcome.changes if change.key == "user_pool" and change.found)
    pool = aws.cognito_idp.describe_user_pool(UserPoolId=pool_id)["UserPool"]
    stated = ("Policies", "AdminCreateUserConfig", "UserPoolTags", "AutoVerifiedAttributes")
    kept = {name: pool[name] for name in stated}
    kept["Policies"]["PasswordPolicy"]["MinimumLength"] = 8
    invitation = {"EmailSubject": "Welcome", "EmailMessage": "You are {username}, the password is {####}"}
    kept["AdminCreateUserConfig"]["InviteMessageTemplate"] = invitation
    aws.cognito_idp.update_user_pool(
        UserPoolId=pool_id, UserAttributeUpdateSettings={"AttributesRequireVerificationBeforeUpdate": ["email"]}, **kept
    )
    engine.up(*stack())
    pool = aws.cognito_idp.describe_user_pool(UserPoolId=pool_id)["UserPool"]
    assert pool["Policies"]["PasswordPolicy"]["MinimumLength"] == 12
    assert pool["AdminCreateUserConfig"]["InviteMessageTemplate"] == invitation
    assert pool["UserAttributeUpdateSettings"] == {"AttributesRequireVerificationBeforeUpdate": ["email"]}
    assert pool["UserPoolTags"] == aws.tags("user_pool")


def test_an_authenticator_app_can_be_allowed(aws: Cloud, engine: Engine) -> None:
    pool = UserPool(key="user_pool", mfa="OPTIONAL")
    outcome = engine.up(pool)
    found = outcome.changes[0].found
    assert found is not None
    mfa = aws.cognito_idp.get_user_pool_mfa_config(UserPoolId=found.ids["id"])
    assert (mfa["MfaConfiguration"], mfa["SoftwareTokenMfaConfiguration"]["Enabled"]) == ("OPTIONAL", True)
    assert engine.plan(pool).empty


def test_down_removes_them_with_a_domain_that_somebody_added(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack())
    pool_id = next(change.found.ids["id"] for change in outcome.changes if change.key == "user_pool" and change.found)
    aws.cognito_idp.create_user_pool_domain(UserPoolId=pool_id, Domain=f"somebody-{aws.env}")
    assert engine.down(*stack()).ok
    assert pools_named(aws, aws.name("user-pool")) == []
    assert not aws.cognito_idp.describe_user_pool_domain(Domain=f"somebody-{aws.env}")["DomainDescription"]
    assert engine.down(*stack()).ok


def test_each_alone_can_be_removed_and_comes_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    for key in ("user_client", "operator", "operators"):
        engine.remove(next(resource for resource in stack() if resource.key == key))
    created = {change.key for change in engine.plan(*stack()).changes if change.action == "create"}
    assert created == {"user_client", "operator", "operators"}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_a_pool_with_our_name_without_our_tags_is_refused_and_what_is_in_it_left_alone(
    aws: Cloud, engine: Engine
) -> None:
    name = aws.name("user-pool")
    pool_id = aws.cognito_idp.create_user_pool(PoolName=name, UserPoolTags={"Env": aws.env})["UserPool"]["Id"]
    aws.cognito_idp.create_user_pool_client(UserPoolId=pool_id, ClientName=aws.name("user-client"))
    aws.cognito_idp.admin_create_user(UserPoolId=pool_id, Username="operator", MessageAction="SUPPRESS")
    aws.cognito_idp.create_group(UserPoolId=pool_id, GroupName="operators")
    assert [type(change.error) for change in engine.try_up(*stack()).failures] == [Stranger]
    engine.down(*stack())
    assert pools_named(aws, name) == [pool_id]
    assert aws.cognito_idp.admin_get_user(UserPoolId=pool_id, Username="operator")["Username"] == "operator"
    assert len(aws.cognito_idp.list_user_pool_clients(UserPoolId=pool_id)["UserPoolClients"]) == 1
    assert len(aws.cognito_idp.list_groups(UserPoolId=pool_id)["Groups"]) == 1


def test_beside_a_strangers_pool_of_the_same_name_ours_is_still_found(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    stranger = aws.cognito_idp.create_user_pool(PoolName=aws.name("user-pool"))["UserPool"]["Id"]
    assert engine.plan(*stack()).empty
    assert engine.down(*stack()).ok
    assert pools_named(aws, aws.name("user-pool")) == [stranger]


def test_of_two_pools_with_our_tags_the_older_is_kept_and_down_removes_both(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack())
    pool_id = next(change.found.ids["id"] for change in outcome.changes if change.key == "user_pool" and change.found)
    twin = aws.cognito_idp.create_user_pool(PoolName=aws.name("user-pool"), UserPoolTags=aws.tags("user_pool"))
    plan = engine.plan(*stack())
    assert plan.empty
    assert plan.survey.found["user_pool"].ids["id"] == pool_id
    assert {found.ids["id"] for found in owned_pools(aws.fresh())} == {pool_id, twin["UserPool"]["Id"]}
    assert engine.down(*stack()).ok
    assert pools_named(aws, aws.name("user-pool")) == []


def test_a_run_with_nothing_to_do_makes_eight_calls_for_a_pool_a_client_a_group_and_a_user(
    aws: Cloud, engine: Engine
) -> None:
    pool = UserPool(key="user_pool")
    group = UserPoolGroup(key="operators", pool=Ref(pool), name="operators")
    small = [
        pool,
        UserPoolClient(key="user_client", pool=Ref(pool)),
        group,
        User(key="operator", pool=Ref(pool), groups=(Ref(group),)),
    ]
    engine.up(*small)
    # One of them reads the ledger, which the whole stack shares.
    assert engine.calls(lambda: engine.plan(*small)) <= 8
