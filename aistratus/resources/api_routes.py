"""Routes, authorizers and integrations of an HTTP API.

None of them has tags. An authorizer is found by its name, an integration by its description, a route by its operation
name or its route key: each has one attribute that the create call sets and nobody has a reason to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.core.settle import Wait
from aistratus.resources.http_apis import API_FREE, api_id, change, drop, parts
from aistratus.resources.lambda_aliases import function_arn

OPEN = "NONE"
"""In `Route.authorizer`: anybody may call it."""

AUTHORIZER_ACCEPTED = Wait(
    what="API Gateway reaches the issuer, or ends another change of the API",
    within=90,
    codes=API_FREE.codes | {"BadRequestException"},
    saying=rf"{API_FREE.saying}|issuer|discovery",
)
"""Creating an authorizer reads the issuer's discovery document, which a pool made a moment ago may not serve yet.

Source: HTTP API developer guide, "Controlling access with JWT authorizers".
"""


# --- authorizers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class JwtAuthorizer(Resource):
    """Lets requests through that carry a token of this issuer for one of these audiences (`aud`, or `client_id`)."""

    api: Ref | str
    issuer: Ref | str
    audience: tuple[Ref | str, ...] = unordered()
    identity_source: str = "$request.header.Authorization"

    replace_on: ClassVar[frozenset[str]] = frozenset({"api"})


def find_authorizer(aws: Cloud, want: JwtAuthorizer) -> Found | None:
    """By name."""
    api = api_id(aws, want.api)
    entries = parts(aws, "get_authorizers", api) if api else []
    named = [entry for entry in entries if entry["Name"] == aws.name(want.key)]
    if api is None or not named:
        return None
    entry = min(named, key=lambda entry: str(entry["AuthorizerId"]))
    jwt = entry.get("JwtConfiguration", {})
    state = JwtAuthorizer(
        key=want.key,
        api=api,
        issuer=jwt.get("Issuer", ""),
        audience=tuple(jwt.get("Audience", ())),
        identity_source=" ".join(entry.get("IdentitySource", ())),
    )
    return Found(state=state, ids={"id": entry["AuthorizerId"], "api": api})


def remove_authorizer(aws: Cloud, have: Found) -> None:
    """Removes it; the routes that ask for its tokens go first."""
    drop(aws, aws.apigatewayv2.delete_authorizer, ApiId=have.ids["api"], AuthorizerId=have.ids["id"])


@reconciles(JwtAuthorizer, find=find_authorizer, remove=remove_authorizer)
def ensure_authorizer(aws: Cloud, want: JwtAuthorizer, have: Found | None, changes: frozenset[str]) -> Found:
    settings: dict[str, Any] = {
        "AuthorizerType": "JWT",
        "IdentitySource": [want.identity_source],
        "JwtConfiguration": {"Issuer": want.issuer, "Audience": sorted(str(entry) for entry in want.audience)},
    }
    if have is None:
        aws.create_once(
            "apigatewayv2",
            "create_authorizer",
            look=lambda cloud: find_authorizer(cloud, want),
            settling=AUTHORIZER_ACCEPTED,
            ApiId=want.api,
            Name=aws.name(want.key),
            **settings,
        )
    else:
        change(aws, aws.apigatewayv2.update_authorizer, ApiId=want.api, AuthorizerId=have.ids["id"], **settings)
    return await_match(find_authorizer, aws, want)


# --- integrations -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LambdaIntegration(Resource):
    """Hands a request to a function and its answer back.

    function: ARN of the function or alias.
    payload_format: form of the event, `1.0` or `2.0`.
    timeout_ms: milliseconds, 50 to 30000; API Gateway ends every request then.
    """

    api: Ref | str
    function: Ref | str
    payload_format: str = "2.0"
    timeout_ms: int = 29_000

    replace_on: ClassVar[frozenset[str]] = frozenset({"api"})


def find_integration(aws: Cloud, want: LambdaIntegration) -> Found | None:
    """By description; if somebody rewrote that, by the function."""
    api = api_id(aws, want.api)
    if api is None:
        return None
    entries = sorted(parts(aws, "get_integrations", api), key=lambda entry: str(entry["IntegrationId"]))
    described = [entry for entry in entries if entry.get("Description") == aws.name(want.key)]
    target = function_arn(aws, want.function)
    entry = next(iter([*described, *(entry for entry in entries if entry.get("IntegrationUri") == target)]), None)
    if entry is None:
        return None
    state = LambdaIntegration(
        key=want.key,
        api=api,
        function=entry.get("IntegrationUri", ""),
        payload_format=entry.get("PayloadFormatVersion", ""),
        timeout_ms=entry.get("TimeoutInMillis", 30_000),
    )
    return Found(state=state, ids={"id": entry["IntegrationId"], "api": api})


def remove_integration(aws: Cloud, have: Found) -> None:
    """Removes it; the routes that lead to it go first."""
    drop(aws, aws.apigatewayv2.delete_integration, ApiId=have.ids["api"], IntegrationId=have.ids["id"])


@reconciles(LambdaIntegration, find=find_integration, remove=remove_integration)
def ensure_integration(aws: Cloud, want: LambdaIntegration, have: Found | None, changes: frozenset[str]) -> Found:
    settings: dict[str, Any] = {
        "Description": aws.name(want.key),
        "IntegrationMethod": "POST",
        "IntegrationType": "AWS_PROXY",
        "IntegrationUri": want.function,
        "PayloadFormatVersion": want.payload_format,
        "TimeoutInMillis": want.timeout_ms,
    }
    if have is None:
        aws.create_once(
            "apigatewayv2",
            "create_integration",
            look=lambda cloud: find_integration(cloud, want),
            settling=API_FREE,
            ApiId=want.api,
            **settings,
        )
    else:
        change(aws, aws.apigatewayv2.update_integration, ApiId=want.api, IntegrationId=have.ids["id"], **settings)
    return await_match(find_integration, aws, want)


# --- routes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Route(Resource):
    """`METHOD /path` leads to an integration.

    authorizer: id of the authorizer whose token it asks for; `NONE` (or None) leaves it open.
    scopes: OAuth scopes, one of which the token must hold; None is none for a guarded route, and an open one has none.
    """

    api: Ref | str
    route_key: str
    integration: Ref | str
    authorizer: Ref | str | None = None
    scopes: tuple[str, ...] | None = unordered(default=None)

    replace_on: ClassVar[frozenset[str]] = frozenset({"api"})

    def __post_init__(self) -> None:
        # An open route is managed too: None in a field would say that anything goes.
        object.__setattr__(self, "authorizer", OPEN if self.authorizer is None else self.authorizer)
        if self.scopes is None and self.authorizer != OPEN:
            object.__setattr__(self, "scopes", ())


def find_route(aws: Cloud, want: Route) -> Found | None:
    """By operation name, so that a route whose path was changed is moved back; else by its route key."""
    api = api_id(aws, want.api)
    if api is None:
        return None
    entries = sorted(parts(aws, "get_routes", api), key=lambda entry: str(entry["RouteId"]))
    named = [entry for entry in entries if entry.get("OperationName") == want.key]
    same = [entry for entry in entries if entry["RouteKey"] == want.route_key]
    # Of several that are called so, the one that has the right path already.
    entry = next(iter([*(entry for entry in named if entry in same), *named, *same]), None)
    return None if entry is None else _found_route(want.key, api, entry)


def _found_route(key: str, api: str, entry: Mapping[str, Any]) -> Found:
    guarded = entry.get("AuthorizationType", OPEN) != OPEN
    state = Route(
        key=key,
        api=api,
        route_key=entry["RouteKey"],
        integration=entry.get("Target", "").removeprefix("integrations/"),
        authorizer=entry.get("AuthorizerId", entry.get("AuthorizationType")) if guarded else OPEN,
        scopes=tuple(entry.get("AuthorizationScopes", ())),
    )
    return Found(state=state, ids={"id": entry["RouteId"], "api": api, "route_key": entry["RouteKey"]})


def remove_route(aws: Cloud, have: Found) -> None:
    """Removes it."""
    drop(aws, aws.apigatewayv2.delete_route, ApiId=have.ids["api"], RouteId=have.ids["id"])


@reconciles(Route, find=find_route, remove=remove_route)
def ensure_route(aws: Cloud, want: Route, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        aws.create_once(
            "apigatewayv2",
            "create_route",
            look=lambda cloud: find_route(cloud, want),
            taken={"ConflictException"},
            settling=API_FREE,
            ApiId=want.api,
            **_encoded(want),
        )
    else:
        change(aws, aws.apigatewayv2.update_route, ApiId=want.api, RouteId=have.ids["id"], **_encoded(want))
    return await_match(find_route, aws, want)


def _encoded(want: Route) -> dict[str, Any]:
    """The whole route: who may call it and where it leads are never changed one without the other."""
    guard = {
        "AuthorizationType": "JWT",
        "AuthorizerId": want.authorizer,
        "AuthorizationScopes": sorted(want.scopes or ()),
    }
    return {
        "RouteKey": want.route_key,
        "OperationName": want.key,
        "Target": f"integrations/{want.integration}",
        **({"AuthorizationType": OPEN} if want.authorizer == OPEN else guard),
    }
