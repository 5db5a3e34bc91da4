"""App clients: the programs in which users of a pool sign in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.resources.calls import unless_gone
from aistratus.resources.pools import GONE, change, drop, in_pool, pool_id, pool_is_ours, restated

CLIENT_ID = re.compile(r"[\w+]{1,128}")
"""Cognito refuses to look for anything else. Source: Cognito API reference, DescribeUserPoolClient."""

UNIT_MINUTES = {"seconds": 1 / 60, "minutes": 1, "hours": 60, "days": 1440}
FLOWS = ("ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH")


@dataclass(frozen=True, kw_only=True)
class UserPoolClient(Resource):
    """An app client named `tinyllama-<env>-<name>`: a program in which users of the pool sign in.

    name: the key unless given.
    access_token_min: minutes for which access and id tokens are good, 5 to 1440.
    refresh_token_days: days until the user must sign in again, 1 to 3650.
    flows: all ways to sign in.
    secret: has one; a program in its users' hands can't keep it.
    prevent_user_existence_errors: `ENABLED` answers unknown users like wrong passwords.
    revocation: refresh tokens can be revoked.
    callback_urls: where the hosted sign-in page may lead back to.
    oauth_flows: how the hosted page hands tokens over: `code`; none switches it off.
    scopes: what those tokens may tell.
    providers: who says who somebody is on the hosted page: `COGNITO` for the pool itself.
    """

    pool: Ref | str
    name: str = ""
    access_token_min: int = 60
    refresh_token_days: int = 30
    flows: tuple[str, ...] = unordered(default=FLOWS)
    secret: bool = False
    prevent_user_existence_errors: str = "ENABLED"
    revocation: bool = True
    callback_urls: tuple[str, ...] | None = unordered(default=None)
    oauth_flows: tuple[str, ...] | None = unordered(default=None)
    scopes: tuple[str, ...] | None = unordered(default=None)
    providers: tuple[str, ...] | None = unordered(default=None)

    replace_on: ClassVar[frozenset[str]] = frozenset({"pool", "secret"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", "-"))


def find_client(aws: Cloud, want: UserPoolClient) -> Found | None:
    """By name within the pool; of several the recorded one, else the oldest."""
    pool = pool_id(aws, want.pool)
    if pool is None:
        return None
    client = _recorded_client(aws, pool, want.key) or _oldest_client(aws, pool, aws.name(want.name))
    if client is None or not pool_is_ours(aws, want.pool):
        return None
    units = client.get("TokenValidityUnits", {})
    access = client.get("AccessTokenValidity", 0) * UNIT_MINUTES[units.get("AccessToken", "hours")]
    refresh = client.get("RefreshTokenValidity", 0) * UNIT_MINUTES[units.get("RefreshToken", "days")]
    state = UserPoolClient(
        key=want.key,
        pool=pool,
        name=client["ClientName"].removeprefix(aws.prefix),
        # Not said is an hour and thirty days. Parts of a unit stay visible: 90 s are no minute.
        access_token_min=_whole(access or 60),
        refresh_token_days=_whole((refresh or 30 * 1440) / 1440),
        flows=tuple(client.get("ExplicitAuthFlows", ())),
        secret="ClientSecret" in client,
        prevent_user_existence_errors=client.get("PreventUserExistenceErrors", "LEGACY"),
        revocation=client.get("EnableTokenRevocation", False),
        callback_urls=tuple(client.get("CallbackURLs", ())),
        # Flows that are listed count only with this switch.
        oauth_flows=tuple(client.get("AllowedOAuthFlows", ())) if client.get("AllowedOAuthFlowsUserPoolClient") else (),
        scopes=tuple(client.get("AllowedOAuthScopes", ())),
        providers=tuple(client.get("SupportedIdentityProviders", ())),
    )
    return Found(state=state, ids={"id": client["ClientId"], "pool": pool})


def remove_client(aws: Cloud, have: Found) -> None:
    drop(aws, aws.cognito_idp.delete_user_pool_client, UserPoolId=have.ids["pool"], ClientId=have.ids["id"])


@reconciles(UserPoolClient, find=find_client, remove=remove_client)
def ensure_client(aws: Cloud, want: UserPoolClient, have: Found | None, changes: frozenset[str]) -> Found:
    settings: dict[str, Any] = {
        "ClientName": aws.name(want.name),
        "AccessTokenValidity": want.access_token_min,
        "IdTokenValidity": want.access_token_min,
        "RefreshTokenValidity": want.refresh_token_days,
        "TokenValidityUnits": {"AccessToken": "minutes", "IdToken": "minutes", "RefreshToken": "days"},
        "ExplicitAuthFlows": list(want.flows),
        "PreventUserExistenceErrors": want.prevent_user_existence_errors,
        "EnableTokenRevocation": want.revocation,
        **{name: list(value) for name, value in _hosted(want).items() if value is not None},
        **({} if want.oauth_flows is None else {"AllowedOAuthFlowsUserPoolClient": bool(want.oauth_flows)}),
    }
    if have is None:
        aws.create_once(
            "cognito-idp",
            "create_user_pool_client",
            look=lambda cloud: find_client(cloud, want),
            UserPoolId=want.pool,
            GenerateSecret=want.secret,
            **settings,
        )
    else:
        there = _client(aws.fresh(), str(want.pool), have.ids["id"]) or {}
        whole = {**restated(aws, "UpdateUserPoolClient", there), **settings}
        change(aws, aws.cognito_idp.update_user_pool_client, **whole)
    return await_match(find_client, aws, want)


def _hosted(want: UserPoolClient) -> dict[str, tuple[str, ...] | None]:
    """The settings of the hosted page, by Cognito's names."""
    return {
        "CallbackURLs": want.callback_urls,
        "AllowedOAuthFlows": want.oauth_flows,
        "AllowedOAuthScopes": want.scopes,
        "SupportedIdentityProviders": want.providers,
    }


def _recorded_client(aws: Cloud, pool: str, key: str) -> dict[str, Any] | None:
    recorded = aws.recorded(key).get("id", "")
    return _client(aws, pool, recorded) if CLIENT_ID.fullmatch(recorded) else None


def _oldest_client(aws: Cloud, pool: str, name: str) -> dict[str, Any] | None:
    entries = in_pool(aws, "list_user_pool_clients", "UserPoolClients", pool)
    named = [entry["ClientId"] for entry in entries if entry["ClientName"] == name]
    clients = [client for one in named if (client := _client(aws, pool, one)) is not None]
    return min(clients, key=lambda one: (str(one.get("CreationDate")), one["ClientId"]), default=None)


def _client(aws: Cloud, pool: str, client: str) -> dict[str, Any] | None:
    def read() -> dict[str, Any] | None:
        answer = unless_gone(GONE, aws.cognito_idp.describe_user_pool_client, UserPoolId=pool, ClientId=client)
        return answer["UserPoolClient"] if answer else None

    return aws.shared(f"cognito.client.{pool}.{client}", read)


def _whole(value: float) -> Any:
    return int(value) if abs(value - round(value)) < 1e-9 and round(value) == int(value) else value
