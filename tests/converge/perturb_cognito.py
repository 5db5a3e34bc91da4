"""What somebody may do to user pools and what is in them from outside: one change for each field that `up` repairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.cognito import User, UserPool, UserPoolClient, UserPoolGroup

Perturbation = Callable[[Cloud, Found], None]

POOL_SETTINGS = ("Policies", "AdminCreateUserConfig", "AutoVerifiedAttributes", "DeletionProtection", "UserPoolTags",
                 "MfaConfiguration", "AccountRecoverySetting")  # fmt: skip
CLIENT_SETTINGS = (
    "ClientName", "AccessTokenValidity", "IdTokenValidity", "RefreshTokenValidity", "TokenValidityUnits",
    "ExplicitAuthFlows", "PreventUserExistenceErrors", "EnableTokenRevocation", "CallbackURLs",
    "AllowedOAuthFlowsUserPoolClient", "AllowedOAuthFlows", "AllowedOAuthScopes", "SupportedIdentityProviders",
)  # fmt: skip
"""A careful person states these again, since Cognito resets what an update leaves out."""


def _pool(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        there = aws.cognito_idp.describe_user_pool(UserPoolId=found.ids["id"])["UserPool"]
        kept = {name: there[name] for name in POOL_SETTINGS if name in there}
        aws.cognito_idp.update_user_pool(UserPoolId=found.ids["id"], **{**kept, **settings})

    return change


def _password(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        there = aws.cognito_idp.describe_user_pool(UserPoolId=found.ids["id"])["UserPool"]
        _pool(Policies={"PasswordPolicy": {**there["Policies"]["PasswordPolicy"], **settings}})(aws, found)

    return change


def _mfa(aws: Cloud, found: Found) -> None:
    mfa = "OPTIONAL" if isinstance(found.state, UserPool) and found.state.mfa == "OFF" else "OFF"
    means = {"SoftwareTokenMfaConfiguration": {"Enabled": True}} if mfa == "OPTIONAL" else {}
    aws.cognito_idp.set_user_pool_mfa_config(UserPoolId=found.ids["id"], MfaConfiguration=mfa, **means)


def _protection(aws: Cloud, found: Found) -> None:
    on = isinstance(found.state, UserPool) and found.state.deletion_protection
    _pool(DeletionProtection="INACTIVE" if on else "ACTIVE")(aws, found)


def _pool_tags(aws: Cloud, found: Found) -> None:
    aws.cognito_idp.tag_resource(ResourceArn=found.ids["arn"], Tags={"ManagedBy": "somebody"})


def _client(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        who = {"UserPoolId": found.ids["pool"], "ClientId": found.ids["id"]}
        there = aws.cognito_idp.describe_user_pool_client(**who)["UserPoolClient"]
        kept = {name: there[name] for name in CLIENT_SETTINGS if name in there}
        units = {**there.get("TokenValidityUnits", {}), **settings.get("TokenValidityUnits", {})}
        aws.cognito_idp.update_user_pool_client(**{**kept, **settings, **who, "TokenValidityUnits": units})

    return change


def _group(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        assert isinstance(found.state, UserPoolGroup)
        there: Mapping[str, Any] = {"Description": found.state.description}
        if found.state.precedence is not None:
            there = {**there, "Precedence": found.state.precedence}
        aws.cognito_idp.update_group(UserPoolId=found.ids["pool"], GroupName=found.ids["id"], **{**there, **settings})

    return change


def _email(aws: Cloud, found: Found) -> None:
    """The address stays, but nobody has shown that it is the user's."""
    aws.cognito_idp.admin_update_user_attributes(
        UserPoolId=found.ids["pool"],
        Username=found.ids["id"],
        UserAttributes=[{"Name": "email_verified", "Value": "false"}],
    )


def _groups(aws: Cloud, found: Found) -> None:
    """Out of the groups that it should be in, or into one that it should not."""
    assert isinstance(found.state, User)
    who = {"UserPoolId": found.ids["pool"], "Username": found.ids["id"]}
    for group in found.state.groups:
        aws.cognito_idp.admin_remove_user_from_group(GroupName=group, **who)
    if not found.state.groups:
        aws.cognito_idp.create_group(UserPoolId=found.ids["pool"], GroupName="strangers")
        aws.cognito_idp.admin_add_user_to_group(GroupName="strangers", **who)


def _disabled(aws: Cloud, found: Found) -> None:
    aws.cognito_idp.admin_disable_user(UserPoolId=found.ids["pool"], Username=found.ids["id"])


PERTURB: dict[tuple[type, str], Perturbation] = {
    (UserPool, "name"): _pool(PoolName="somebodys"),
    (UserPool, "password_min"): _password(MinimumLength=6),
    (UserPool, "password_needs"): _password(RequireNumbers=False),
    (UserPool, "mfa"): _mfa,
    (UserPool, "admin_create_only"): _pool(AdminCreateUserConfig={"AllowAdminCreateUserOnly": False}),
    (UserPool, "auto_verified"): _pool(AutoVerifiedAttributes=[]),
    (UserPool, "deletion_protection"): _protection,
    (UserPool, "tags"): _pool_tags,
    (UserPoolClient, "name"): _client(ClientName="somebodys"),
    (UserPoolClient, "access_token_min"): _client(
        AccessTokenValidity=600, TokenValidityUnits={"AccessToken": "seconds"}
    ),
    (UserPoolClient, "refresh_token_days"): _client(
        RefreshTokenValidity=90, TokenValidityUnits={"RefreshToken": "minutes"}
    ),
    (UserPoolClient, "flows"): _client(ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]),
    (UserPoolClient, "prevent_user_existence_errors"): _client(PreventUserExistenceErrors="LEGACY"),
    (UserPoolClient, "revocation"): _client(EnableTokenRevocation=False),
    (UserPoolClient, "callback_urls"): _client(CallbackURLs=["https://elsewhere.example/"]),
    (UserPoolClient, "oauth_flows"): _client(AllowedOAuthFlowsUserPoolClient=False),
    (UserPoolClient, "scopes"): _client(AllowedOAuthScopes=["openid"]),
    (UserPoolClient, "providers"): _client(SupportedIdentityProviders=["COGNITO", "somebodys"]),
    (UserPoolGroup, "description"): _group(Description="Somebody's"),
    (UserPoolGroup, "precedence"): _group(Precedence=77),
    (User, "email"): _email,
    (User, "groups"): _groups,
    (User, "enabled"): _disabled,
}
